"""The paper's datasets, one reader each."""
