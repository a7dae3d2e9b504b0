"""Connections: who is let in, what they speak, which are open, and what all count together."""
