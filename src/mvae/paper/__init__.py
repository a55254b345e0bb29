"""Every table and figure of the paper: published values, settings, what to run, how to compare."""
