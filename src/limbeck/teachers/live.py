"""A teacher network that is asked anew for every batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..modalities import Modalities
from ..signals import Batch, Signals
from ..taps import Taps
from ..tasks import Classification

T = TypeVar("T")


@dataclass(frozen=True)
class Inputs:
    """What a network expects to be fed: image shape and the normalisation it was trained with; or modalities."""

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    modalities: Modalities | None = None


class LiveTeacher:
    """A frozen network as a source of signals.

    The network is put in evaluation mode, its parameters stop requiring gradients, and it stays outside the
    student's state, optimiser and wrapper.

    Args:
        model: the network.
        task: how its output becomes signals.
        expects: the inputs it was trained on, where that is known.
        feeds: the inputs that the data will give; with another normalisation than ``expects`` and
            ``renormalise``, images are converted on the way in: ``x' = (x * std + mean - mean_t) / std_t``.
        renormalise: convert instead of letting the guard refuse.
        name: what reports call it.

    Attributes:
        temperature: divides its logits, for a teacher that was calibrated.

    Example:
        >>> teacher = LiveTeacher(nn.Linear(4, 3), Classification(classes=3))
        >>> signals = teacher.signals(Batch(torch.zeros(2, 4), torch.zeros(2).long(), torch.arange(2)))
        >>> tuple(signals.logits.shape), signals.logits.requires_grad
        ((2, 3), False)
    """

    capabilities = frozenset({"logits", "features", "exact_views"})

    def __init__(
        self,
        model: nn.Module,
        task: Classification,
        *,
        expects: Inputs | None = None,
        feeds: Inputs | None = None,
        renormalise: bool = False,
        name: str = "teacher",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.task, self.expects, self.feeds, self.name = task, expects, feeds, name
        self.capabilities = self.capabilities | task.gives
        self.renormalise = renormalise
        self.temperature = 1.0
        self.taps = Taps()
        self._answers: dict[Hashable, Any] = {}
        self._scale: Tensor | None = None
        self._shift: Tensor | None = None
        if renormalise and expects and feeds and (expects.mean, expects.std) != (feeds.mean, feeds.std):
            mean, std, mean_t, std_t = (
                _channels(v) for v in (feeds.mean, feeds.std, expects.mean, expects.std)
            )
            self._scale, self._shift = std / std_t, (mean - mean_t) / std_t

    def to(self, device: torch.device, memory_format: torch.memory_format | None = None) -> LiveTeacher:
        """Move the network to a device, and its four-dimensional weights to a memory format."""
        self.model.to(device)
        if memory_format is not None:
            self.model.to(memory_format=memory_format)  # type: ignore[call-overload]
        if self._scale is not None and self._shift is not None:
            self._scale, self._shift = self._scale.to(device), self._shift.to(device)
        return self

    @torch.no_grad()
    def signals(self, batch: Batch) -> Signals:
        """The teacher's signals for a batch, without gradients."""
        with self.taps.record(self.model) as features:
            signals = self._answer(batch)
        signals.features = features
        if (head := self.taps.last_layer(self.model)) is not None:
            signals.extra["head"] = head
        return signals

    def differentiable(self, batch: Batch) -> Signals:
        """The teacher's logits with gradients to the inputs, for attacks and generators."""
        return self._answer(batch)

    def _answer(self, batch: Batch) -> Signals:
        batch = replace(batch, inputs=self.as_fed(batch.inputs))
        signals = self._asked(batch)
        if self.temperature != 1:
            signals.logits = signals.logits / self.temperature
        return signals

    def as_fed(self, inputs: Any) -> Any:
        """Inputs of the data in the normalisation that the network was trained with."""
        return inputs if self._scale is None or self._shift is None else inputs * self._scale + self._shift

    def _asked(self, batch: Batch) -> Signals:
        """What the network says of inputs in its own normalisation."""
        return self.task.signals(self.task.call(self.model, batch))

    def on(self, step: int) -> AbstractContextManager[None]:
        """The training step after so many others, for teachers to whom that matters."""
        return nullcontext()

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def fingerprint(self) -> str:
        """SHA-256 over the weights, so that a resumed run can tell that its teacher is the same."""
        return fingerprint(self.model.state_dict())

    def forget(self) -> None:
        """Drop what is remembered, because the teacher changed."""
        self._answers.clear()

    def remember(self, key: Hashable, ask: Callable[[], T]) -> T:
        """The answer known by this key, asked the first time; a frozen teacher does not change its mind."""
        if key not in self._answers:
            self._answers[key] = ask()
        answer: T = self._answers[key]
        return answer


def fingerprint(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values of tensors.

    Example:
        >>> fingerprint({"w": torch.zeros(2)}) == fingerprint({"w": torch.zeros(2)})
        True
    """
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)
