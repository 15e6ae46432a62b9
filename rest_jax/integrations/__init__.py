"""The same tasks and rows for other frameworks."""
