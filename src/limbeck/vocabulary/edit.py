"""Alignment by edit distance: dynamic time warping over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError


@dataclass(frozen=True, eq=False)
class Warp:
    """A warping path between two sequences.

    Attributes:
        student: position in the student's sequence at each step of the path, ``(L,)``.
        teacher: position in the teacher's sequence, ``(L,)``.
        cost: sum of the edit distances along the path.
        matrix: least cost of a path to each cell, ``(T_t, T_s)``.
    """

    student: NDArray[np.int64]
    teacher: NDArray[np.int64]
    cost: float
    matrix: NDArray[np.int64]

    def one_to_one(self, *, published: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Steps whose tokens are each in one step only.

        Args:
            published: only ask it of the student's token, as the public implementation does.

        Returns:
            Positions in the student's and in the teacher's sequence.
        """
        single = np.bincount(self.student)[self.student] == 1
        if not published:
            single &= np.bincount(self.teacher)[self.teacher] == 1
        return self.student[single], self.teacher[single]


def warp(student: Sequence[str] | Sequence[bytes], teacher: Sequence[str] | Sequence[bytes]) -> Warp:
    """Warp two sequences of tokens onto each other so that the sum of edit distances is least.

    With :math:`D_{ij} = d(t_i, s_j) + \\min(D_{i-1,j-1}, D_{i-1,j}, D_{i,j-1})`; the path is followed back from
    the last cell, and of equal predecessors the diagonal is taken first, then up (the teacher's token before),
    then left.

    Args:
        student: the student's tokens, ``T_s``, at least one: their bytes (then ``é`` of unlike styles is the
            same), or strings as :func:`bare` leaves them, as published.
        teacher: the teacher's tokens, ``T_t``, at least one.

    Returns:
        The path. A few passes of numpy per token of the teacher; each distance is computed once.

    Raises:
        ShapeError: a sequence is empty.

    Source:
        MinED: Wan et al. 2024, FuseLLM, arXiv:2401.10491; the same path and matrix as ``dtw`` in
        songmzhang/DSKD 077337a.

    Example:
        >>> found = warp([b"a", b"bc", b"d"], [b"a", b"b", b"c", b"d"])
        >>> found.cost, list(zip(found.teacher.tolist(), found.student.tolist()))
        (2.0, [(0, 0), (1, 0), (2, 1), (3, 2)])
    """
    if not student or not teacher:
        raise ShapeError("an empty sequence cannot be aligned", got=(len(student), len(teacher)))
    tokens_s, at_s = _unique(student)
    tokens_t, at_t = _unique(teacher)
    cost = edit_distances(tokens_t, tokens_s).take(at_t, 0).take(at_s, 1)
    total = cost.cumsum(1)
    before = total - cost
    matrix = total.copy()  # the first row stays as it is
    for above, row, start in zip(matrix, matrix[1:], before[1:]):
        step = above - start
        np.minimum(step[1:], above[:-1] - start[1:], out=step[1:])
        row += np.minimum.accumulate(step)
    return Warp(*_path(matrix), float(matrix[-1, -1]), matrix)


def edit_distances(
    left: Sequence[str] | Sequence[bytes], right: Sequence[str] | Sequence[bytes]
) -> NDArray[np.int64]:
    """Levenshtein distance of every token on the left to every one on the right, ``(L, R)``.

    Source:
        Myers 1999 in the form of Hyyrö 2003: a column of the table in one machine word, for all pairs at once.

    Example:
        >>> edit_distances(["kitten", ""], ["sitting", "kitten"])
        array([[3, 0], [7, 6]])
    """
    rows, columns = [_codes(token) for token in left], [_codes(token) for token in right]
    out = np.empty((len(rows), len(columns)), np.int64)
    short = [i for i, codes in enumerate(rows) if len(codes) <= 64]
    if short and columns:
        out[short] = _bit_parallel([rows[i] for i in short], columns)
    for i, codes in enumerate(rows):
        if len(codes) > 64:
            out[i] = [_plain(codes, other) for other in columns]
    return out


def bare(token: str) -> str:
    """A token string without its space markers, as published alignments compare them.

    Example:
        >>> bare("▁the"), bare("Ġthe")
        ('the', 'the')
    """
    return token.replace("▁", "").replace("Ġ", "")


def _unique(tokens: Sequence[str] | Sequence[bytes]) -> tuple[list[str] | list[bytes], list[int]]:
    number = {token: k for k, token in enumerate(dict.fromkeys(tokens))}
    return list(number), [number[token] for token in tokens]  # type: ignore[return-value]


def _codes(token: str | bytes) -> list[int]:
    return list(token) if isinstance(token, bytes) else [ord(c) for c in token]


def _bit_parallel(patterns: list[list[int]], texts: list[list[int]]) -> NDArray[np.int64]:
    """Distances of patterns of 64 letters at most to texts of any length, ``(patterns, texts)``."""
    order = sorted(range(len(texts)), key=lambda k: -len(texts[k]))
    letters = {c: k for k, c in enumerate({c for text in texts for c in text})}
    where = np.zeros((len(letters), len(patterns)), np.uint64)
    for p, pattern in enumerate(patterns):
        for k, c in enumerate(pattern):
            if c in letters:
                where[letters[c], p] |= np.uint64(1 << k)
    sizes = np.array([len(pattern) for pattern in patterns], np.int64)
    last, one = np.maximum(sizes - 1, 0).astype(np.uint64), np.uint64(1)
    score = np.repeat(sizes[None], len(texts), 0)
    plus, minus = np.full(score.shape, ~np.uint64(0)), np.zeros(score.shape, np.uint64)
    for k in range(len(texts[order[0]])):
        active = sum(len(text) > k for text in texts)
        equal = where[[letters[texts[t][k]] for t in order[:active]]]
        vp, vn = plus[:active], minus[:active]
        vertical = equal | vn
        horizontal = (((equal & vp) + vp) ^ vp) | equal
        up, down = vn | ~(horizontal | vp), vp & horizontal
        score[:active] += ((up >> last) & one).view(np.int64) - ((down >> last) & one).view(np.int64)
        up, down = (up << one) | one, down << one
        plus[:active], minus[:active] = down | ~(vertical | up), up & vertical
    out = np.empty_like(score)
    out[order] = score
    out[:, sizes == 0] = np.array([len(text) for text in texts], np.int64)[:, None]
    return out.T


def _plain(left: list[int], right: list[int]) -> int:
    """The same for one pair, row by row."""
    codes, steps = np.array(right, np.int64), np.arange(len(right) + 1)
    above = steps
    for c in left:
        row = above + 1
        np.minimum(row[1:], above[:-1] + (codes != c), out=row[1:])
        above = steps + np.minimum.accumulate(row - steps)
    return int(above[-1])


def _path(matrix: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The path back from the last cell: student positions, teacher positions."""
    cell = matrix.item
    i, j = matrix.shape[0] - 1, matrix.shape[1] - 1
    path = [(j, i)]
    while i or j:
        if not (i and j):
            i, j = max(i - 1, 0), max(j - 1, 0)
        else:
            diagonal, up, side = cell(i - 1, j - 1), cell(i - 1, j), cell(i, j - 1)
            if diagonal <= up and diagonal <= side:
                i, j = i - 1, j - 1
            elif up <= side:
                i -= 1
            else:
                j -= 1
        path.append((j, i))
    steps = np.array(path[::-1], np.int64)
    return steps[:, 0], steps[:, 1]
