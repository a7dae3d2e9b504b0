"""The SQLite backend, offered as entry point `sqlite`."""
