"""Graders of programs, which run in a sandbox."""
