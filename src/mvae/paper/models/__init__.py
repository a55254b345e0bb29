"""Models of the paper's ablations and baselines, not meant for other uses."""
