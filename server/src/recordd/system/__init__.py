"""What the operating system and the event loop give: clocks, locks, logs, turns."""
