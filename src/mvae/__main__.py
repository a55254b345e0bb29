"""`python -m mvae` is `mvae`."""

from mvae.cli import main

main()
