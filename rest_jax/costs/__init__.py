"""What the programs of a run cost on TPUs that are not here."""
