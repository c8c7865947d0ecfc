"""How the vocabularies of a student and a teacher relate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import ConfigError
from .tokens import Role, Vocabulary

SharedIds = Int[Tensor, "shared"]
"""One id per shared entry."""

ColumnIds = Int[Tensor, "columns"]
"""One id per column of the teacher's logits."""


@dataclass(frozen=True, eq=False)
class Relation:
    """What :func:`compare` found.

    Attributes:
        kind: ``same`` when every id that both have means the same token, ``different`` otherwise.
        prefix: how many leading ids mean the same on both sides, within both heads. With ``same`` vocabularies
            both logits are cut to this many columns: heads may be padded to unlike sizes.
        student_ids: ids of the shared entries in the student's vocabulary, ascending, ``(S,)``.
        teacher_ids: the same entries in the teacher's vocabulary, ``(S,)``.
        student_fraction: part of the student's tokens that is shared.
        teacher_fraction: part of the teacher's tokens that is shared.
        only_student: with ``same`` vocabularies, tokens after the last id that both have.
        only_teacher: likewise.
        student: the student's vocabulary, in words.
        teacher: the teacher's vocabulary, in words.
        difference: the first difference in words; empty if there is none.
    """

    kind: Literal["same", "different"]
    prefix: int
    student_ids: SharedIds
    teacher_ids: SharedIds
    student_fraction: float
    teacher_fraction: float
    only_student: tuple[str, ...]
    only_teacher: tuple[str, ...]
    student: str
    teacher: str
    difference: str

    def to_student(self, columns: int) -> ColumnIds:
        """The student's id of each of the teacher's ids, -1 where there is none.

        Args:
            columns: number of ids of the teacher, such as the columns of its logits.
        """
        found = torch.full((columns,), -1, dtype=torch.int64)
        within = self.teacher_ids < columns
        found[self.teacher_ids[within]] = self.student_ids[within]
        return found

    def __str__(self) -> str:
        if self.kind == "same":
            return f"{self.student} and {self.teacher} share their first {self.prefix:,} ids"
        shared = (
            f"{len(self.student_ids):,} entries ({self.student_fraction:.1%} and {self.teacher_fraction:.1%})"
        )
        return f"{self.student} and {self.teacher} differ: {self.difference}; they share {shared}"


def compare(
    student: Vocabulary,
    teacher: Vocabulary,
    *,
    student_head: int | None = None,
    teacher_head: int | None = None,
) -> Relation:
    """Say whether two vocabularies are the same, and which entries they share.

    The same: every id of the smaller one stands for the same token in the larger one, and what the larger one
    has beyond is added tokens. Otherwise entries are shared when they spell the same bytes, whatever the style
    (``Ġthe`` and ``▁the``); BOS, EOS and PAD are shared by role, in the order EOS, BOS, PAD, and other special
    tokens by their text. Each id is in one pair at most; of several ids for the same bytes the ordinary token
    goes before a byte fallback, then the smaller id.

    Args:
        student: the student's vocabulary.
        teacher: the teacher's vocabulary.
        student_head: number of logits of the student, where it may not be the vocabulary's size.
        teacher_head: number of logits of the teacher.

    Returns:
        The relation.

    Raises:
        ConfigError: a head is not above 0.

    Source:
        DSKDv2 shares entries by string after ``Ġ`` is written ``▁`` (songmzhang/DSKDv2 5025279), which loses
        all entries outside ASCII and finds no special token; bytes and roles find both.

    Example:
        >>> from tokenizers import Tokenizer, decoders, models
        >>> from limbeck.vocabulary import read
        >>> left, right = Tokenizer(models.BPE({"a": 0, "Ġb": 1}, [])), Tokenizer(models.BPE({"▁b": 0, "c": 1}, []))
        >>> left.decoder, right.decoder = decoders.ByteLevel(), decoders.Metaspace()
        >>> relation = compare(read(left), read(right))
        >>> relation.kind, relation.student_ids, relation.teacher_ids
        ('different', tensor([1]), tensor([0]))
    """
    for side, head in (("student", student_head), ("teacher", teacher_head)):
        if head is not None and head < 1:
            raise ConfigError(f"{side}_head is not valid", got=head, expected="a number above 0")
    columns_s = len(student) if student_head is None else min(len(student), student_head)
    columns_t = len(teacher) if teacher_head is None else min(len(teacher), teacher_head)
    common = min(len(student), len(teacher))
    first = _same_until(student, teacher, common)
    same = first == common > 0 and bool(student.added[common:].all() and teacher.added[common:].all())
    prefix = min(first, columns_s, columns_t)
    if same:
        pairs = [(i, i) for i in range(prefix) if student.tokens[i]]
    else:
        pairs = _shared(student, teacher, columns_s, columns_t)
    pairs.sort()
    ids = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    count_s, count_t = (max(1, sum(map(bool, side.tokens))) for side in (student, teacher))
    return Relation(
        kind="same" if same else "different",
        prefix=prefix,
        student_ids=ids[:, 0].contiguous(),
        teacher_ids=ids[:, 1].contiguous(),
        student_fraction=len(pairs) / count_s,
        teacher_fraction=len(pairs) / count_t,
        only_student=tuple(filter(None, student.tokens[common:])) if same else (),
        only_teacher=tuple(filter(None, teacher.tokens[common:])) if same else (),
        student=str(student),
        teacher=str(teacher),
        difference="" if same else _first(student, teacher, first),
    )


def require_same(relation: Relation, *, method: str, alternatives: Iterable[str]) -> int:
    """Refuse two vocabularies that are not the same, and say what would work.

    Args:
        relation: what :func:`compare` found.
        method: the method that needs one vocabulary.
        alternatives: names of the methods that do not.

    Returns:
        How many leading columns of both logits to use.

    Raises:
        ConfigError: the vocabularies differ.
    """
    if relation.kind == "same":
        return relation.prefix
    names = ", ".join(alternatives)
    raise ConfigError(
        f"{method} needs one vocabulary, and the student and the teacher have two",
        got=f"student {relation.student}, teacher {relation.teacher}: {relation.difference}; "
        f"{len(relation.student_ids):,} entries are shared ({relation.student_fraction:.1%} of the student's, "
        f"{relation.teacher_fraction:.1%} of the teacher's)",
        expected="the same token behind every id",
        fix=f"use a method for two vocabularies: {names}"
        if names
        else "use a teacher with the student's tokenizer",
    )


def _same_until(student: Vocabulary, teacher: Vocabulary, common: int) -> int:
    """The first id that stands for different tokens."""
    control = (student.roles[:common] != Role.TEXT) != (teacher.roles[:common] != Role.TEXT)
    first = int(control.argmax()) if control.any() else common
    alike = zip(student.tokens, teacher.tokens, student.pieces, teacher.pieces)
    return next((i for i, (a, b, x, y) in zip(range(first), alike) if a != b or x != y), first)


def _first(student: Vocabulary, teacher: Vocabulary, i: int) -> str:
    if i < min(len(student), len(teacher)):
        return f"id {i} is {student.tokens[i]!r} and {teacher.tokens[i]!r}"
    return f"they have {len(student):,} and {len(teacher):,} tokens"


def _by_bytes(side: Vocabulary, columns: int) -> dict[bytes, int]:
    """The id of each byte string: ordinary tokens before byte fallbacks, then the smaller id."""
    order = np.argsort(side.fallback[:columns], kind="stable").tolist()
    found: dict[bytes, int] = {}
    for i in order:
        if side.pieces[i]:
            found.setdefault(side.pieces[i], i)
    return found


def _shared(
    student: Vocabulary, teacher: Vocabulary, columns_s: int, columns_t: int
) -> list[tuple[int, int]]:
    theirs = _by_bytes(teacher, columns_t)
    pairs = [(i, theirs[key]) for key, i in _by_bytes(student, columns_s).items() if key in theirs]
    by_role = [(student.eos, teacher.eos), (student.bos, teacher.bos), (student.pad, teacher.pad)]
    names = {teacher.tokens[i]: i for i in _special(teacher, columns_t)}
    by_name = [(i, names.get(student.tokens[i])) for i in _special(student, columns_s)]
    used_s, used_t = set[int](), set[int]()
    for a, b in by_role + by_name:
        if a is None or b is None or a >= columns_s or b >= columns_t or a in used_s or b in used_t:
            continue
        pairs.append((a, b))
        used_s.add(a)
        used_t.add(b)
    return pairs


def _special(side: Vocabulary, columns: int) -> list[int]:
    return np.flatnonzero(side.roles[:columns] != Role.TEXT).tolist()
