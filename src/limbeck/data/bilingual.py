"""The samples of a split as the teacher's tokenizer reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor

from ..errors import DataError
from ..reading import Reading, Sample
from ..shapes import IGNORE
from ..vocabulary import Relation, Role, Spans, Vocabulary, compare, read
from ..vocabulary import encode as located
from ..vocabulary.spans import locate
from .text import TokenSplit, encode


@dataclass(frozen=True)
class Languages:
    """The vocabularies of a student and a teacher.

    Attributes:
        student, teacher: the vocabularies.
        relation: what they share.
        classes: ids of the student's and of the teacher's vocabulary.
    """

    student: Vocabulary
    teacher: Vocabulary
    relation: Relation
    classes: tuple[int, int]

    @classmethod
    def of(cls, student: Any, teacher: Any) -> Languages:
        """Read two fast tokenizers and compare them."""
        mine, theirs = read(student), read(teacher)
        return cls(mine, theirs, compare(mine, theirs), (len(mine), len(theirs)))


class Reader:
    """Reads the samples of splits with the teacher's tokenizer; each sample once.

    Args:
        languages: both vocabularies.
        length: tokens that the teacher is fed at most.

    Raises:
        DataError: of ``sample``, where the teacher's tokenizer leaves no token of a response.
    """

    def __init__(self, languages: Languages, length: int) -> None:
        self.languages, self.length = languages, length
        self._known: WeakKeyDictionary[TokenSplit, dict[int, Sample]] = WeakKeyDictionary()

    def batch(self, split: TokenSplit, ids: Tensor) -> Reading:
        """The samples of these ids."""
        known = self._known.setdefault(split, {})
        for i in ids.tolist():
            if i not in known:
                pair, labels = split.pair(i, self.languages.teacher.tokenizer), split.targets[i]
                known[i] = self.sample(*pair, labels[labels != IGNORE])
        return Reading.of([known[i] for i in ids.tolist()])

    def sample(self, prompt: str, response: str, supervised: Tensor) -> Sample:
        """One sample.

        Args:
            prompt, response: the texts.
            supervised: ids of the response's tokens that the student is asked about, ``(n,)``.
        """
        theirs = self.languages.teacher
        found = encode(theirs.tokenizer, prompt, response, self.length)
        if found is None:
            raise DataError(
                "the teacher's tokenizer leaves no token of a response",
                got=f"{len(prompt)} letters of a prompt, {self.length} tokens",
                fix="raise data.length, or leave such samples out",
            )
        return self.joined(*found, response, supervised)

    def joined(self, ids: Tensor, labels: Tensor, response: str, supervised: Tensor) -> Sample:
        """One sample of which both sides' tokens are known.

        Args:
            ids, labels: what the teacher is fed and what it should say, as in ``Sample``.
            response: the text.
            supervised: ids of the student's supervised tokens ``(n,)``.
        """
        sides = (self.languages.student, self.languages.teacher)
        tokens = (supervised, labels[1:][labels[1:] != IGNORE])
        spans = tuple(_lie(side, response, known) for side, known in zip(sides, tokens, strict=True))
        words = tuple(
            [side.pieces[i].strip(b" ") for i in known.tolist()]
            for side, known in zip(sides, tokens, strict=True)
        )
        aligned: Any = None if None in spans else spans
        a, b = words
        return Sample(ids, labels, (len(tokens[0]), len(tokens[1])), aligned, (a, b))


def _lie(vocabulary: Vocabulary, response: str, supervised: Tensor) -> Spans | None:
    """Where the supervised tokens lie in the response: a run of its tokens with the end token, perhaps cut off.

    Tokens that a model wrote may be others than its tokenizer would make of the text.
    """
    ids, spans = located(vocabulary, response, special_tokens=False)
    end = len(response.encode())
    whole = np.append(ids, -1 if vocabulary.eos is None else vocabulary.eos)
    bounds = np.concatenate([spans.bounds.reshape(-1, 2), [[end, end]]])
    roles = np.append(spans.roles, np.int8(Role.EOS))
    wanted = supervised.numpy()
    for first in (0, 1):  # without a start token nothing asks for the first token
        if np.array_equal(whole[first : first + len(wanted)], wanted):
            return Spans(bounds[first : first + len(wanted)], roles[first : first + len(wanted)])
    closed = len(wanted) > 0 and wanted[-1] == vocabulary.eos
    own = wanted[:-1] if closed else wanted
    try:
        spans = locate(vocabulary, response, own)
    except DataError:
        return None
    if closed:
        return Spans(
            np.concatenate([spans.bounds.reshape(-1, 2), [[end, end]]]),
            np.append(spans.roles, np.int8(Role.EOS)),
        )
    return spans


__all__ = ["Languages", "Reader"]
