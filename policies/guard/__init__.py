"""The guard: what no policy may do, whatever it recommends. `caps` stands before stabilization, `enforce` after."""
