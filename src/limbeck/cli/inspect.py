"""``limbeck evaluate``, ``report`` and ``methods``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from ..errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from ..data import Data
    from ..runs import Run


EXAMPLES = 3
WRITERS = {"student": "student, last", "before": "student, before"}
"""What a key of ``responses.jsonl`` is called."""


def evaluate(path: Path, split: str, checkpoint: str, allow_code: list[str]) -> None:
    """Score a finished run's student again and print the numbers."""
    from ..report.records import read_responses
    from ..runs import Run
    from ..training.session import score
    from .tables import scores

    if split not in ("test", "validation"):
        raise ConfigError(f"no split {split!r}", expected="test or validation")
    run = Run(path)
    found = score(run, split, choose(checkpoint), allow_code)
    scores(f"{run.path.name}: {checkpoint} epoch, float32", {split: found})
    if run.info.get("teacher") and "agreement" not in found:
        print("Its teacher is not where it was, so nothing is said about agreement.")
    for row in read_responses(run.path)[:EXAMPLES] if split == "test" else ():
        print()
        for key, text in row.items():
            print(f"{WRITERS.get(key, key):<15}  {text.strip()}")


def robust(path: Path, checkpoint: str, images: int, allow_code: list[str]) -> None:
    """Measure robustness, print it and write it into the run's folder."""
    from ..evaluation import robustness
    from ..files import write_json
    from ..runs import Run
    from .tables import percent, table

    run = Run(path)
    run.images("robustness")
    student, data = run.student(choose(checkpoint), allow_code=allow_code), _own_data(run)
    found = {"checkpoint": checkpoint, **robustness(student, data, images=images)}
    title = f"{run.path.name}: {checkpoint} epoch, {found['images']} test images, accuracy, float32"
    rows = [[name, *map(percent, values)] for name, values in found["corruptions"].items()]
    table(title, ["corruption", *(f"severity {s}" for s in range(1, 6))], rows)
    print(f"clean {percent(found['clean'])}, mean over corruptions {percent(found['corrupted'])}")
    rows = [[f"{255 * row['epsilon']:.3g}/255", percent(row["accuracy"])] for row in found["pgd"]]
    table(f"PGD, {found['pgd_steps']} steps of a quarter of epsilon", ["epsilon", "accuracy"], rows)
    write_json(run.path / "robustness.json", found)
    print(f"written: {run.path / 'robustness.json'}")


def probing(path: Path, checkpoint: str, data: str, allow_code: list[str]) -> None:
    """Fit a linear probe, print what came of it and write it into the run's folder."""
    import yaml

    from ..config import check, load_yaml
    from ..data import DataConfig, load
    from ..evaluation import linear_probe
    from ..files import write_json
    from ..runs import Run
    from .tables import percent

    try:
        values = load_yaml(data)
    except yaml.YAMLError:
        raise ConfigError(
            "--probe is not valid YAML", got=data, expected="a name, or {name: ..., ...}"
        ) from None
    loaded = load(check(DataConfig, {"name": values} if isinstance(values, str) else values, "--probe"))
    run = Run(path)
    student = run.student(choose(checkpoint), allow_code=allow_code)
    found = {"checkpoint": checkpoint, **linear_probe(student, loaded, inputs=run.images("a linear probe"))}
    print(
        f"{run.path.name}: linear probe on {found['data']}, {found['train']} training images, "
        f"{found['embedding']} features: {percent(found['accuracy'])} on test, "
        f"{percent(found['validation'])} on validation (C = {found['strength']:g})"
    )
    write_json(run.path / f"probe-{found['data']}.json", found)
    print(f"written: {run.path / ('probe-' + found['data'] + '.json')}")


def _own_data(run: Run) -> Data:
    from ..config import OBJECT
    from ..data import load

    if run.config.data.name.startswith(OBJECT):
        raise DataError(
            f"the data {run.config.data.name.removeprefix(OBJECT)} was handed over in Python",
            fix="call limbeck.evaluation.robustness(limbeck.Run(path).student(), data)",
        )
    return load(run.config.data)


def report(paths: list[Path], output: Path, title: str | None, figures: Path | None) -> None:
    """Write the comparison page of runs, the page of a study, or the figures of a study."""
    from ..report import write
    from ..report.studies import is_study, write_figures, write_study

    study = paths[0] if len(paths) == 1 and is_study(paths[0]) else None
    if figures is not None:
        if study is None:
            raise ConfigError(
                "--figures draws a study",
                got=" ".join(map(str, paths)),
                expected="one folder with study.json",
            )
        for path in write_figures(study, figures):
            print(f"figure: {path}")
    elif study is not None:
        print(f"report: {write_study(study, output, title)}")
    else:
        print(f"report: {write(find_runs(paths), output, title=title or 'Distillation report')}")
        if len(paths) == 1 and (paths[0] / "study.yaml").is_file():
            print(
                f"{paths[0]} is a study without results: limbeck study {paths[0]} --results makes its tables"
            )


def methods() -> None:
    """Print the table of methods."""
    from ..methods import describe
    from .tables import table

    rows = [[row[key] for key in ("name", "status", "needs", "weights", "paper")] for row in describe()]
    table("Methods", ["name", "status", "needs", "default weights", "paper"], rows, right=5)


def find_runs(paths: list[Path]) -> list[Path]:
    """Run folders among the given ones and directly or deeper inside them, each once.

    A study's tuning trials are left out: they are runs of other settings on other seeds.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise RunError(f"no folder {path}", fix="check the path")
        if (path / "run.json").is_file():
            found.append(path)
            continue
        trials = path / "tuning" if (path / "study.yaml").is_file() else None
        inside = sorted(file.parent for file in path.rglob("run.json") if trials not in file.parents)
        if not inside:
            raise RunError(f"no run in {path}", expected="a run folder, or a folder that holds some")
        found += inside
    return list({path.resolve(): path for path in found}.values())


def choose(checkpoint: str) -> Literal["last", "best"]:
    """Check the name of a checkpoint."""
    if checkpoint not in ("last", "best"):
        raise ConfigError(f"no checkpoint {checkpoint!r}", expected="last or best")
    return cast(Literal["last", "best"], checkpoint)
