"""The methods: one module a family, each with its handlers by name; together, the table."""
