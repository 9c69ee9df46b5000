"""The field's own autoscalers, restated: for users who come from them, and to be compared with.

Each is a policy that settles by itself (`Policy.settles`): it brings its own tolerance, windows and limits, is the only
policy of its workload, and of our rules only the guard's stand after it (`policies.pipeline.GUARD`). So a peer grows
and shrinks as the original does, but for what no policy may do here: shrink without fresh evidence of everything, or
leave the workload's bounds. Each docstring names the source, and where the original differs.
"""
