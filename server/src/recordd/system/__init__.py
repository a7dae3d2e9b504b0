"""Services of the operating system and the event loop: clocks, locks, logs, turns."""
