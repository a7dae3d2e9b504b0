"""What others may add: the contract of a backend, extensions and the points that they fill."""
