"""``limbeck study`` and ``limbeck tune``."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError, RunError


def run(
    preset: str,
    overrides: list[str],
    output: Path | None,
    workers: int,
    dry_run: bool,
    results: bool,
    ray: str | None,
    pairs: list[str],
    methods: list[str],
    allow_code: list[str],
) -> None:
    """Run, plan or recompute a study, and print its tables."""
    from ..study import config, tables
    from ..study.results import write
    from ..study.runner import Options, run_study

    study = config.narrow(config.read_study(preset, overrides), pairs, methods)
    if output is not None:
        study = study.model_copy(update={"output": str(output)})
    if dry_run:
        from ..study.estimate import show

        show(study, workers, allow_code)
        return
    failures: dict[str, str] = {}
    if not results:
        failures = run_study(study, Options(workers, ray, tuple(allow_code)))
    found = write(study, failures)
    tables.show(found)
    for name in ("study.json", "results.csv", "results.tex"):
        print(f"{name}: {study.folder / name}")
    print(f"report: limbeck report {study.folder}")
    if failures:
        first = next(iter(failures.items()))
        raise RunError(
            f"{len(failures)} of {len(found['rows'])} runs failed",
            got=f"{first[0]}: {first[1]}",
            fix="mend the cause and run the study again: what is finished is kept",
        )


def tune(
    path: Path,
    overrides: list[str],
    space: list[str],
    trials: int,
    seeds: list[int],
    metric: str,
    output: Path | None,
    workers: int,
    allow_code: list[str],
) -> None:
    """Search, and print the trials and the best overrides."""
    from ..config import read
    from ..study.runner import Options
    from ..study.space import parse_words
    from ..study.tables import SHARES
    from ..study.tuning import tune_run
    from .tables import table

    if not space:
        raise ConfigError("nothing to tune", expected="--space key=low..high[:log] or key=[a, b]")
    config = read(path, overrides)
    folder = output or Path("runs") / f"tune-{path.stem}"
    options = Options(workers, None, tuple(allow_code))
    found = tune_run(
        config, parse_words(space), trials=trials, seeds=seeds, folder=folder, metric=metric, options=options
    )
    scale = 100 if metric in SHARES else 1
    rows = [
        [
            str(t["number"]),
            "failed" if t["mean"] is None else f"{scale * t['mean']:.4g}",
            " ".join(f"{k}={_short(v)}" for k, v in t["values"].items()),
        ]
        for t in sorted(found["trials"], key=lambda t: (t["mean"] is None, -(t["mean"] or 0.0), t["number"]))
    ]
    table(
        f"Trials, mean {found['metric']} over {len(seeds)} seeds", ["trial", metric, "values"], rows, right=3
    )
    print(f"best: {' '.join(f'{k}={_short(v)}' for k, v in found['best']['values'].items())}")
    print(f"run it: limbeck distill {folder / 'best.yaml'}")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
