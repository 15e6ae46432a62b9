"""Configurations that check themselves, and the gin front end."""
