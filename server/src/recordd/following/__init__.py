"""Following records: a subscription, what it is owed, and the task that feeds those behind."""
