"""Warping by edit distance against direct transcriptions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vocabulary.trained import TEXTS, vocabulary

from limbeck.errors import ShapeError
from limbeck.vocabulary import bare, edit_distances, encode, warp


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(new[-1] + 1, row[j] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1]


def warped(student, teacher):
    """Dynamic time warping cell by cell: matrix and path."""
    n, m = len(teacher), len(student)
    cost = np.full((n + 1, m + 1), np.inf)
    cost[0, 0] = 0
    for i in range(n):
        for j in range(m):
            step = min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
            cost[i + 1, j + 1] = levenshtein(teacher[i], student[j]) + step
    i, j, path = n - 1, m - 1, []
    while True:
        path.append((i, j))
        if (i, j) == (0, 0):
            break
        move = int(np.argmin([cost[i, j], cost[i, j + 1], cost[i + 1, j]]))
        i, j = i - (move != 2), j - (move != 1)
    return cost[1:, 1:], path[::-1]


words = st.lists(st.text("abcé中😀", max_size=8) | st.text("ab", min_size=60, max_size=70), max_size=6)
sequences = st.lists(st.text("abc", max_size=4), min_size=1, max_size=9)


@given(words, words)
@settings(max_examples=150)
def test_distances(left, right):
    expected = [[levenshtein(a, b) for b in right] for a in left]
    assert edit_distances(left, right).tolist() == expected
    left, right = ([x.encode() for x in side] for side in (left, right))
    assert edit_distances(left, right).tolist() == [[levenshtein(a, b) for b in right] for a in left]


@given(sequences, sequences)
@settings(max_examples=300)
def test_path_and_matrix(student, teacher):
    found, (matrix, path) = warp(student, teacher), warped(student, teacher)
    assert (found.matrix == matrix).all()
    assert found.cost == matrix[-1, -1]
    assert list(zip(found.teacher.tolist(), found.student.tolist())) == path


@given(sequences, sequences)
def test_one_to_one(student, teacher):
    found = warp(student, teacher)
    path = list(zip(found.student.tolist(), found.teacher.tolist()))
    single = [(i, j) for i, j in path if sum(a == i for a, _ in path) == 1]
    assert list(zip(*found.one_to_one(published=True))) == single
    assert list(zip(*found.one_to_one())) == [(i, j) for i, j in single if sum(b == j for _, b in path) == 1]


@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_bytes_of_unlike_styles_are_close(text):
    sides = [vocabulary(name) for name in ("gpt2", "gemma")]
    ids = [encode(side, text)[0] for side in sides]
    on_bytes = warp(*(side.bytes_of(i) for side, i in zip(sides, ids)))
    on_strings = warp(*([bare(side.tokens[k]) for k in i] for side, i in zip(sides, ids)))
    assert (np.diff(on_bytes.student) >= 0).all()
    assert on_bytes.cost <= on_strings.cost or text.isascii()


def test_no_tokens():
    with pytest.raises(ShapeError, match="empty sequence"):
        warp([], ["a"])
    assert edit_distances([], ["a"]).shape == (0, 1)
    assert edit_distances(["a"], []).shape == (1, 0)
