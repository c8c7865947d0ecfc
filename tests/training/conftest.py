"""Fixtures that several files share."""

from tests.training.test_language import teacher, text

__all__ = ["teacher", "text"]
