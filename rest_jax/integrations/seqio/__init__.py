"""Tasks and training rows for users of SeqIO."""
