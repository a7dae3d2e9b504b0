"""recordd, the record database daemon. See docs/design.md for how it works."""
