"""``python -m companion``: the command line, also where the package is not installed."""

from companion.cli import main

main()
