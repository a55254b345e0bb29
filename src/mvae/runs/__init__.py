"""Runs: the declaration, the run directory, samples and translations of a run, many runs at once."""
