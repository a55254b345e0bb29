"""`python -m mvae` is `mvae`."""

from mvae.cli.main import main

main()
