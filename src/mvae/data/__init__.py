"""Tables, the meaning of their columns, masks, and readers for file formats."""
