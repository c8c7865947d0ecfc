"""``limbeck train``, ``distill``, ``born-again`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, RunError

if TYPE_CHECKING:
    from ..config import RunConfig


def run(
    command: str,
    config: Path | None,
    overrides: list[str],
    output: Path | None,
    resume: Path | None,
    allow_code: list[str],
) -> None:
    """Start or resume a run and print where it is and what came out."""
    from ..runs import Run
    from ..training.session import execute
    from .tables import guards, results

    if resume is not None:
        if config is not None or overrides or output is not None:
            raise ConfigError(
                "--resume goes on with a run exactly as it was started",
                got="a configuration, overrides or an output beside it",
                fix=f"limbeck {command} --resume {resume}",
            )
        earlier = Run(resume)
        if earlier.status == "finished":
            print(f"{earlier.path} is already finished; nothing to do.")
            results(earlier)
            return
        settings = earlier.config.model_copy(update={"output": str(resume)})
    else:
        settings = _read(config, overrides, "give a YAML file, or --resume RUN")
        if command == "train" and settings.methods and any(_needs_teacher(settings)):
            raise ConfigError(
                f"limbeck train has no teacher, but the configuration names {settings.label}",
                fix="use limbeck distill",
            )
        if output is not None:
            settings = settings.model_copy(update={"output": str(output)})
    run = execute(settings, resume=resume is not None, allow_code=allow_code, on_guards=guards)
    from ..training.gather import rank

    if rank() == 0:
        results(run)


def born_again(config: Path | None, overrides: list[str], output: Path | None, generations: int) -> None:
    """Train a series of generations and print what came out."""
    from ..generations import born_again, ensemble_accuracy
    from ..training.session import default_name
    from .tables import scores

    settings = _read(config, overrides, "give a YAML file")
    folder = output or settings.output or f"runs/{default_name(settings)}-born-again"
    runs = born_again(settings.model_copy(update={"output": str(folder)}), generations)
    scores(
        f"born again: {settings.student.name} on {settings.data.name}, last epoch",
        {run.path.name: run.results["last"]["test"] for run in runs},
    )
    print(f"all together: accuracy {100 * ensemble_accuracy(runs):.2f} %")
    print(f"report:  limbeck report {folder}")


def check(config: Path | None, overrides: list[str], allow_code: list[str]) -> None:
    """Run the guards alone."""
    from tempfile import TemporaryDirectory

    from ..training.session import examine
    from .tables import guards

    settings = _read(config, overrides, "give a YAML file")
    with TemporaryDirectory() as folder:
        found = examine(settings.model_copy(update={"output": folder}), allow_code)
    guards(found)
    failed = [guard for guard in found if guard.ok is False]
    if failed:
        from ..training.guards import enforce

        enforce(found)
    print("No fault found.")


def _read(config: Path | None, overrides: list[str], fix: str) -> RunConfig:
    from ..config import read

    if config is None:
        raise RunError("no configuration", fix=fix)
    return read(config, overrides)


def _needs_teacher(settings: RunConfig) -> list[bool]:
    from ..methods import resolve

    return [bool(resolve(method.name, method.options).needs) for method in settings.methods]
