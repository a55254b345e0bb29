"""Evaluation of a trained model: likelihoods, diagnostics, predictions, and how good they are."""
