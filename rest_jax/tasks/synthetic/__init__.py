"""The embedded tasks: problems, solutions and a corpus from a seed."""
