"""Every table and figure of the paper as data: published values, settings, what to run, how to compare."""
