"""Measurements of the daemon beside its peers and limits, all taken in the same run.

`python -m benchmarks [--quick] [NAME ...]` from the repository's root. Nothing here fails
because it was slow: the figures are for people to read.
"""
