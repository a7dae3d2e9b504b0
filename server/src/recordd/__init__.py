"""recordd, the record database daemon. See CONTRIBUTING.md for how a request travels."""
