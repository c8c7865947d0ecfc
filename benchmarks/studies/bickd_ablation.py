"""Which reading of BicKD? Every variant against tuned KD, DIST, label smoothing and scratch.

    python benchmarks/studies/bickd_ablation.py --out runs/bickd-ablation [--workers 2]

Fashion-MNIST, 2,000 labelled training images per seed for the student, a teacher trained on all 54,000.
Every method gets the same sweep (8 settings, 2 tuning seeds, chosen on validation), then 8 fresh seeds on the
test split. Runs that are done are kept in ``rows.jsonl`` and skipped, so a stopped study goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

TRAIN, VALIDATION, EPOCHS, BATCH = 2000, 6000, 20, 64
TUNING_SEEDS, SEEDS = (100, 101), tuple(range(8))
STUDENT = {"name": "cnn", "options": {"widths": [8, 16, 32]}}
TEACHER = "resnet20"

BICKD_GRID = {"temperature": [1.0, 4.0], "contrast_temperature": [0.1, 0.5], "strength": [0.5, 2.0]}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "class side only": {"sample_weight": 0},
    "sample side only": {"class_weight": 0},
    "without the KL term": {"kd_weight": 0, "label_weight": 1.0},
    "teacher anchors only": {"direction": "teacher"},
    "student anchors only": {"direction": "student"},
    "same-label rows unmasked": {"mask_same_label": False},
    "same-label rows positive": {"multi_positive": True},
    "inner product": {"similarity": "dot"},
    "squared orthogonality": {"form": "orthogonal"},
    "negatives in the student too": {"student_negatives": True},
    "present classes only": {"classes": "present"},
}


def grid(**axes: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def sweeps() -> dict[str, list[dict[str, Any]]]:
    """Eight settings for every method: plain values that ``settings`` turns into a configuration."""
    found: dict[str, list[dict[str, Any]]] = {
        "scratch": grid(method=[None], learning_rate=[0.02, 0.05, 0.1, 0.2], weight_decay=[5e-4, 5e-3]),
        "label smoothing": grid(
            method=["label_smoothing"], smoothing=[0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]
        ),
        "KD": grid(method=["kd"], temperature=[1.0, 2.0, 4.0, 8.0], alpha=[0.5, 0.9]),
        "DIST": grid(method=["dist"], temperature=[1.0, 2.0, 4.0, 8.0], weight=[0.5, 1.0]),
    }
    for name, options in VARIANTS.items():
        found[f"BicKD: {name}"] = [{"method": "bickd", **options, **s} for s in grid(**BICKD_GRID)]
    return found


def settings(choice: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a choice decides; ``base`` is the tuned optimiser of scratch."""
    left = {**base, **choice}
    optimizer = {
        "learning_rate": left.pop("learning_rate", 0.05),
        "weight_decay": left.pop("weight_decay", 5e-4),
    }
    method, label_weight, weight = (
        left.pop("method"),
        left.pop("label_weight", None),
        left.pop("weight", None),
    )
    if (alpha := left.pop("alpha", None)) is not None:
        weight, label_weight = alpha, 1 - alpha
    if (strength := left.pop("strength", None)) is not None:
        for side in ("sample_weight", "class_weight"):
            left[side] = strength * left.get(side, 1.0)
    methods = [] if method is None else [{"name": method, "weight": weight, "options": left}]
    return {"methods": methods, "label_weight": label_weight, "optimizer": optimizer}


def prepare(out: Path) -> None:
    """Train the teacher once."""
    from limbeck.config import parse
    from limbeck.runs import Run
    from limbeck.training.session import execute

    folder = out / "teacher"
    if (folder / "run.json").is_file() and Run(folder).status == "finished":
        return
    values = {
        "data": {"name": "fashion-mnist", "validation": VALIDATION},
        "student": TEACHER,
        "augment": {"flip": True, "crop_padding": 2},
        "train": {"epochs": 6, "batch_size": 64, "threads": 1, "optimizer": {"learning_rate": 0.1}},
        "output": str(folder),
    }
    execute(parse(values), resume=(folder / "config.yaml").is_file())


def subset(data: Any, seed: int) -> Any:
    """The seed's own stratified training images, out of those that the teacher saw too."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    each = TRAIN // len(data.classes)
    ids = [
        members[torch.randperm(len(members), generator=generator)[:each]]
        for label in range(len(data.classes))
        for members in [(data.train.labels == label).nonzero()[:, 0]]
    ]
    return dataclasses.replace(data, train=data.train.subset(torch.cat(ids)))


def worker(out: Path, jobs: Any, results: Any) -> None:
    """Run jobs until there are none; one thread, one shared teacher."""
    import torch

    torch.set_num_threads(1)
    from limbeck.config import TeacherConfig, parse
    from limbeck.data import DataConfig, load
    from limbeck.tasks import Classification
    from limbeck.training.progress import Progress
    from limbeck.training.session import execute
    from limbeck.training.teaching import teacher_from

    data = load(DataConfig(name="fashion-mnist", validation=VALIDATION))
    teacher = teacher_from(TeacherConfig(run=str(out / "teacher")), data, Classification(len(data.classes)))
    while (job := jobs.get()) is not None:
        folder = out / "now" / str(multiprocessing.current_process().pid)
        shutil.rmtree(folder, ignore_errors=True)
        chosen = settings(job["choice"], job["base"])
        taught = bool(chosen["methods"]) and job["choice"]["method"] != "label_smoothing"
        train = {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "precision": "fp32",
            "drop_last": True,
            "threads": 1,
            "optimizer": chosen.pop("optimizer"),
            "log_every": 100,
            "evaluate_every": 10**6,
            "checkpoint_every": 10**6,
        }
        values = {
            **chosen,
            "student": STUDENT,
            "train": train,
            "seed": job["seed"],
            "latency": False,
            "output": str(folder),
            "data": {"name": data.name},
            "teacher": {"cache": "memory"} if taught else None,
        }
        try:
            run = execute(
                parse(values),
                data=subset(data, job["seed"]),
                teacher=teacher if taught else None,
                progress=Progress(1, "", quiet=True),
            )
            last = run.results["last"]
            results.put(
                {
                    **job,
                    "validation": last["validation"],
                    "test": last["test"],
                    "seconds": run.info["seconds"],
                }
            )
        except Exception as error:  # a diverged setting is a result, not the end of the study
            results.put({**job, "failed": f"{type(error).__name__}: {error}"})


class Study:
    """Runs jobs on a few processes and remembers what is done."""

    def __init__(self, out: Path, workers: int) -> None:
        self.out, self.file = out, out / "rows.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.done = {self.key(row): row for row in map(json.loads, lines)}
        context = multiprocessing.get_context("spawn")
        self.jobs, self.results = context.Queue(), context.Queue()
        self.workers = [
            context.Process(target=worker, args=(out, self.jobs, self.results)) for _ in range(workers)
        ]
        for process in self.workers:
            process.start()

    @staticmethod
    def key(job: dict[str, Any]) -> str:
        return json.dumps([job["name"], job["choice"], job["base"], job["seed"]], sort_keys=True)

    def run(self, jobs: list[dict[str, Any]], title: str) -> list[dict[str, Any]]:
        left = [job for job in jobs if self.key(job) not in self.done]
        started = time.monotonic()
        for job in left:
            self.jobs.put(job)
        for i in range(len(left)):
            row = self.results.get()
            self.done[self.key(row)] = row
            with self.file.open("a") as file:
                file.write(json.dumps(row) + "\n")
            if (i + 1) % 10 == 0 or i + 1 == len(left):
                rate = (time.monotonic() - started) / (i + 1)
                print(
                    f"{title}: {i + 1}/{len(left)}, {rate * (len(left) - i - 1) / 60:.1f} min left",
                    flush=True,
                )
        return [self.done[self.key(job)] for job in jobs]

    def close(self) -> None:
        for _ in self.workers:
            self.jobs.put(None)
        for process in self.workers:
            process.join()


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The setting with the highest mean validation accuracy over the tuning seeds; failed ones lose."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        value = row["validation"]["accuracy"] if "validation" in row else 0.0
        scores.setdefault(json.dumps(row["choice"]), []).append(value)
    chosen: dict[str, Any] = json.loads(
        max(scores, key=lambda choice: sum(scores[choice]) / len(scores[choice]))
    )
    return chosen


def table(summary: dict[str, Any]) -> str:
    """The results as Markdown: every method against scratch and against tuned KD, paired over seeds."""
    from limbeck.study import mean_interval, verdict

    scores: dict[str, dict[str, dict[int, float]]] = {}
    for row in summary["final"]:
        for key, value in {**row["test"], "seconds": row["seconds"]}.items():
            scores.setdefault(row["name"], {}).setdefault(key, {})[row["seed"]] = value

    def column(name: str, key: str) -> list[float]:
        return [value for _, value in sorted(scores[name].get(key, {}).items())]

    against = {
        (name, base): verdict(column(name, "accuracy"), column(base, "accuracy"))
        for name in scores
        for base in ("scratch", "KD")
        if name != base
    }
    readings = sorted((n for n in scores if n.startswith("BicKD")), key=lambda n: against[n, "KD"].p)
    holm, largest = {}, 0.0
    for rank, name in enumerate(readings):  # Holm's correction over the readings of BicKD
        largest = max(largest, min(1.0, against[name, "KD"].p * (len(readings) - rank)))
        holm[name] = largest

    lines = [
        "| method | accuracy, % | against scratch | against tuned KD | p (Holm) | NLL | ECE, % | class cosine | s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted(scores, key=lambda n: -mean_interval(column(n, "accuracy")).mean):
        cells = [name]
        accuracy = mean_interval(column(name, "accuracy"))
        cells.append(f"{100 * accuracy.mean:.2f} ± {100 * (accuracy.high - accuracy.mean):.2f}")
        for base in ("scratch", "KD"):
            found = against.get((name, base))
            gap = found and [100 * x for x in (found.interval.mean, found.interval.low, found.interval.high)]
            cells.append(
                f"{found.text} {gap[0]:+.2f} ({gap[1]:+.2f} to {gap[2]:+.2f})" if found and gap else "–"
            )
        cells.append(f"{holm[name]:.3f}" if name in holm else "–")
        cells.append(f"{mean_interval(column(name, 'nll')).mean:.3f}")
        cells.append(f"{100 * mean_interval(column(name, 'ece')).mean:.1f}")
        cells.append(f"{mean_interval(column(name, 'class_orthogonality')).mean:.4f}")
        cells.append(f"{mean_interval(column(name, 'seconds')).mean:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Chosen on validation:", ""]
    lines += [f"- {name}: `{json.dumps(choice)}`" for name, choice in summary["chosen"].items()]
    return "\n".join(lines)


def figure(summary: dict[str, Any], path: Path) -> None:
    """Gain over tuned KD of every method: seeds as dots, the 95 % interval as a bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from limbeck.study import paired_difference

    scores: dict[str, dict[int, float]] = {}
    for row in summary["final"]:
        scores.setdefault(row["name"], {})[row["seed"]] = row["test"]["accuracy"]
    kd = scores.pop("KD")
    gains = {
        name: [100 * (values[seed] - kd[seed]) for seed in sorted(kd)] for name, values in scores.items()
    }
    order = sorted(gains, key=lambda name: sum(gains[name]))
    drawn = Figure(figsize=(7.5, 4.6), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    for y, name in enumerate(order):
        interval = paired_difference(gains[name], [0.0] * len(gains[name]))
        colour = "#0a7a5c" if name.startswith("BicKD") else "#c24a00" if name == "DIST" else "#5b6068"
        axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2)
        axes.plot(interval.mean, y, "D", color=colour, markersize=5)
        axes.plot(gains[name], [y - 0.3] * len(gains[name]), ".", color="#9aa0a8", markersize=4)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(
        range(len(order)), [name.replace("BicKD: ", "BicKD (rec.): ") for name in order], fontsize=8
    )
    axes.set_xlabel("points of test accuracy over tuned KD, paired over 8 seeds")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    drawn.savefig(path, dpi=150)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=Path("runs/bickd-ablation"))
    words.add_argument("--workers", type=int, default=2)
    words.add_argument(
        "--write", type=Path, default=Path("docs/results/bickd.json"), help="the rows, summed up"
    )
    words.add_argument(
        "--table", type=Path, help="print the table and draw the figure of a written summary, and stop"
    )
    given = words.parse_args()
    if given.table:
        summary = json.loads(given.table.read_text())
        print(table(summary))
        figure(summary, given.table.with_suffix(".png"))
        return
    started = time.monotonic()
    prepare(given.out)
    study = Study(given.out, given.workers)
    try:
        chosen = {}
        plain: dict[str, Any] = {}
        order = sweeps()
        for name in ["scratch", *[n for n in order if n != "scratch"]]:
            jobs = [
                {"name": name, "choice": choice, "base": plain, "seed": seed}
                for choice in order[name]
                for seed in TUNING_SEEDS
            ]
            chosen[name] = best(study.run(jobs, f"tune {name}"))
            if name == "scratch":  # the optimiser tuned for scratch is everybody's
                plain = {key: chosen[name][key] for key in ("learning_rate", "weight_decay")}
        jobs = [
            {"name": name, "choice": choice, "base": plain, "seed": seed}
            for name, choice in chosen.items()
            for seed in SEEDS
        ]
        final = study.run(jobs, "final")
    finally:
        study.close()
    given.write.parent.mkdir(parents=True, exist_ok=True)
    given.write.write_text(
        json.dumps(
            {
                "chosen": chosen,
                "final": [
                    {k: row[k] for k in ("name", "seed", "test", "seconds")} for row in final if "test" in row
                ],
                "failed": [row for row in study.done.values() if "failed" in row],
                "runs": len(study.done),
                "cpu_seconds": sum(row.get("seconds", 0) for row in study.done.values()),
                "minutes_of_this_call": (time.monotonic() - started) / 60,
            },
            indent=1,
        )
        + "\n"
    )
    print(f"written: {given.write}")


if __name__ == "__main__":
    main()
