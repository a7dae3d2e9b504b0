"""Programs that show recordd at work."""
