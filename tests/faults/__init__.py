"""Suites that break storage on purpose: power cuts, flipped bits, failing calls, full disks."""
