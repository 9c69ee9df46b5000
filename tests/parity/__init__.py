"""One world seen through simulated and through live adapters: the same sizes, the same readings, the same decisions."""
