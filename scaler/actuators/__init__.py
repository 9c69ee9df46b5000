"""What is resized: one file a kind of pool. See docs/add-an-actuator.md."""
