"""How files are written and found: atomic replacement, journals, the folders of runs and sweeps. Knows no torch."""
