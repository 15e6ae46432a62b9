"""The decoder network: its configurations, its checkpoints in and out."""
