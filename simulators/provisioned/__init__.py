"""Plans of provisioned throughput: units to hold, in which terms, against pay-as-you-go spillover.

`spillover` and `purchase` are arithmetic on arrays. The other modules read the inputs and show the result.
"""
