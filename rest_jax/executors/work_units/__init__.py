"""Jobs run as work units of somebody else's experiment (XManager)."""
