"""Vocabularies: bytes of tokens, how two tokenizers relate, alignment of two tokenisations of one text.

Pure functions over tokenizers, ids and strings; no models and no losses. Student first, teacher second.
"""

from __future__ import annotations

from .compare import Relation, compare, require_same
from .spans import Spans, encode, locate, spell
from .tokens import Role, Vocabulary, read

__all__ = [
    "Relation",
    "Role",
    "Spans",
    "Vocabulary",
    "compare",
    "encode",
    "locate",
    "read",
    "require_same",
    "spell",
]
