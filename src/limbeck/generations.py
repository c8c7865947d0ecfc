"""Born-again networks: each generation learns from the one before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .runs import Run

if TYPE_CHECKING:
    from .config import RunConfig


def born_again(config: RunConfig, generations: int = 2) -> list[Run]:
    """Train a network on labels, then its like from it, and so on.

    Generation 0 learns from labels; generation g has generation g - 1 as its teacher, with the methods of the
    configuration (``kd`` where it names none), and a seed of its own. Finished generations are taken as they
    lie, so a stopped series goes on where it stood.

    Args:
        config: the run; it names no teacher. Its output folder gets one run a generation.
        generations: generations after the first.

    Returns:
        The runs, from generation 0 on. ``limbeck report`` compares them.

    Raises:
        ConfigError: the configuration names a teacher, no output, or no generation is asked for.

    Source:
        Furlanello et al., ICML 2018, arXiv:1805.04770. The paper's sequence; its label-only and
        permuted-target ablations are not here.
    """
    from .config import MethodConfig, TeacherConfig
    from .training.session import ensure

    if config.teacher is not None:
        raise ConfigError("born-again networks are their own teachers", fix="remove teacher")
    if generations < 1:
        raise ConfigError("no generation to train", got=generations, expected="1 or more")
    if config.output is None:
        raise ConfigError("born-again networks need a folder", fix="set output")
    folder = Path(config.output)
    runs: list[Run] = []
    for g in range(generations + 1):
        own: dict[str, Any] = {
            "seed": config.seed + g,
            "output": str(folder / f"generation-{g}"),
            "name": f"generation-{g}",
            "group": config.group or folder.name,
        }
        if g == 0:
            own |= {"methods": (), "label_weight": None}
        else:
            own |= {
                "methods": config.methods or (MethodConfig(name="kd"),),
                "teacher": TeacherConfig(run=str(runs[-1].path)),
            }
        runs.append(ensure(config.model_copy(update=own)))
    return runs


def ensemble_accuracy(runs: list[Run]) -> float:
    """Test accuracy of the mean of the generations' class probabilities.

    Example:
        >>> ensemble_accuracy([])
        Traceback (most recent call last):
        limbeck.errors.ConfigError: no runs to put together. Fix: give the runs of born_again
    """
    import torch

    from .data import load
    from .training.parts import Parts

    if not runs:
        raise ConfigError("no runs to put together", fix="give the runs of born_again")
    data = load(runs[0].config.data)
    total, labels = None, None
    for run in runs:
        student = run.student()
        alone = run.config.model_copy(update={"methods": (), "teacher": None, "label_weight": None})
        parts = Parts(alone, student=student, data=data)
        logits, labels = parts.predict(student.to(parts.accelerator.device), parts.data.test)
        probabilities = torch.softmax(logits.double(), 1)
        total = probabilities if total is None else total + probabilities
    assert total is not None
    assert labels is not None
    return float((total.argmax(1) == labels).double().mean())
