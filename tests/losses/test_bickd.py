"""BicKD against a transcription of its formula, and its edge cases."""

from __future__ import annotations

import inspect
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from limbeck.errors import ConfigError, ShapeError
from limbeck.losses import bickd, bickd_class, bickd_sample

CHOICES = {
    "similarity": ("cosine", "dot"),
    "form": ("infonce", "orthogonal"),
    "direction": ("both", "teacher", "student"),
    "mask_same_label": (True, False),
    "multi_positive": (False, True),
    "student_negatives": (False, True),
    "classes": ("all", "present"),
}
VARIANTS = [dict(zip(CHOICES, values)) for values in itertools.product(*CHOICES.values())]


def draw(n: int, c: int, seed: int = 0, size: float = 2.0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(n, c, generator=generator, dtype=dtype) * size for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(c, (n,), generator=generator)


def transcribed(
    student, teacher, labels, *, temperature=4.0, contrast_temperature=0.1, similarity="cosine",
    form="infonce", direction="both", mask_same_label=True, multi_positive=False, student_negatives=False,
    classes="all", mu=1.0, sample_weight=1.0, class_weight=1.0,
):  # fmt: skip
    """Anchor by anchor, as one would say it."""
    p, q = torch.softmax(student / temperature, 1), torch.softmax(teacher / temperature, 1)
    kinds = torch.where(labels == -100, teacher.argmax(1), labels)

    def like(a: Tensor, b: Tensor) -> Tensor:
        return a @ b / (a.norm() * b.norm()) if similarity == "cosine" else a @ b

    def anchor(i, mine, other, group):
        positives = [j for j in range(len(mine)) if j == i or (multi_positive and group[j] == group[i])]
        if multi_positive or mask_same_label:
            negatives = [j for j in range(len(mine)) if group[j] != group[i]]
        else:
            negatives = [j for j in range(len(mine)) if j != i]
        if form == "orthogonal":
            value = sum((1 - like(mine[i], other[j])) ** 2 for j in positives) / len(positives)
            return value + mu * sum(like(mine[i], other[j]) ** 2 for j in negatives)
        candidates = [like(mine[i], other[j]) for j in {*positives, *negatives}]
        if student_negatives:
            candidates += [like(mine[i], mine[j]) for j in negatives]
        total = torch.logsumexp(torch.stack(candidates) / contrast_temperature, 0)
        return total - sum(like(mine[i], other[j]) for j in positives) / len(positives) / contrast_temperature

    def side(s, t, group):
        n = len(s)
        of_teacher = sum(anchor(i, t, s, group) for i in range(n)) / n
        of_student = sum(anchor(i, s, t, group) for i in range(n)) / n
        if form == "orthogonal":
            own = [(i, j) for i in range(n) for j in range(n) if i != j]
            if multi_positive or mask_same_label:
                own = [(i, j) for i, j in own if group[i] != group[j]]
            extra = mu * sum(like(s[i], s[j]) ** 2 for i, j in own) / n if student_negatives else 0
            return of_teacher + extra
        return {"both": (of_teacher + of_student) / 2, "teacher": of_teacher, "student": of_student}[
            direction
        ]

    columns = sorted(set(kinds.tolist())) if classes == "present" else list(range(p.shape[1]))
    each = list(range(len(columns)))
    value = sample_weight * side(p, q, kinds.tolist())
    multi_positive = False
    return value + class_weight * side(p.T[columns], q.T[columns], each)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: "-".join(str(v) for v in o.values()))
def test_every_variant_equals_its_transcription(options):
    student, teacher, labels = draw(5, 4)
    labels[2] = -100
    expected = transcribed(student, teacher, labels, mu=0.3, class_weight=0.7, **options)
    (gradient,) = torch.autograd.grad(expected, student)
    for chunk in (None, 2):
        got = bickd(student, teacher, labels, mu=0.3, class_weight=0.7, chunk_size=chunk, **options)
        assert torch.allclose(got, expected, rtol=1e-10)
        assert torch.allclose(torch.autograd.grad(got, student)[0], gradient, rtol=1e-8, atol=1e-12)


@given(st.integers(1, 9), st.integers(2, 9), st.integers(1, 12), st.sampled_from(VARIANTS))
def test_chunks_change_nothing(n, c, chunk, options):
    student, teacher, labels = draw(n, c, seed=n * 31 + c)
    whole, parts = (bickd(student, teacher, labels, chunk_size=size, **options) for size in (None, chunk))
    assert torch.allclose(whole, parts, rtol=1e-10, atol=1e-12)
    first, second = (torch.autograd.grad(x, student)[0] for x in (whole, parts))
    assert torch.allclose(first, second, rtol=1e-8, atol=1e-12)


@given(st.integers(1, 8), st.integers(2, 8), st.randoms(use_true_random=False))
def test_order_of_rows_and_classes_does_not_matter(n, c, random):
    student, teacher, labels = draw(n, c, seed=n * 17 + c)
    rows, columns = random.sample(range(n), n), random.sample(range(c), c)
    renamed = torch.tensor([columns.index(int(label)) for label in labels])
    moved = bickd(student[rows][:, columns], teacher[rows][:, columns], renamed[rows])
    assert torch.allclose(moved, bickd(student, teacher, labels), rtol=1e-10)


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_one_hot_identity(k, tau):
    logits = 1e4 * torch.eye(k, dtype=torch.float64)
    expected = math.log(1 + (k - 1) * math.exp(-1 / tau))
    for side in (bickd_sample, bickd_class):
        got = side(logits, logits, temperature=1.0, contrast_temperature=tau)
        assert float(got) == pytest.approx(expected, rel=1e-9)


def test_identical_networks_are_orthogonal_at_zero():
    logits = 1e4 * torch.eye(4)
    assert float(bickd(logits, logits, form="orthogonal", temperature=1.0)) == 0


def test_one_row_says_nothing():
    student, teacher, labels = draw(1, 6)
    loss = bickd(student, teacher, labels)
    assert float(loss.detach()) == pytest.approx(math.log(6))
    assert float(bickd_sample(student, teacher, labels).detach()) == 0
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-12


def test_one_class_only_has_no_sample_side():
    student, teacher, _ = draw(6, 4)
    assert float(bickd_sample(student.detach(), teacher, torch.full((6,), 2))) == pytest.approx(0, abs=1e-12)


def test_more_classes_than_rows_and_missing_classes():
    student, teacher, _ = draw(3, 50, dtype=torch.float32)
    labels = torch.tensor([4, 4, 9])
    present = bickd_class(student, teacher, labels, classes="present")
    two = bickd_class(student[:, [4, 9]], teacher[:, [4, 9]])
    assert present != two  # the softmax still runs over all classes
    for loss in (bickd(student, teacher, labels), present):
        (gradient,) = torch.autograd.grad(loss, student)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("options", VARIANTS[::7], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_columns_stay_finite(options, dtype):
    student, teacher, labels = draw(6, 5, dtype=torch.float32)
    student = (student.detach() * 150).to(dtype).requires_grad_()
    loss = bickd(student, (teacher * 150).to(dtype), labels, temperature=1.0, **options)
    assert (torch.softmax(student.float(), 1).sum(0) < 1e-8).any()
    assert loss.dtype == torch.float32
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.dtype == dtype
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_autocast_does_not_lower_the_precision():
    student, teacher, labels = draw(16, 10, dtype=torch.float32)
    expected = torch.autograd.grad(bickd(student, teacher, labels), student)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss = bickd(student, teacher, labels)
        got = torch.autograd.grad(loss, student)[0]
    assert torch.equal(got, expected)


def test_sides_add_up():
    student, teacher, labels = draw(7, 5)
    both = bickd(student, teacher, labels, sample_weight=2.0, class_weight=3.0)
    apart = 2 * bickd_sample(student, teacher, labels) + 3 * bickd_class(student, teacher)
    assert torch.allclose(both, apart)
    student = student.detach()
    assert float(bickd(student, teacher, labels, sample_weight=0.0, class_weight=0.0)) == 0


def test_the_teachers_argmax_stands_in_for_missing_labels():
    student, teacher, labels = draw(7, 5)
    guessed = labels.clone()
    guessed[::2] = teacher.argmax(1)[::2]
    labels[::2] = -100
    assert torch.equal(bickd(student, teacher, labels), bickd(student, teacher, guessed))
    assert torch.equal(bickd(student, teacher), bickd(student, teacher, teacher.argmax(1)))


def test_many_classes_never_hold_a_square_matrix():
    student, teacher, labels = draw(4, 9000, dtype=torch.float32)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            sizes.extend(x.numel() for x in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(x))
            return out

    with Watch():
        bickd(student, teacher, labels).backward()
    assert max(sizes) <= 2**24
    assert 2**24 < 9000**2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"direction": "teachers"}, "direction is not valid; got 'teachers'; expected 'teacher'"),
        ({"form": "nce"}, "form is not valid"),
        ({"similarity": "cosin"}, "'cosine'"),
        ({"classes": "some"}, "classes is not valid"),
        ({"contrast_temperature": 0.0}, "contrast_temperature is not valid; got 0.0"),
        ({"chunk_size": 0}, "chunk_size"),
    ],
)
def test_wrong_options_are_named(options, words):
    student, teacher, labels = draw(3, 3)
    with pytest.raises(ConfigError, match=words):
        inspect.unwrap(bickd)(student, teacher, labels, **options)


def test_wrong_labels_are_named():
    student, teacher, _ = draw(3, 3)
    with pytest.raises(ShapeError, match="not one of the classes; got 3; expected 0 to 2"):
        bickd(student, teacher, torch.tensor([0, 1, 3]))
