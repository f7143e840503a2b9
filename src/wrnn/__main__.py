"""``python -m wrnn``: the command line, also where the package is not installed."""

from wrnn.cli import main

main()
