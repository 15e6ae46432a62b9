"""Plans of jobs, and the launcher that has them run."""
