"""Other autoscalers as policies, for migration and for comparison.

Each owns its stabilization (`Policy.owns_stabilization`): it has its own tolerance, windows and limits, and is the only
policy of its workload. After it, only the guard's rules apply (`policies.guard`). So a peer scales as the original
does, except where no policy may: it never scales in without complete fresh evidence, and it stays within the workload's
bounds. Each docstring names the source and the differences from the original.
"""
