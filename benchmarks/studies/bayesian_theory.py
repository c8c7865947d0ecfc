"""What noisy class probabilities cost SGD: closed forms beside simulations on Gaussian classes with known posteriors.

    python benchmarks/studies/bayesian_theory.py       # some minutes on one core

1. The noise of targets at the optimum, measured and in closed form. 2. The floor of linear students along training,
from the optimum and from 0. 3. The mixing weight. 4. Targets that are drawn once for each sample and reused. 5. The
paper's protocol: an MLP, batch 1, momentum. Every number is over seeds, with half of a 95 % interval; each part's gates
are asserted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from limbeck.bayes.theory import (
    EXACT,
    ONE_HOT,
    Course,
    GaussianClasses,
    additive_noise,
    best_mixing,
    dirichlet,
    dirichlet_noise,
    label_noise,
    linear_course,
    measured_noise,
    with_one,
)

KINDS = {
    "one-hot": ONE_HOT,
    "Dirichlet(0.5)": 0.5,
    "Dirichlet(5)": 5.0,
    "Dirichlet(50)": 50.0,
    "exact": EXACT,
}


def interval(values: Tensor) -> tuple[float, float]:
    """Mean and half of the 95 % t interval."""
    n = len(values)
    return float(values.mean()), float(stats.t.ppf(0.975, n - 1) * values.std() / n**0.5)


def identities(data: GaussianClasses) -> dict[str, Any]:
    """Part 1: measured over one million samples beside the closed form."""
    draws = torch.Generator().manual_seed(1)
    x, p, y = data.draw(1_000_000, draws)
    found = {}
    for name, a in KINDS.items():
        found[name] = {
            "closed": dirichlet_noise(x, p, a),
            "measured": measured_noise(x, p, dirichlet(p, a, y, draws)),
        }
    noisy = p + 0.1 * torch.randn(p.shape, generator=draws, dtype=p.dtype)
    found["additive, sd 0.1"] = {
        "closed": additive_noise(x, p, 0.01),
        "measured": measured_noise(x, p, noisy),
    }
    for row in found.values():
        assert abs(row["measured"] - row["closed"]) <= 0.01 * max(row["closed"], 1e-9), row
    return found


def floors(
    data: GaussianClasses, students: int, steps: int, from_optimum: bool
) -> tuple[dict[str, Any], Course]:
    """Part 2: excess risk of linear students at rate 0.01."""
    course = linear_course(
        data, list(KINDS.values()), students=students, steps=steps, from_optimum=from_optimum, seed=2
    )
    x, p, _ = data.draw(200_000, torch.Generator().manual_seed(3))
    sigma = label_noise(x, p)
    excess, moves = (v.view(len(KINDS), students) for v in (course.floor(), course.fluctuation()))
    noise = course.noise[-len(course.noise) // 3 :].mean(0).view(len(KINDS), students)
    found = {}
    for i, (name, a) in enumerate(KINDS.items()):
        ratio = (excess[i] - excess[-1]) / (excess[0] - excess[-1])
        found[name] = {
            "excess": interval(excess[i]),
            "fluctuation": interval(moves[i]),
            "floor in closed form": 0.01 * dirichlet_noise(x, p, a) / 4,
            "noise": interval(noise[i]),
            "noise in closed form": dirichlet_noise(x, p, a),
            "ratio": interval(ratio),
            "ratio in closed form": 0.0 if a == EXACT else 1 / (a + 1),
        }
    means = [float(row.mean()) for row in excess]
    assert means == sorted(means, reverse=True), means
    for row in found.values():
        assert abs(row["ratio"][0] - row["ratio in closed form"]) < 0.05, row
    assert abs(found["one-hot"]["excess"][0] / (0.01 * sigma / 4) - 1) < 0.15, found["one-hot"]
    return found, course


def mixing(data: GaussianClasses, students: int, steps: int) -> dict[str, Any]:
    """Part 3: labels beside a Dirichlet(5) teacher that is independent of them."""
    weights = [0.0, 0.25, 0.5, 0.75, 6 / 7, 1.0]
    course = linear_course(
        data, [5.0] * 6, mixing=weights, students=students, steps=steps, from_optimum=True, seed=4
    )
    floor = course.floor().view(6, students)
    x, p, _ = data.draw(200_000, torch.Generator().manual_seed(3))
    label, teacher = label_noise(x, p), dirichlet_noise(x, p, 5.0)
    found = {
        f"{w:.3f}": {
            "excess": interval(floor[i]),
            "closed": 0.01 / 4 * ((1 - w) ** 2 * label + w**2 * teacher),
        }
        for i, w in enumerate(weights)
    }
    assert abs(best_mixing(label, teacher)[0] - 6 / 7) < 1e-9
    assert int(floor.mean(1).argmin()) == 4, floor.mean(1)
    return found


def reused(data: GaussianClasses, students: int, steps: int) -> dict[str, Any]:
    """Part 4: 1000 samples, seen again and again; Dirichlet(5) targets drawn anew, or once for each sample."""
    draws, rate, found = torch.Generator().manual_seed(6), 0.01, {}
    excess: dict[str, list[float]] = {name: [] for name in ("exact", "drawn anew", "drawn once", "labels")}
    looked, truth, _ = data.draw(4000, draws)
    for _ in range(students):
        x, p, y = data.draw(1000, draws)
        once = dirichlet(p, 5.0, y, draws)
        w = torch.zeros(4, *data.optimum().shape, dtype=p.dtype)
        late = []
        for done in range(steps):
            if done % 1000 == 0:
                order = torch.randperm(1000, generator=draws)
                anew = dirichlet(p, 5.0, y, draws)
                each = torch.stack([p, anew, once, dirichlet(p, ONE_HOT, y, draws)])
            i = order[done % 1000]
            one = with_one(x[i])
            error = (one @ w).softmax(1) - each[:, i]
            w -= rate * one[None, :, None] * error[:, None]
            if done >= steps * 2 / 3 and done % (steps // 60) == 0:
                student = (with_one(looked) @ w).log_softmax(2)
                late.append((truth * (truth.log() - student)).sum(2).mean(1))
        for name, value in zip(excess, torch.stack(late).mean(0).tolist(), strict=True):
            excess[name].append(value)
    for name, values in excess.items():
        found[name] = {"excess": interval(torch.tensor(values))}
    assert found["drawn once"]["excess"][0] > found["drawn anew"]["excess"][0] > found["exact"]["excess"][0]
    return found


def mlp(data: GaussianClasses, students: int, steps: int) -> tuple[dict[str, Any], Course]:
    """Part 5: 30-128-128-5, momentum 0.9, rate 5e-4, batch 1; all students side by side, gradients by hand."""
    draws, kinds = torch.Generator().manual_seed(7), list(KINDS.values())
    looked, truth, labels = (v.float() if v.is_floating_point() else v for v in data.draw(4000, draws))
    count, sizes = len(kinds) * students, (30, 128, 128, 5)
    weights = [
        ((torch.rand(students, a + 1, b, generator=draws) * 2 - 1) / a**0.5).repeat(len(kinds), 1, 1)
        for a, b in pairwise(sizes)
    ]
    moved = [torch.zeros_like(w) for w in weights]
    every = steps // 60
    excess, right = [], []
    for done in range(every * 60):
        if done % every == 0:
            x, p, y = data.draw(every * students, draws)
            q = torch.stack([dirichlet(p, a, y, draws) for a in kinds]).float()
            q = q.view(len(kinds), every, students, 5).transpose(0, 1).reshape(every, count, 5)
            x = x.float().view(every, students, 30).repeat(1, len(kinds), 1)
        i = done % every
        layers = [with_one(x[i])]
        for w in weights[:-1]:
            layers.append(with_one(torch.bmm(layers[-1][:, None], w)[:, 0].relu()))
        error = torch.bmm(layers[-1][:, None], weights[-1])[:, 0].softmax(1) - q[i]
        for layer in (2, 1, 0):
            back = torch.bmm(weights[layer], error[:, :, None])[:, :-1, 0] if layer else None
            moved[layer].mul_(0.9).baddbmm_(layers[layer][:, :, None], error[:, None])
            weights[layer] -= 5e-4 * moved[layer]
            if back is not None:
                error = back * (layers[layer][:, :-1] > 0)
        if i == every - 1:
            out = looked.expand(count, -1, -1)
            for number, w in enumerate(weights):
                out = torch.bmm(with_one(out), w)
                out = out.relu() if number < 2 else out.log_softmax(2)
            excess.append((truth * (truth.log() - out)).sum(2).mean(1).double())
            right.append((out.argmax(2) == labels).double().mean(1))
    course = Course(every * torch.arange(1, 61), torch.stack(excess), torch.zeros(60, count))
    accuracy = torch.stack(right)[-20:].mean(0).view(len(kinds), students)
    floor, moves = (v.view(len(kinds), students) for v in (course.floor(), course.fluctuation()))
    found = {
        name: {
            "accuracy": interval(accuracy[i]),
            "excess": interval(floor[i]),
            "fluctuation": interval(moves[i]),
        }
        for i, name in enumerate(KINDS)
    }
    means = floor.mean(1)
    assert means.tolist() == sorted(means.tolist(), reverse=True), means
    assert means[-1] < means[0] / 3, means
    assert moves.mean(1)[-1] < moves.mean(1)[0] / 4, moves.mean(1)
    return found, course


def picture(courses: dict[str, Course], students: int, path: Path) -> None:
    """Excess risk along training for each kind of target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(courses), figsize=(5 * len(courses), 3.6), layout="constrained")
    for axis, (title, course) in zip(axes, courses.items(), strict=True):
        lines = course.excess.view(len(course.steps), len(KINDS), students)
        for i, name in enumerate(KINDS):
            axis.plot(course.steps, lines[:, i].mean(1).clamp(min=1e-6), label=name)
        axis.set(title=title, xlabel="step", yscale="log", ylim=(1e-5, None))
    axes[0].set_ylabel("excess risk (nats)")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(words: Sequence[str] | None = None) -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=8, help="of each kind")
    parser.add_argument("--steps", type=int, default=45_000)
    parser.add_argument("--output", type=Path, default=Path("docs/results/bayesian-theory.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/bayesian-theory.png"))
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    data, started = GaussianClasses(), time.perf_counter()
    found: dict[str, Any] = {"students": chosen.students, "steps": chosen.steps}
    courses: dict[str, Course] = {}

    def told(name: str, result: Any) -> None:
        found[name] = result
        print(f"\n{name}  ({time.perf_counter() - started:.0f} s)")
        for key, row in result.items():
            print(
                f"  {key:18s}",
                {
                    k: [round(x, 5) for x in v] if isinstance(v, tuple) else round(v, 5)
                    for k, v in row.items()
                },
            )

    told("noise at the optimum", identities(data))
    for name, start in (("from the optimum", True), ("from 0", False)):
        result, courses[f"linear, {name}"] = floors(data, chosen.students, chosen.steps, start)
        told(f"linear, {name}", result)
    told("mixing", mixing(data, chosen.students, chosen.steps))
    told("reused", reused(data, chosen.students, chosen.steps))
    result, courses["MLP"] = mlp(data, chosen.students, chosen.steps)
    told("MLP", result)
    found["seconds"] = round(time.perf_counter() - started)
    chosen.output.write_text(json.dumps(found, indent=1) + "\n")
    picture(courses, chosen.students, chosen.picture)


if __name__ == "__main__":
    main()
