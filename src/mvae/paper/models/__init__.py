"""Models of the paper's ablations and baselines, which nobody would train otherwise."""
