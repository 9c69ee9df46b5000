"""One suite a port. An adapter joins by a subclass that names its rig; `test_architecture.py` fails without one."""
