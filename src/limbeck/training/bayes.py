"""The parts of a run that trains a distribution over networks."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from torch import nn

from ..bayes import BayesConfig, LastLayerLaplace, Posterior, posterior
from ..bayes.ensemble import Each
from ..bayes.snapshots import Snapshots
from ..bayes.variational import KL
from ..config import OBJECT, RunConfig
from ..data import MASKED, MODAL, Data
from ..errors import ConfigError
from ..methods.base import Method
from ..procedures.bayesian import BayesianTraining, spread
from ..seeds import derive
from .gather import world
from .learner import Learner
from .networks import make
from .parts import Parts, _reset
from .posteriors import inputs
from .schedule import factor


class BayesParts(Parts):
    """The network inside a posterior, with what the posterior learns by.

    Nothing is selected where the posterior exists at the last step only (SWAG, SGLD, Laplace): the last epoch counts.

    Raises:
        ConfigError: a setting that such a run does not have.
    """

    def __init__(self, config: RunConfig, *, data: Data | None = None, **given: Any) -> None:
        assert config.bayes is not None
        self.settings: BayesConfig = config.bayes
        super().__init__(config, data=data, **given)
        if world() > 1:
            raise ConfigError("a run with bayes is one process", got=f"{world()} processes")
        self._enough()

    def _possible(self) -> None:
        super()._possible()
        config, kind = self.config, self.settings.name
        train = config.train
        for wrong, what in (
            (config.data.name in {"text", *MASKED, *MODAL}, f"data.name={config.data.name}"),
            (config.data_free is not None, "data_free"),
            (train.ema is not None, "train.ema"),
            (train.compile, "train.compile"),
            (train.early_stop is not None, "train.early_stop"),
            (
                kind in ("vi", "ensemble") and bool(config.methods),
                f"methods beside {kind}, which learns from labels",
            ),
            (kind in ("vi", "ensemble") and config.label_weight is not None, f"label_weight beside {kind}"),
        ):
            if wrong:
                raise ConfigError(f"a run with bayes has no {what}", fix=f"leave {what.split(' ')[0]} out")
        rule = train.optimizer
        if kind == "vi" and rule.weight_decay:
            raise ConfigError(
                "vi has a prior, which weight decay would be a second time",
                got=f"train.optimizer.weight_decay {rule.weight_decay}",
                fix="set train.optimizer.weight_decay=0",
            )
        if kind == "sgld" and (rule.name != "sgd" or rule.momentum or train.clip is not None):
            raise ConfigError(
                "sgld is plain SGD with noise",
                got=f"{rule.name}, momentum {rule.momentum}, clip {train.clip}",
                fix="set train.optimizer.name=sgd, train.optimizer.momentum=0 and no train.clip",
            )

    def _enough(self) -> None:
        """Refuse more snapshots than there are steps."""
        kind, steps = self.settings.name, self.steps
        if kind in ("swag", "sgld"):
            key = "snapshots" if kind == "swag" else "samples"
            wanted = self.settings.snapshots if kind == "swag" else max(self.settings.samples, 1)
            first = int(self.settings.start * steps)
            if len(spread(first, steps, wanted)) < wanted or first + 1 > steps - wanted + 1:
                raise ConfigError(
                    f"bayes.{key}={wanted} are more than the steps that are left to collect in",
                    got=f"{steps - first} of {steps} steps after bayes.start={self.settings.start}",
                    fix="train longer, start earlier, or collect fewer",
                )

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        return self.config.train.epochs * len(self.loader)

    def _learner(
        self, student: nn.Module | None, methods: Collection[Method], allow_code: Collection[str]
    ) -> Learner:
        if not isinstance(student, Posterior):
            student = self._posterior(student, allow_code)
        own: Collection[Method] = methods
        if self.settings.name == "vi":
            own = [KL(self.settings, len(self.data.train), self.config.train.epochs)]
        elif self.settings.name == "ensemble":
            own = [Each(self.task)]
        return super()._learner(student, own, allow_code)

    def _posterior(self, network: nn.Module | None, allow_code: Collection[str]) -> Posterior:
        config = self.config

        def build(*names: object) -> nn.Module:
            seed = derive(config.seed, *names)
            if config.student.name.startswith(OBJECT):
                assert network is not None
                return _reset(copy.deepcopy(network), seed)
            return make(
                config.student,
                classes=self.task.classes,
                inputs=self.inputs,
                seed=seed,
                allow_code=allow_code,
            )

        first = build("student") if network is None else network
        return posterior(self.settings, first, lambda number: build("member", number))

    @property
    def posterior(self) -> Posterior:
        """What is trained."""
        found = self.learner.student
        assert isinstance(found, Posterior)
        return found

    @property
    def metric(self) -> str | None:
        late = isinstance(self.posterior, (Snapshots, LastLayerLaplace))
        return None if late else super().metric

    def procedure(self) -> BayesianTraining:
        train, per_epoch, steps = self.config.train, len(self.loader), self.steps
        return BayesianTraining(
            *self._step(),
            bayes=self.settings,
            steps=steps,
            samples=len(self.data.train),
            rate=lambda step: train.optimizer.learning_rate * factor(train.schedule, step, per_epoch, steps),
            batches=inputs(self, self.data.train),
        )

    @property
    def label(self) -> str:
        return self.config.label

    def card(self) -> dict[str, Any]:
        return {"bayes": self.settings.model_dump(mode="json")}
