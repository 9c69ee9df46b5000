"""Kinds of mutated input: each module has `mutated(rng)` and `check(data)`.

`mutated` returns the bytes of one input. `check` describes what is wrong with their handling; empty: nothing.
"""
