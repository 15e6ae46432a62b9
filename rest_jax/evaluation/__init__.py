"""From verdicts to results: pass@k, maj@k, intervals, comparisons."""
