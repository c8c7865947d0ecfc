"""Alignments against what published implementations compute, one case for each stored record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from limbeck.vocabulary import Spans, bare, greedy_pairs, groups, warp

GOLDENS = Path(os.environ.get("LIMBECK_GOLDENS", Path(__file__).parent / "goldens"))
CASES = json.loads((GOLDENS / "language.json").read_text())["cases"]


def of(method):
    cases = [case for case in CASES if case["method"] == method]
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["id"])


def spans(bounds):
    return Spans(np.array(bounds, np.int64).reshape(-1, 2), np.zeros(len(bounds), np.int8))


@of("trl.gold.align_by_byte_offsets")
def test_groups(case):
    hyper = case["hyper"]
    *sides, count = groups(spans(hyper["student_offsets"]), spans(hyper["teacher_offsets"]), rest=True)
    for side, name in zip(sides, ("student", "teacher")):
        found = [np.flatnonzero(side == g).tolist() for g in range(count)]
        assert found == hyper[f"expected_{name}_groups"]


@of("dskd_v2.eta_align")
def test_exact_token_alignment(case):
    hyper = case["hyper"]
    eos = {f"{side}_eos": hyper[f"{side}_eos"] for side in ("student", "teacher")}
    student, teacher = greedy_pairs(hyper["student_tokens"], hyper["teacher_tokens"], **eos)
    assert (student, teacher) == (hyper["student_idx"], hyper["teacher_idx"])


@of("mined.dtw")
def test_minimum_edit_distance(case):
    hyper = case["hyper"]
    student, teacher = ([bare(token) for token in hyper[f"{side}_tokens"]] for side in ("student", "teacher"))
    found = warp(student, teacher)
    with np.load(GOLDENS / "language.npz") as arrays:
        assert (found.matrix == arrays[case["outputs"]["matrix"]]).all()
    assert found.cost == hyper["cost"]
    path = list(zip(found.teacher.tolist(), found.student.tolist()))
    assert path == [tuple(step) for step in hyper["matches"]]
    for t, expected in enumerate(hyper["teacher_to_student"]):
        assert [b for a, b in path if a == t] == expected
    single = [s for s, mapped in enumerate(hyper["student_to_teacher"]) if len(mapped) == 1]
    assert found.one_to_one(published=True)[0].tolist() == single
