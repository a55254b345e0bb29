"""`fit`: the training loop, its state, steps, stages, checkpoints and progress."""
