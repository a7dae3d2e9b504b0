"""The way of a write: queue, plan, group commit, and the end of records and rows."""
