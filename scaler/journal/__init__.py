"""The journal on disk: JSON Lines with one record per line, rotated and bounded in size.

A file holds ``start`` records (a daemon started), ``spec`` records (a workload's document with all defaults, once per
file and fingerprint) and ``tick`` records. Lines are independent: a torn last line loses that record only.
"""
