"""Connections: who is let in, which are open, and what all of them count together."""
