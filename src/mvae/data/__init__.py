"""Tables and the readers of each dataset."""
