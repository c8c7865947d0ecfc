"""The parts of a run on samples of several modalities."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from ..data import ModalData
from ..data.loader import Loader
from ..data.modal import LabelledLoader, ModalViews
from ..errors import ConfigError, DataError
from ..methods.base import Method
from ..models.fusion import FusionNet
from ..seeds import derive
from ..tasks import Classification, task_of
from .gather import rank, world
from .learner import Learner
from .parts import Findings, Parts


class MultimodalParts(Parts):
    """Rows of modalities instead of images; class labels or numbers to regress, for some of the samples.

    Raises:
        ConfigError: a setting that such data does not have, a method that compares class scores of a regression, or a
            T-Net that nothing trains.
        DataError: a modality that the teacher sees and no training sample has together with the others.
    """

    data: ModalData

    def _possible(self) -> None:
        config = self.config
        teacher = config.teacher
        for wrong, what in (
            (config.augment != type(config.augment)(), "augment"),
            (teacher is not None and teacher.cache != "none", "teacher.cache"),
            (teacher is not None and teacher.renormalise, "teacher.renormalise"),
            (config.sampling is not None, "sampling"),
            (config.train.accumulate > 1, "train.accumulate above 1: batches are compared whole"),
        ):
            if wrong:
                raise ConfigError(f"data of several modalities has no {what}", fix="leave it out")

    def _task(self) -> Classification:
        return task_of(self.data)

    def _learner(
        self, student: nn.Module | None, methods: Collection[Method], allow_code: Collection[str]
    ) -> Learner:
        learner = super()._learner(student, methods, allow_code)
        if self.data.continuous and (wrong := [m.name for m in learner._methods() if not m.continuous]):
            from ..methods import METHODS

            known = ", ".join(name for name, kind in METHODS.items() if kind.continuous)
            raise ConfigError(
                f"{', '.join(wrong)} compares class scores, but {self.data.name} has numbers to regress",
                expected=f"one of {known}",
            )
        if student is None:
            self._tnets_are_trained(learner)
        return learner

    def _tnets_are_trained(self, learner: Learner) -> None:
        """A T-Net that stays at its first weights is the silent fault of the released code."""
        student = learner.student
        if not isinstance(student, FusionNet) or not student.imagines or not student.detach:
            return
        if self.config.student.weights is None and not any(m.name == "tnet" for m in learner._methods()):
            raise ConfigError(
                f"nothing trains the student's T-Net for {', '.join(student.imagines)}",
                fix="add the method tnet, or set student.options.tnet.detach=false to train it with the rest",
            )

    def _teacher(self, model: Any, allow_code: Collection[str]) -> Any:
        teacher = super()._teacher(model, allow_code)
        network: Any = getattr(teacher, "model", None)
        if not isinstance(network, FusionNet) or not self.learner.needs:
            return teacher
        if network.modalities != self.data.modalities:
            raise ConfigError(
                f"the teacher was trained on {', '.join(network.modalities.names)}",
                got=f"data with {', '.join(self.data.modalities.names)}",
                expected="the same modalities of the same shapes",
                fix="give both runs the same data.modalities",
            )
        train: Any = self.data.train
        if not bool(network.whole(train.rows).any()):
            raise DataError(
                f"no training sample has all that the teacher sees: {', '.join(network.sees)}",
                fix="give pairs of the modalities to train on, or another teacher",
            )
        return teacher

    def _loader(self, split: Any, *, train: bool) -> Loader:
        config = self.config
        if train and (wanted := [m.name for m in self.learner._methods() if m.tuples]):
            raise ConfigError(f"{', '.join(wanted)} makes batches of tuples, which such data does not have")
        views, per_batch = ModalViews(split), config.data.labelled_per_batch
        common: dict[str, Any] = {"seed": derive(config.seed, "order"), "rank": rank(), "world": world()}
        if train and per_batch is not None and not bool(split.labelled.all()):
            return LabelledLoader(
                views, config.train.batch_size, per_batch, split.labelled, shuffle=True, train=True, **common
            )
        size = config.train.batch_size if train else max(config.train.batch_size, 256)
        drop = train and config.train.drop_last
        return Loader(views, size, shuffle=train, train=train, drop_last=drop, **common)

    def examine(self, student: nn.Module) -> Findings:
        """The student, and the teacher where there is one, on the test split."""
        if not self.data.continuous:
            return super().examine(student)
        predictions, targets = self.predict(student, self.data.test)
        teacher = self.teacher_logits(self.data.test)
        arrays = {"predictions": predictions.numpy(), "targets": targets.numpy()}
        return Findings(
            self.task.metrics(predictions, targets, teacher),
            None if teacher is None else self.task.metrics(teacher, targets),
            arrays if teacher is None else arrays | {"teacher_predictions": teacher.numpy()},
        )

    def card(self) -> dict[str, Any]:
        return {"modalities": self.data.modalities.plain(), "continuous": self.data.continuous}

    def cost(self, model: nn.Module) -> dict[str, Any]:
        return {"parameters": sum(p.numel() for p in model.parameters())}


__all__ = ["MultimodalParts"]
