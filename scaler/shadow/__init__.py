"""Shadow policies.

They decide on the same readings as the live policy, write nothing, and are compared with it.
"""
