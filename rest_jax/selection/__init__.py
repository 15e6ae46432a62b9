"""Which graded solutions an M-step is trained on."""
