"""`fit`: the loop, its state, steps, stages, checkpoints and progress."""
