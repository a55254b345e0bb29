"""One file a model; `base` is what they share."""
