"""Graders: from a completion to a verdict."""
