"""``python -m limbeck`` is the command line."""

from .cli import main

main()
