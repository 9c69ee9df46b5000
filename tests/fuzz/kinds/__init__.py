"""The kinds of input that are mutated: each module has `mutated(rng)` and `check(data)`.

`mutated` returns the bytes of one input, `check` what is wrong with what became of them; empty: nothing.
"""
