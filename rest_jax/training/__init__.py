"""The M-step: packing, loss, optimiser, step, checkpoints."""
