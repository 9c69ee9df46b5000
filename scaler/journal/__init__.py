"""The record on disk: JSON Lines, one record a line, rotated and bounded.

A file holds ``start`` records (a daemon began), ``spec`` records (a workload's document with all defaults, once a file
and fingerprint) and ``tick`` records. Every line stands alone: a torn last line loses that line only.
"""
