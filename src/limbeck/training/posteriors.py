"""Teachers made Bayesian, or calibrated, as a run is assembled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..bayes import LastLayerLaplace
from ..config import TeacherConfig
from ..data import Split
from ..errors import ConfigError
from ..shapes import IGNORE
from ..teachers import LiveTeacher, PosteriorTeacher

if TYPE_CHECKING:
    from .parts import Parts


def prepare(parts: Parts, live: LiveTeacher, config: TeacherConfig) -> None:
    """Fit a Laplace teacher on the training split, and the temperature of a teacher on validation.

    Raises:
        ConfigError: a setting that this teacher does not have.
    """
    if config.samples is not None and not isinstance(live, PosteriorTeacher):
        raise ConfigError(
            f"the teacher {live.name} is one network, so teacher.samples={config.samples} means nothing",
            fix="leave it out, set teacher.bayes, or name the run of a Bayesian teacher",
        )
    model = live.model
    if isinstance(model, LastLayerLaplace) and not model.fitted:
        model.fit(lambda: (live.as_fed(x) for x in inputs(parts, parts.data.train)()))
    if config.calibrate:
        logits = parts.teacher_logits(parts.data.validation)
        assert logits is not None
        live.temperature = best_temperature(logits, parts.data.validation.labels)
        live.forget()


def inputs(parts: Parts, split: Split) -> Callable[[], Iterator[Tensor]]:
    """The inputs of a split as they are, batch after batch, on the run's device."""

    def all_of_them() -> Iterator[Tensor]:
        for batch in parts._loader(split, train=False).epoch(0):
            yield batch.to(parts.accelerator.device, parts.memory_format).inputs

    return all_of_them


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature at which ``softmax(logits / T)`` has the least negative log-likelihood, within [0.05, 20].

    Source: Guo et al., ICML 2017, arXiv:1706.04599.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> round(best_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 3 of 4 right: log 3 apart
        3.641
    """
    from scipy.optimize import minimize_scalar

    known = labels != IGNORE
    rows, truth = logits[known].double(), labels[known]

    def loss(log_temperature: float) -> float:
        return float(nn.functional.cross_entropy(rows / math.exp(log_temperature), truth))

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))
