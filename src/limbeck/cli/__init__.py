"""The command line: ``limbeck``. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; user mistakes end in one message and exit code 2."""
    from ..errors import LimbeckError
    from .app import app

    try:
        app()
    except LimbeckError as error:
        print(f"limbeck: {error}", file=sys.stderr)
        number = getattr(error, "signal", None)
        sys.exit(2 if number is None else 128 + number)


__all__ = ["main"]
