"""One suite per port. Each adapter has a subclass that names its rig; `test_architecture.py` fails without one."""
