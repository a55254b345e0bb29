"""Studies beyond the paper, each a user of the library by its public names: `mvae reproduce NAME`."""
