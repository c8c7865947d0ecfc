"""The command line inside this process."""

from tests.cli.conftest import here

__all__ = ["here"]
