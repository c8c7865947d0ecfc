"""Vocabularies: bytes of tokens, how two tokenizers relate, alignment of two tokenisations of one text.

Pure functions over tokenizers, ids and strings; no models and no losses. Student first, teacher second.
"""

from __future__ import annotations

from .align import exact_pairs, groups
from .batch import Groups, Pairs, align_groups, align_pairs
from .compare import Relation, compare, require_same
from .edit import Warp, bare, edit_distances, warp
from .greedy import greedy_pairs
from .nearest import nearest
from .positions import position_pairs
from .spans import Spans, encode, locate, spell
from .tokens import Role, Vocabulary, read

__all__ = [
    "Groups",
    "Pairs",
    "Relation",
    "Role",
    "Spans",
    "Vocabulary",
    "Warp",
    "align_groups",
    "align_pairs",
    "bare",
    "compare",
    "edit_distances",
    "encode",
    "exact_pairs",
    "greedy_pairs",
    "groups",
    "locate",
    "nearest",
    "position_pairs",
    "read",
    "require_same",
    "spell",
    "warp",
]
