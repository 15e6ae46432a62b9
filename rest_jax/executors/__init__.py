"""Executors: each runs the jobs of a plan somewhere, and knows nothing else."""
