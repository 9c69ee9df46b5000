"""The same promise at the least money: ours, every rival and the oracle on the shared traces."""
