"""What is trained: one run, the experiments that are lists of runs, and the grids of settings."""
