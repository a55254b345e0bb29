"""Tables, what their columns mean, masks, and readers by format."""
