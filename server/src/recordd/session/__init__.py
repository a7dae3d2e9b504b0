"""One connection's conversation above its transport."""
