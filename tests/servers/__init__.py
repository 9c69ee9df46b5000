"""Real servers and faults for the tests, each on a loopback port of its own."""
