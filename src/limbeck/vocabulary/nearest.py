"""The student's entry that is nearest to each of the teacher's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .compare import Relation
from .edit import edit_distances
from .tokens import Role, Vocabulary

LARGEST = 1 << 26
"""Pairs of entries whose distances are computed at most."""


def nearest(student: Vocabulary, teacher: Vocabulary, relation: Relation) -> tuple[Tensor, bool]:
    """The student's id for each of the teacher's: of the same bytes or role, else of the least edit distance.

    Args:
        student: the student's vocabulary.
        teacher: the teacher's vocabulary.
        relation: what ``compare`` found.

    Returns:
        ids ``(V_t,)``, -1 where there is none, and whether distances were computed: beyond 2^26 pairs they are
        not. Control tokens and entries without bytes have a partner by role or none. Of equal distances the smaller
        id is taken; a space before a word counts as a letter.

    Source:
        The vocabulary map of MinED, Wan et al. 2024, arXiv:2401.10491.

    Example:
        >>> from tokenizers import Tokenizer, decoders, models
        >>> from limbeck.vocabulary import compare, read
        >>> left, right = Tokenizer(models.BPE({"ab": 0, "cd": 1}, [])), Tokenizer(models.BPE({"cd": 0, "abc": 1}, []))
        >>> left.decoder, right.decoder = decoders.ByteLevel(), decoders.ByteLevel()
        >>> mine, theirs = read(left), read(right)
        >>> nearest(mine, theirs, compare(mine, theirs))
        (tensor([1, 0]), True)
    """
    found = relation.to_student(len(teacher))
    words = [i for i in range(len(student)) if student.pieces[i] and student.roles[i] == Role.TEXT]
    left = [
        i for i in range(len(teacher)) if found[i] < 0 and teacher.pieces[i] and teacher.roles[i] == Role.TEXT
    ]
    if not words or len(left) * len(words) > LARGEST:
        return found, False
    pieces, ids = [student.pieces[i] for i in words], np.array(words)
    for first in range(0, len(left), 256):
        some = left[first : first + 256]
        distances = edit_distances([teacher.pieces[i] for i in some], pieces)
        found[torch.tensor(some)] = torch.from_numpy(ids[distances.argmin(1)])
    return found, True


__all__ = ["nearest"]
