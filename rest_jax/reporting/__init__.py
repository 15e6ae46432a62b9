"""The page of a run, and its results as text."""
