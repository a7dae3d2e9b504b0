"""Configuration: settings with their defaults, units and reasons, and the rules of records."""
