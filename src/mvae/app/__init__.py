"""A web page and a JSON endpoint for querying a trained model, reachable from this machine only."""
