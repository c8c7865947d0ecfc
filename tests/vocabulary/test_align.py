"""Alignment on bytes against direct transcriptions, and its guarantees on real tokenisations."""

from __future__ import annotations

import time
from inspect import unwrap
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vocabulary.test_tokens import texts
from tests.vocabulary.trained import BUILDERS, LOSSLESS, TEXTS, corpus, vocabulary

from limbeck.errors import ShapeError
from limbeck.vocabulary import (
    Role,
    Spans,
    align_groups,
    align_pairs,
    encode,
    exact_pairs,
    greedy_pairs,
    groups,
    position_pairs,
)

pairs_of_names = pytest.mark.parametrize(("student", "teacher"), list(product(BUILDERS, BUILDERS)))


def spans(bounds, roles=None):
    bounds = np.array(bounds, np.int64).reshape(-1, 2)
    return Spans(bounds, np.array(roles or [0] * len(bounds), np.int8))


def two_pointers(student, teacher):
    """Groups as the public implementation walks them."""
    left, right, i, j, from_i, from_j = [], [], 0, 0, 0, 0
    while i < len(student) and j < len(teacher):
        a, b = student[i][1], teacher[j][1]
        i, j = i + (a <= b), j + (b <= a)
        if a == b:
            left.append(list(range(from_i, i)))
            right.append(list(range(from_j, j)))
            from_i, from_j = i, j
    if from_i < len(student) or from_j < len(teacher):
        left.append(list(range(from_i, len(student))))
        right.append(list(range(from_j, len(teacher))))
    return left, right


def listed(found):
    return [[np.flatnonzero(side == g).tolist() for g in range(found[2])] for side in found[:2]]


cuts = st.lists(st.integers(0, 12), max_size=12).map(sorted)


def from_cuts(ends):
    return [[a, b] for a, b in zip([0, *ends], ends)]


@given(cuts, cuts)
@settings(max_examples=300)
def test_groups_are_those_of_two_pointers(a, b):
    student, teacher = from_cuts(a), from_cuts(b)
    found = groups(spans(student), spans(teacher), rest=True)
    assert listed(found) == list(two_pointers(student, teacher))
    assert all((side >= 0).all() for side in found[:2])


@given(cuts, cuts, st.integers(-15, 5))
@settings(max_examples=300)
def test_pairs_are_all_tokens_of_equal_bounds(a, b, origin):
    student, teacher = from_cuts(a), from_cuts(b)
    expected = [
        (i, j) for i, s in enumerate(student) for j, t in enumerate(teacher) if s == t and s[0] < s[1]
    ]
    assert list(zip(*exact_pairs(spans(student).moved(origin), spans(teacher).moved(origin)))) == expected


@pairs_of_names
@settings(max_examples=10)
@given(text=texts)
def test_guarantees(student, teacher, text):
    data = text.encode()
    (ids_s, s), (ids_t, t) = encode(vocabulary(student), text), encode(vocabulary(teacher), text)
    at_s, at_t = exact_pairs(s, t)
    assert (np.diff(at_s) > 0).all()
    assert (np.diff(at_t) > 0).all()
    for i, j in zip(at_s, at_t):
        mark = s.roles[i] in (Role.EOS, Role.BOS)
        assert s.roles[i] == t.roles[j]
        assert mark or (s.bounds[i] == t.bounds[j]).all()
        if not mark and {student, teacher} <= set(LOSSLESS) and s.bounds[i, 0]:
            assert vocabulary(student).pieces[ids_s[i]] == vocabulary(teacher).pieces[ids_t[j]]
    group_s, group_t, count = groups(s, t)
    for side in (group_s, group_t):
        assert (np.diff(side[side >= 0]) >= 0).all()
        assert set(side[side >= 0].tolist()) == set(range(count))
    for g in range(count):
        left, right = (
            b"".join(data[a:b] for a, b in x.bounds[of == g]) for x, of in ((s, group_s), (t, group_t))
        )
        assert left == right
    inside = [(i, j) for i, j in zip(at_s, at_t) if s.roles[i] == Role.TEXT]
    assert all(group_s[i] == group_t[j] >= 0 for i, j in inside)


@pytest.mark.parametrize(("student", "teacher"), list(product(LOSSLESS, LOSSLESS)))
@pytest.mark.parametrize("text", TEXTS)
def test_all_text_is_in_groups(student, teacher, text):
    s, t = encode(vocabulary(student), text)[1], encode(vocabulary(teacher), text)[1]
    for side, group in zip((s, t), groups(s, t)):
        assert (group[side.bounds[:, 1] > side.bounds[:, 0]] >= 0).all()


def test_a_space_is_a_byte():
    """The published walk lets ``a b`` match ``ab``."""
    tokens = ["a", "Ġb"], ["a", "b"]
    assert greedy_pairs(*tokens) == ([0, 1], [0, 1])
    at_s, at_t = exact_pairs(spans([[0, 1], [1, 3]]), spans([[0, 1], [2, 3]]))
    assert (at_s.tolist(), at_t.tolist()) == ([0], [0])


def test_text_outside_ascii_aligns():
    """The published walk compares ``Ã©`` with ``é``, and finds nothing after it."""
    text = "café and data"
    gpt2, llama = vocabulary("gpt2"), vocabulary("llama")
    (ids_s, s), (ids_t, t) = (encode(x, text, special_tokens=False) for x in (gpt2, llama))
    walked = greedy_pairs([gpt2.tokens[i] for i in ids_s], [llama.tokens[i] for i in ids_t])
    at_s, _ = exact_pairs(s, t)
    found = [text.encode()[slice(*s.bounds[i])].decode() for i in at_s]
    assert " and" in found
    assert " data" in found
    assert not any(s.bounds[i, 0] > 4 for i in walked[0])


def test_bytes_of_one_character_align():
    text = "😀"
    s, t = encode(vocabulary("gemma"), text)[1], encode(vocabulary("gpt2"), text)[1]
    assert s.bounds.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert t.bounds.tolist() == [[0, 2], [2, 3], [3, 4]]
    at_s, at_t = exact_pairs(s, t)
    assert (at_s.tolist(), at_t.tolist()) == ([2, 3], [1, 2])
    assert listed(groups(s, t)) == [[[0, 1], [2], [3]], [[0], [1], [2]]]


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("text", TEXTS)
def test_one_tokenizer_on_both_sides_pairs_all(name, text):
    """The published alignment cannot be used with identical vocabularies."""
    s = encode(vocabulary(name), text)[1]
    marks = np.isin(s.roles, [Role.BOS, Role.EOS])
    paired = marks | ((s.bounds[:, 0] < s.bounds[:, 1]) & (s.roles != Role.UNK))
    for found in exact_pairs(s, s):
        assert found.tolist() == np.flatnonzero(paired).tolist()
    assert [x.tolist() for x in groups(s, s)[:2]] == [list(range(len(s)))] * 2


def test_ends_match_whatever_they_are_called():
    student = spans([[0, 0], [0, 4], [4, 4], [4, 4]], [Role.BOS, 0, Role.EOS, Role.PAD])
    teacher = spans([[0, 2], [2, 4], [4, 14]], [0, 0, Role.EOS])
    assert [x.tolist() for x in exact_pairs(student, teacher)] == [[2], [2]]
    closed = spans([[0, 2], [2, 4], [4, 4]], [0, 0, Role.EOS])
    assert listed(groups(student, closed)) == [[[1], [2]], [[0, 1], [2]]]


def test_unknown_and_padding_tokens_are_in_no_pair():
    for role in (Role.UNK, Role.PAD):
        side = spans([[0, 2], [2, 4]], [0, role])
        assert [x.tolist() for x in exact_pairs(side, side)] == [[0], [0]]


def test_a_run_with_a_hole_is_no_group():
    assert groups(spans([[0, 2], [4, 6]]), spans([[0, 6]]))[2] == 0
    assert listed(groups(spans([[0, 2], [4, 6]]), spans([[0, 1], [4, 6]]))) == [[[1]], [[1]]]
    assert listed(groups(spans([[1, 3], [3, 5]]), spans([[0, 3], [3, 5]]))) == [[[1]], [[1]]]
    assert listed(groups(spans([[3, 5]]), spans([[0, 3], [3, 4], [4, 5]]))) == [[[0]], [[1, 2]]]


holed = cuts.flatmap(lambda ends: st.tuples(st.just(from_cuts(ends)), st.sets(st.integers(0, 11))))


@given(holed, holed, st.integers(-5, 5))
@settings(max_examples=300)
def test_groups_of_what_masks_leave(a, b, origin):
    """Those of the whole text that lost no token, and more where a hole is a boundary."""
    whole = [spans(bounds) for bounds, _ in (a, b)]
    left = [[i for i in range(len(bounds)) if i not in gone] for bounds, gone in (a, b)]
    some = [Spans(x.bounds[i], x.roles[i]).moved(origin) for x, i in zip(whole, left)]
    found = [
        ([left[0][i] for i in s], [left[1][j] for j in t])
        for s, t in zip(*listed(groups(*some)))
        if any(len({*some[0].bounds[i]}) > 1 for i in s)
    ]
    for s, t in found:
        covered = [[k for i in one for k in range(*x.bounds[i])] for x, one in zip(whole, (s, t))]
        assert covered[0] == covered[1] == list(range(covered[0][0], covered[0][-1] + 1))
    for s, t in zip(*listed(groups(*whole))):
        full = [i for i in s if whole[0].bounds[i, 0] < whole[0].bounds[i, 1]]
        if full and set(s) <= set(left[0]) and set(t) <= set(left[1]):
            assert any(set(full) <= set(kept) for kept, _ in found)


def test_batch():
    rows = ["two  spaces 中", "café", ""]
    s, t = ([encode(vocabulary(name), text)[1] for text in rows] for name in ("gpt2", "llama"))
    masks = [torch.zeros(3, max(map(len, side)) + 2, dtype=torch.bool) for side in (s, t)]
    for mask, side in zip(masks, (s, t)):
        for row, one in enumerate(side):
            mask[row, : len(one)] = True
    masks[0][0, :3] = False
    pairs = align_pairs(s, t, student_mask=masks[0], teacher_mask=masks[1])
    found = align_groups(s, t, student_mask=masks[0], teacher_mask=masks[1])
    assert len(pairs) > 3
    assert masks[0][pairs.rows, pairs.student].all()
    for row, i, j in zip(pairs.rows, pairs.student, pairs.teacher):
        assert (s[row].bounds[i] == t[row].bounds[j]).all()
        assert found.student[row, i] == found.teacher[row, j] >= 0
    assert torch.equal(pairs.to("cpu").teacher, pairs.teacher)
    assert len(found.to("cpu")) == len(found)
    kept = exact_pairs(s[0], t[0])[0]
    assert pairs.student[pairs.rows == 0].tolist() == kept[kept >= 3].tolist()
    assert (found.student[~masks[0]] == -1).all()
    for side in (found.student, found.teacher):
        assert side.unique().tolist() == [*([-1]), *range(len(found))]
        assert (found.rows[side[side >= 0]] == (side >= 0).nonzero()[:, 0]).all()


def test_an_origin_can_be_moved():
    text, prompt = "café data", "Question: "
    s = encode(vocabulary("gpt2"), text)[1]
    t = encode(vocabulary("gpt2"), prompt + text)[1].moved(-len(prompt))
    assert len(exact_pairs(s, t)[0]) >= len(s) - 1


def test_wrong_batches_are_refused():
    mask, one = torch.ones(1, 2, dtype=torch.bool), spans([[0, 1]])
    with pytest.raises(ShapeError, match="unlike batches"):
        unwrap(align_pairs)([one, one], [one], student_mask=mask, teacher_mask=mask)
    with pytest.raises(ShapeError, match="longer than the mask; got 3"):
        unwrap(align_groups)([spans([[0, 1]] * 3)], [one], student_mask=mask, teacher_mask=mask)
    with pytest.raises(ShapeError, match="unlike batches"):
        unwrap(position_pairs)(mask, torch.ones(2, 2, dtype=torch.bool))


def test_positions_by_rank():
    generator = torch.Generator().manual_seed(0)
    student = torch.rand(6, 9, generator=generator) < 0.5
    teacher = torch.rand(6, 7, generator=generator) < 0.5
    teacher[2] = False
    pairs = position_pairs(student, teacher)
    expected = [
        (row, i, j)
        for row in range(6)
        for i, j in zip(student[row].nonzero()[:, 0].tolist(), teacher[row].nonzero()[:, 0].tolist())
    ]
    assert list(zip(pairs.rows.tolist(), pairs.student.tolist(), pairs.teacher.tolist())) == expected


def walk(student, teacher, eos_s, eos_t):
    """The published walk with whole texts."""
    strip = lambda token: token.replace("▁", "").replace("Ġ", "")
    text_s = text_t = ""
    found, i, j = ([], []), 0, 0
    while i < len(student) and j < len(teacher):
        a, b = strip(student[i]), strip(teacher[j])
        if text_s == text_t and (a == b or (student[i] == eos_s and teacher[j] == eos_t)):
            found[0].append(i)
            found[1].append(j)
            both = True
        else:
            both = len(text_s) == len(text_t)
        forth_s, forth_t = both or len(text_t) > len(text_s), both or len(text_s) > len(text_t)
        text_s, text_t = text_s + a * forth_s, text_t + b * forth_t
        i, j = i + forth_s, j + forth_t
    return found


token_lists = st.lists(st.text("ab▁Ġ", max_size=3) | st.just("</s>"), max_size=12)


@given(token_lists, token_lists)
@settings(max_examples=500)
def test_greedy_pairs_are_those_of_the_walk(student, teacher):
    found = greedy_pairs(student, teacher, student_eos="</s>", teacher_eos="</s>")
    assert found == walk(student, teacher, "</s>", "</s>")


def test_a_walk_over_text_that_was_cut_in_two_ways():
    for text in TEXTS:
        tokens = [[vocabulary(n).tokens[i] for i in encode(vocabulary(n), text)[0]] for n in ("gpt2", "qwen")]
        assert greedy_pairs(*tokens) == walk(*tokens, "", "")


def test_a_long_sequence_takes_about_a_millisecond():
    text = "".join(corpus())[:4000]
    s, t = (encode(vocabulary(name), text)[1] for name in ("gpt2", "llama"))
    s, t = (Spans(x.bounds[:512], x.roles[:512]) for x in (s, t))
    for function in (exact_pairs, groups):
        times = []
        for _ in range(20):
            start = time.perf_counter()
            function(s, t)
            times.append(time.perf_counter() - start)
        assert min(times) < 0.005
