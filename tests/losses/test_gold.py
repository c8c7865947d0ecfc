"""GOLD against a loop over its groups; published numbers are in tests/parity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import gold

TOKENS = torch.tensor([1, 4, 0, 2, 3]), torch.tensor([0, 3, 1, 2])
GROUPS = torch.tensor([0, 0, -1, 1, 2]), torch.tensor([0, 1, 1, 2])
SHARED = torch.tensor([0, 2, 4]), torch.tensor([1, 0, 3])


def logits(seed: int = 0, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(
        (torch.randn(*shape, generator=draw, dtype=torch.float64) * scale).to(dtype).requires_grad_(i == 0)
        for i, shape in enumerate(((5, 6), (4, 7)))
    )  # type: ignore[return-value]


def by_hand(student: Tensor, teacher: Tensor, merge: str, hybrid: bool) -> Tensor:
    merged = []
    for z, ids, groups in zip((student, teacher), TOKENS, GROUPS, strict=True):
        p, rows = torch.softmax(z, 1), []
        for g in range(3):
            at = (groups == g).nonzero().flatten().tolist()
            base = at.pop() if merge == "bayesian" else at.pop(0)
            rows.append(
                p[base] * torch.stack([p[i, ids[i]] for i in at] + [torch.ones((), dtype=z.dtype)]).prod()
            )
        merged.append(torch.stack(rows))
    q, p = merged
    near, weights = torch.zeros(3, dtype=q.dtype), (0.0, 1.0)
    if hybrid:
        a, b = q[:, SHARED[0]], p[:, SHARED[1]]
        m = 0.3 * b + 0.7 * a
        near = (0.3 * b * (b / m).log() + 0.7 * a * (a / m).log()).sum(1)
        weights = (3 / 7, 4 / 7)
        q, p = (
            x[:, [k for k in range(x.shape[1]) if k not in ids]]
            for x, ids in zip((q, p), SHARED, strict=True)
        )
    q = torch.cat([q, q.new_zeros(3, p.shape[1] - q.shape[1])], 1)
    return weights[0] * near + weights[1] * (q.sort(1).values - p.sort(1).values).abs().sum(1)


@pytest.mark.parametrize("merge", ["bayesian", "observed"])
@pytest.mark.parametrize("hybrid", [False, True])
def test_is_the_formula(merge: str, hybrid: bool) -> None:
    student, teacher = logits()
    more = {"shared": SHARED, "beta": 0.3} if hybrid else {}
    found = gold(student, teacher, TOKENS, GROUPS, merge=merge, reduction="none", **more)
    wanted = by_hand(student, teacher, merge, hybrid)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gold(student, teacher, TOKENS, GROUPS, merge=merge, **more), wanted.mean())
    ours, theirs = (torch.autograd.grad(x.sum(), student, retain_graph=True)[0] for x in (found, wanted))
    torch.testing.assert_close(ours, theirs)
    assert ours[2].abs().sum() == 0, "a token without a group is not asked about"


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_ends_of_beta_are_a_single_divergence(beta: float) -> None:
    student, teacher = logits()
    found = gold(student, teacher, TOKENS, GROUPS, shared=SHARED, weights=(1.0, 0.0), beta=beta)
    near = gold(student, teacher, TOKENS, GROUPS, shared=SHARED, weights=(1.0, 0.0), beta=abs(beta - 1e-9))
    assert found.isfinite()
    assert not torch.isclose(found, near, rtol=1e-3), "the formula's own limits are 0"


def test_large_logits_and_low_precision_stay_finite() -> None:
    for scale, dtype in ((300.0, torch.float32), (2.0, torch.bfloat16)):
        student, teacher = logits(scale=scale, dtype=dtype)
        loss = gold(student, teacher, TOKENS, GROUPS, shared=SHARED)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_equal_models_are_not_apart_and_nothing_is_connected() -> None:
    student, _ = logits()
    tokens, groups = (TOKENS[0], TOKENS[0]), (GROUPS[0], GROUPS[0])
    every = torch.arange(6), torch.arange(6)
    assert gold(student, student.detach(), tokens, groups) == 0
    assert gold(student, student.detach(), tokens, groups, shared=every).abs() < 1e-12
    none = torch.full_like(GROUPS[0], -1)
    nothing = gold(student, student.detach(), tokens, (none, none))
    assert nothing == 0
    assert nothing.requires_grad


def test_wrong_input_is_named() -> None:
    student, teacher = logits()
    with pytest.raises(ShapeError, match="the teacher's logits, tokens and groups do not fit"):
        gold(student, teacher, (TOKENS[0], TOKENS[0]), GROUPS)
    with pytest.raises(ShapeError, match="one side only"):
        gold(student, teacher, TOKENS, (GROUPS[0], torch.tensor([0, 1, 1, -1])))
    with pytest.raises(ShapeError, match=r"one side only.*group 1"):
        gold(student, teacher, TOKENS, (GROUPS[0], torch.tensor([0, 2, 2, 2])))
    with pytest.raises(ConfigError, match="merge is not valid"):
        gold(student, teacher, TOKENS, GROUPS, merge="last")
