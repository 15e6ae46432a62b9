"""Metrics over verdicts: pass@k, maj@k, intervals, plots."""
