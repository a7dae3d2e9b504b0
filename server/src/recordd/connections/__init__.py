"""Connections: who is let in, what they speak, what waits to be sent to each and to all."""
