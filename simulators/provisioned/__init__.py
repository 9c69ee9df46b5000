"""Plans of provisioned throughput: units and terms, against pay-as-you-go.

`spillover` and `purchase` are arithmetic on arrays. The other modules read the inputs and show the result.
"""
