"""Alignment of two tokenisations of one text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .spans import Spans
from .tokens import Role

Positions = NDArray[np.int64]


def exact_pairs(student: Spans, teacher: Spans) -> tuple[Positions, Positions]:
    """Pairs of tokens that cover the same bytes of the text: exact token alignment.

    A token is paired when the other side has a token from the same first to the same last byte; EOS with EOS
    and BOS with BOS when they begin at the same byte, whatever they are called. Tokens without bytes, PAD and
    unknown tokens are in no pair. Linear in the number of tokens up to a sort; monotone; one to one.

    Args:
        student: where the student's tokens lie, ``(T_s, 2)``.
        teacher: where the teacher's lie in the same text.

    Returns:
        Positions in the student's and in the teacher's sequence, ``(P,)`` each, ascending. They are positions
        of *tokens*: the logits that predict a token are one position earlier, unless labels are shifted.

    Source:
        Exact token alignment of DSKDv2, arXiv:2504.11426, on bytes. :func:`greedy_pairs` is the published walk.

    Example:
        >>> student = Spans(np.array([[0, 3], [3, 4], [4, 9]]), np.zeros(3, np.int8))
        >>> teacher = Spans(np.array([[0, 3], [3, 9]]), np.zeros(2, np.int8))
        >>> [side.tolist() for side in exact_pairs(student, teacher)]
        [[0], [0]]
    """
    low = min(int(side.bounds.min(initial=0)) for side in (student, teacher))
    base = 1 + max(int(side.bounds.max(initial=0)) for side in (student, teacher)) - low
    (keys_s, index_s), (keys_t, index_t) = (_keys(side.moved(-low), base) for side in (student, teacher))
    _, at_s, at_t = np.intersect1d(keys_s, keys_t, return_indices=True)
    found_s, found_t = index_s[at_s], index_t[at_t]
    order = np.argsort(found_s)
    found_s, found_t = found_s[order], found_t[order]
    rising = np.concatenate([[-1], np.maximum.accumulate(found_t)])[: len(found_t)] < found_t
    return found_s[rising], found_t[rising]


def groups(student: Spans, teacher: Spans, *, rest: bool = False) -> tuple[Positions, Positions, int]:
    """The finest cut of both sequences into runs that have the same bytes.

    A run ends where a token of both sides ends at the same byte. A token without bytes belongs to the run that
    follows; tokens without bytes on both sides match one to one in their order. In no run are PAD, special
    tokens without bytes that the other side does not have at this place, and tokens over bytes that the other
    side's tokens leave out.

    Args:
        student: where the student's tokens lie, ``(T_s, 2)``.
        teacher: where the teacher's lie in the same text.
        rest: keep the runs that do not have the same bytes: a last one where one side ends early, which may be
            empty on one side, as the public implementation does.

    Returns:
        The group of each token of the student ``(T_s,)`` and of the teacher ``(T_t,)``, -1 for none, and the
        number of groups.

    Source:
        GOLD of TRL 1.16.0, ``ULDLoss._align_by_byte_offsets``: the same with ``rest=True`` and no roles.

    Example:
        >>> student = Spans(np.array([[0, 3], [3, 7], [7, 9]]), np.zeros(3, np.int8))
        >>> teacher = Spans(np.array([[0, 2], [2, 4], [4, 7], [7, 9]]), np.zeros(4, np.int8))
        >>> [x.tolist() for x in groups(student, teacher)[:2]]
        [[0, 0, 1], [0, 0, 0, 1]]
    """
    sides, kept = (student, teacher), _kept(student, teacher)
    bounds = [side.bounds[keep] for side, keep in zip(sides, kept)]
    origin = min((int(b[0, 0]) for b in bounds if len(b)), default=0)
    ends, holes = zip(
        *((b[:, 1], np.zeros(len(b), np.bool_)) if rest else _filled(b, origin) for b in bounds)
    )
    width = 1 + max(map(len, ends))
    keys = [e * width + np.arange(len(e)) - np.searchsorted(e, e) for e in ends]
    closes = np.intersect1d(keys[0], keys[1], assume_unique=True)
    number = [np.searchsorted(closes, key) for key in keys]
    good = np.ones(len(closes) + 1, np.bool_)
    good[-1] = rest and any(len(n) and n[-1] == len(closes) for n in number)
    for n, hole in zip(number, holes):
        good[n[hole]] = False
    anew = np.where(good, np.cumsum(good) - 1, -1)
    found = [np.full(len(side), -1, np.int64) for side in sides]
    for of, keep, n, hole in zip(found, kept, number, holes):
        of[keep] = anew[n[~hole]]
    return found[0], found[1], int(good.sum())


def _keys(side: Spans, base: int) -> tuple[Positions, Positions]:
    """One number per token that can be in a pair, and its position."""
    start, end = side.bounds.T
    role = side.roles.astype(np.int64)
    mark = (role == Role.EOS) | (role == Role.BOS)
    usable = mark | ((end > start) & ((role == Role.TEXT) | (role == Role.SPECIAL)))
    index = np.flatnonzero(usable)
    keys = (start * base + np.where(mark, 0, end)) * len(Role) + role
    return keys[index], index


def _kept(student: Spans, teacher: Spans) -> list[NDArray[np.bool_]]:
    """All tokens but PAD and those marks that the other side has not."""
    kept = []
    for side, other in ((student, teacher), (teacher, student)):
        keep = side.roles != Role.PAD
        mark = (side.roles != Role.TEXT) & (side.bounds[:, 0] == side.bounds[:, 1])
        if mark.any():
            there = {(int(b[0]), int(r)) for b, r in zip(other.bounds, other.roles) if b[0] == b[1]}
            for i in np.flatnonzero(mark):
                keep[i] &= (int(side.bounds[i, 0]), int(side.roles[i])) in there
        kept.append(keep)
    return kept


def _filled(bounds: Positions, origin: int) -> tuple[Positions, NDArray[np.bool_]]:
    """Ends of the tokens and of the holes between them, and which are holes."""
    starts, ends = bounds.T
    at = np.flatnonzero(starts > np.concatenate([[origin], ends])[:-1])
    return np.insert(ends, at, starts[at]), np.insert(np.zeros(len(ends), np.bool_), at, True)
