"""Figures against other libraries and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck.evaluation import classification_arrays, classification_metrics, rows

few = settings(max_examples=40, deadline=None)


def draw(n: int, classes: int, seed: int, scale: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    teacher = logits + torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (n,), generator=generator), teacher


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (7, 2), (50, 3), (400, 10), (300, 100)])
def test_agrees_with_torchmetrics(n: int, classes: int) -> None:
    from torchmetrics.functional import classification as oracle

    logits, labels, _ = draw(n, classes, seed=n)
    ours = classification_metrics(logits, labels)
    p = logits.softmax(1)
    shape = {"num_classes": classes}
    assert ours["accuracy"] == pytest.approx(
        float(oracle.multiclass_accuracy(p, labels, average="micro", **shape))
    )
    assert ours["ece"] == pytest.approx(
        float(oracle.multiclass_calibration_error(p, labels, n_bins=15, **shape)), abs=1e-6
    )
    arrays = classification_arrays(logits, labels)
    confusion = oracle.multiclass_confusion_matrix(p, labels, **shape)
    np.testing.assert_array_equal(arrays["confusion"], confusion.numpy())
    assert ("top5" in ours) == (classes > 5)
    if classes > 5:
        top5 = oracle.multiclass_accuracy(p, labels, average="micro", top_k=5, **shape)
        assert ours["top5"] == pytest.approx(float(top5))


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_agrees_with_netcal(classes: int) -> None:
    from netcal.metrics import ECE

    logits, labels, _ = draw(500, classes, seed=classes)
    p = logits.softmax(1)
    # As (confidence, correct): from two columns netcal would bin the second class's probability instead.
    correct = (p.argmax(1) == labels).long()
    expected = ECE(15).measure(p.amax(1).numpy(), correct.numpy())
    ours = classification_metrics(logits, labels)["ece"]
    assert ours == pytest.approx(float(expected), abs=1e-12)
    if classes > 2:
        assert ours == pytest.approx(float(ECE(15).measure(p.numpy(), labels.numpy())), abs=1e-12)


@few
@given(st.integers(2, 60), st.integers(2, 12), st.integers(0, 10**6))
def test_agrees_with_scikit_learn_and_scipy(n: int, classes: int, seed: int) -> None:
    from scipy.stats import entropy
    from sklearn.metrics import confusion_matrix, log_loss, recall_score
    from sklearn.metrics.pairwise import cosine_similarity

    logits, labels, teacher = draw(n, classes, seed)
    p, q, y = logits.softmax(1).numpy(), teacher.softmax(1).numpy(), labels.numpy()
    predicted, every = p.argmax(1), np.arange(classes)
    ours, arrays = (
        classification_metrics(logits, labels, teacher),
        classification_arrays(logits, labels, teacher),
    )
    assert ours["nll"] == pytest.approx(log_loss(y, p, labels=every))
    assert ours["brier"] == pytest.approx(((p - np.eye(classes)[y]) ** 2).sum(1).mean())
    assert ours["entropy"] == pytest.approx(entropy(p, axis=1).mean())
    assert ours["entropy_fraction"] == pytest.approx(entropy(p, axis=1, base=classes).mean())
    assert ours["teacher_kl"] == pytest.approx(entropy(q, p, axis=1).mean())
    assert ours["agreement"] == pytest.approx((predicted == q.argmax(1)).mean())
    present = np.unique(y)
    recall = recall_score(y, predicted, labels=present, average=None)
    assert ours["macro_recall"] == pytest.approx(recall.mean())
    np.testing.assert_allclose(arrays["recall"][present], recall)
    assert np.isnan(np.delete(arrays["recall"], present)).all()
    np.testing.assert_allclose(arrays["class_cosine"], cosine_similarity(p.T), atol=1e-9)
    np.testing.assert_allclose(arrays["teacher_class_cosine"], cosine_similarity(q.T), atol=1e-9)
    expected = confusion_matrix(q.argmax(1), predicted, labels=every)
    np.testing.assert_array_equal(arrays["teacher_student"], expected)


def test_agrees_with_scikit_learn_on_two_class_brier() -> None:
    from sklearn.metrics import brier_score_loss

    logits, labels, _ = draw(80, 2, seed=3)
    half = brier_score_loss(labels.numpy(), logits.softmax(1)[:, 1].numpy())
    assert classification_metrics(logits, labels)["brier"] == pytest.approx(2 * half)


@few
@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 10**6), st.sampled_from([0.1, 3.0, 300.0]))
def test_bounds_and_invariances(n: int, classes: int, seed: int, scale: float) -> None:
    logits, labels, teacher = draw(n, classes, seed, scale)
    ours = classification_metrics(logits, labels, teacher)
    assert all(math.isfinite(v) for v in ours.values())
    for name in ("accuracy", "ece", "entropy_fraction", "confidence", "macro_recall", "agreement"):
        assert -1e-12 <= ours[name] <= 1 + 1e-12
    assert 0 <= ours["brier"] <= 2 + 1e-12
    assert 0 <= ours["class_orthogonality"] <= 1 + 1e-12
    assert ours["teacher_kl"] >= -1e-9
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    shuffled = classification_metrics(logits[order], labels[order], teacher[order])
    assert shuffled == pytest.approx(ours, abs=1e-9)
    names = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    renamed = classification_metrics(logits[:, names], names.argsort()[labels], teacher[:, names])
    assert renamed == pytest.approx(ours, abs=1e-9)
    shifted = classification_metrics(logits + 5.0, labels, teacher - 3.0)
    assert shifted == pytest.approx(ours, abs=1e-6)


@few
@given(st.integers(1, 50), st.integers(2, 8), st.integers(1, 60), st.integers(0, 10**6))
def test_does_not_depend_on_the_pieces(n: int, classes: int, piece: int, seed: int) -> None:
    logits, labels, teacher = draw(n, classes, seed)
    whole, arrays = (
        classification_metrics(logits, labels, teacher),
        classification_arrays(logits, labels, teacher),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PIECE", piece)
        assert classification_metrics(logits, labels, teacher) == pytest.approx(whole, abs=1e-12)
        for name, value in classification_arrays(logits, labels, teacher).items():
            np.testing.assert_allclose(value, arrays[name], atol=1e-12)


@few
@given(st.integers(1, 50), st.integers(2, 8), st.integers(0, 10**6))
def test_arrays_and_figures_tell_the_same(n: int, classes: int, seed: int) -> None:
    logits, labels, teacher = draw(n, classes, seed)
    ours, arrays = (
        classification_metrics(logits, labels, teacher),
        classification_arrays(logits, labels, teacher),
    )
    counts = arrays["reliability_count"]
    gap = np.abs(arrays["reliability_accuracy"] - arrays["reliability_confidence"])
    assert counts.shape == (15,)
    assert counts.sum() == arrays["teacher_reliability_count"].sum() == n
    assert np.nansum(gap * counts) / n == pytest.approx(ours["ece"])
    assert np.trace(arrays["confusion"]) / n == pytest.approx(ours["accuracy"])
    assert np.trace(arrays["teacher_student"]) / n == pytest.approx(ours["agreement"])
    assert np.nanmean(arrays["recall"]) == pytest.approx(ours["macro_recall"])
    cosine = arrays["class_cosine"]
    between = (cosine.sum() - np.trace(cosine)) / (classes * (classes - 1))
    assert between == pytest.approx(ours["class_orthogonality"], abs=1e-9)


@few
@given(st.integers(1, 30), st.integers(2, 8), st.integers(0, 10**6))
def test_rows_without_label_are_left_out(n: int, classes: int, seed: int) -> None:
    logits, labels, teacher = draw(n, classes, seed)
    kept = torch.arange(n) % 2 == 0
    hidden = torch.where(kept, labels, -100)
    poisoned = torch.where(kept[:, None], logits, math.nan)
    assume(bool(kept.any()))
    assert classification_metrics(poisoned, hidden, teacher) == pytest.approx(
        classification_metrics(logits[kept], labels[kept], teacher[kept])
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_float64(dtype: torch.dtype) -> None:
    logits, labels, _ = draw(100, 10, seed=0)
    low = logits.to(dtype).requires_grad_()
    assert classification_metrics(low, labels) == classification_metrics(low.double(), labels)


def test_closed_forms() -> None:
    uniform = torch.zeros(6, 4)
    ours = classification_metrics(uniform, torch.tensor([0, 0, 0, 1, 2, 3]))
    assert ours["nll"] == pytest.approx(math.log(4))
    assert ours["entropy_fraction"] == pytest.approx(1.0)
    assert ours["brier"] == pytest.approx(0.75)
    assert ours["accuracy"] == pytest.approx(0.5)  # equal logits: the first class
    assert ours["ece"] == pytest.approx(0.25)
    assert ours["class_orthogonality"] == pytest.approx(1.0)
    sure = 1000.0 * torch.eye(6)
    ours = classification_metrics(sure, torch.arange(6), sure)
    assert (ours["accuracy"], ours["ece"], ours["nll"], ours["teacher_kl"]) == (1.0, 0.0, 0.0, 0.0)
    assert ours["class_orthogonality"] == 0.0
    assert (ours["top5"], ours["agreement"]) == (1.0, 1.0)


def test_equal_logits_do_not_flatter_top5() -> None:
    ours = classification_metrics(torch.zeros(10, 10), torch.arange(10))
    assert (ours["accuracy"], ours["top5"]) == (0.1, 0.5)


def test_wrong_and_certain_stays_finite() -> None:
    ours = classification_metrics(torch.tensor([[300.0, -300.0]]), torch.tensor([1]))
    assert ours["nll"] == pytest.approx(600.0)
    assert (ours["brier"], ours["ece"]) == (pytest.approx(2.0), pytest.approx(1.0))


def test_many_classes_have_no_matrices() -> None:
    logits, labels, teacher = draw(3, 5000, seed=1)
    arrays = classification_arrays(logits, labels, teacher)
    assert not any(value.size >= 5000**2 for value in arrays.values())
    assert arrays["recall"].shape == (5000,)
    assert classification_metrics(logits, labels)["class_orthogonality"] >= 0


def test_memory_is_bounded_by_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor made from many rows is no larger than a piece."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not out._is_view() and out.data_ptr() not in given_memory:
                largest = max(largest, out.numel())
            return out

    monkeypatch.setattr(rows, "PIECE", 2000)
    logits, labels, teacher = draw(5000, 20, seed=0)
    given_memory = {logits.data_ptr(), labels.data_ptr(), teacher.data_ptr()}
    with Watch():
        classification_metrics(logits, labels, teacher)
        classification_arrays(logits, labels, teacher)
    assert 0 < largest <= 2000
