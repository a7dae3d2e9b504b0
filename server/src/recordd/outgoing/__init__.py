"""What waits to be sent to a connection."""
