"""A page and a JSON endpoint at which a person or a script asks a trained model, on this machine only."""
