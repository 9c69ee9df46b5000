"""The compiled event loop: engines, router and central queue on an integer clock."""
