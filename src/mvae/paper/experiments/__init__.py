"""The declarations of the paper's experiments."""
