"""The formats that traffic comes in: one file for tables, one for each kind of JSON."""
