"""The field's own autoscalers, restated: for users who come from them, and to be compared with.

Each owns its stabilization (`Policy.owns_stabilization`): it brings its own tolerance, windows and limits, and is the
only policy of its workload. Of our rules only the guard's apply after it (`policies.guard`). So a peer grows and
shrinks as the original does, except for what no policy may do here: scale in without fresh evidence of everything, or
leave the workload's bounds. Each docstring names the source, and where the original differs.
"""
