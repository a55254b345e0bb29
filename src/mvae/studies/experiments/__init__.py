"""The declarations of the studies' runs."""
