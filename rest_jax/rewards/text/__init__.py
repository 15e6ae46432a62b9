"""Graders of short texts: the final number, or the final words."""
