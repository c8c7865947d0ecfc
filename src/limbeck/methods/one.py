"""On-the-fly native ensemble: branches of one network and their gate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import LimbeckError, ModelError
from ..losses import one, one_ensemble
from ..ramps import Ramp
from ..signals import Batch, Signals
from ..taps import Layout
from ..tasks import Classification
from .base import Method, Setting, Term, Terms


class ONE(Method):
    r"""Copies of the last stage share the rest; each learns from labels and from their gated mixture.

    :math:`L = \sum_b CE(z_b) + CE(z_e) + r \sum_b T^2 KL(q_e \| p_b)`, gate
    :math:`g = \mathrm{softmax}(\mathrm{ReLU}(\mathrm{BN}(W \,\mathrm{pool}(f))))`. The student is branch 1 and
    is what is evaluated and exported; its own cross-entropy is the run's label loss.

    Example:
        >>> ONE(branches=2).options.temperature
        3.0
    """

    name = "one"
    paper = "Lan, Zhu, Gong, NeurIPS 2018, arXiv:1806.04606"
    status = "verified"
    needs = frozenset()

    class Options(Method.Options):
        """Options of ``limbeck.losses.one``, and where the network branches."""

        branches: int = Field(3, ge=2, description="branches, the student's own included")
        temperature: float = Field(3.0, gt=0, description="divides the logits")
        epsilon: float = Field(1e-7, ge=0, description="added to the ensemble's probabilities")
        ramp_up: float | None = Field(
            None, gt=0, description="epochs of the sigmoid ramp; null: 80/300 of the run, as published"
        )
        layer: str | None = Field(
            None, description="output that the branches share; null: last stage but one"
        )

    options: Options

    def term_weights(self) -> dict[str, float]:
        return {self.name: 1.0, "branches": 1.0, "ensemble": 1.0}

    def prepare(self, student: Layout, teacher: Layout | None, setting: Setting) -> None:
        o = self.options
        if o.layer is None and len(student.stages) < 2:
            raise ModelError(
                f"{self.name} needs a network with at least two stages to branch",
                got=", ".join(student.stages) or "none",
                fix="name the shared layer with the option layer",
            )
        layer = o.layer or student.stages[-2]
        shape = student.shape(layer)
        self.student_taps = (layer,)
        example = torch.zeros(2, setting.inputs.channels, *setting.inputs.size)
        self.branches = nn.ModuleList(
            Branch(setting.build(number=i), student, layer, example, setting.classes)
            for i in range(1, o.branches)
        )
        self.gate = nn.Sequential(
            nn.Linear(shape[0] if len(shape) == 3 else shape[-1], o.branches), nn.BatchNorm1d(o.branches)
        )
        self.task = Classification(setting.classes)
        self.ramp = Ramp(start=0, end=1, shape="sigmoid", until=o.ramp_up or setting.epochs * 80 / 300)
        self.choices = (f"{self.name}: {o.branches} branches after {layer}",)

    def observe(self, student: nn.Module, signals: Signals, batch: Batch) -> None:
        (shared,) = (signals.features[name] for name in self.student_taps)
        own = signals.logits
        logits = [self.task.signals(b(batch.inputs, shared)).logits.to(own.dtype) for b in self.branches]
        pooled = shared.flatten(2).mean(2) if shared.dim() == 4 else shared.mean(1)
        signals.extra["branches"], signals.extra["gate"] = [own, *logits], self.gate(pooled).to(own.dtype)

    def forward(self, student: Signals, teacher: Signals | None, batch: Batch) -> Terms:
        o = self.options
        precision = torch.promote_types(student.logits.dtype, torch.float32)
        branches = [z.to(precision) for z in student.extra["branches"]]
        ensemble = one_ensemble(branches, student.extra["gate"].to(precision))
        losses = [self.task.loss(Signals(z), batch) for z in (*branches[1:], ensemble)]
        value = one(branches, ensemble, temperature=o.temperature, epsilon=o.epsilon)
        return {
            self.name: Term(value, self.ramp.at(self.epoch, 1)),
            "branches": Term(torch.stack(losses[:-1]).sum()),
            "ensemble": Term(losses[-1]),
        }


class Branch(nn.Module):
    """The part of a network behind a layer, run on that layer's output.

    What comes before the layer is taken out, so that only the part behind it costs anything.

    Args:
        network: a whole network; its part before the layer is dropped.
        layout: its layers.
        layer: where the branch begins.
        example: inputs to try it on.
        classes: outputs.

    Raises:
        ModelError: the network cannot be cut there.
    """

    def __init__(self, network: nn.Module, layout: Layout, layer: str, example: Tensor, classes: int) -> None:
        super().__init__()
        _cut(network, [found.name for found in layout.layers], layer)
        self.network, self.layer = network, layer
        try:
            out = self(example, torch.zeros(len(example), *layout.shape(layer)))
        except (RuntimeError, ValueError, TypeError, LimbeckError) as error:
            raise ModelError(
                f"the network cannot be branched after {layer!r}", got=str(error), fix="name another layer"
            ) from error
        if tuple(out.shape) != (len(example), classes):
            raise ModelError(f"the network cannot be branched after {layer!r}", got=tuple(out.shape))

    def forward(self, inputs: Tensor, shared: Tensor) -> Tensor:
        """Logits ``(N, C)`` from the shared layer's output; ``inputs`` only carry the call through."""
        replay = self.network.get_submodule(self.layer)
        assert isinstance(replay, _Replay)
        replay.feature = shared
        try:
            out: Tensor = self.network(inputs)
        finally:
            replay.feature = None
        return out


class _Replay(nn.Module):
    """Gives a feature that was computed elsewhere."""

    feature: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        assert self.feature is not None
        return self.feature


def _cut(network: nn.Module, order: Sequence[str], layer: str) -> None:
    """Put a replay in the layer's place, and nothing in the place of what finished before it."""
    place = order.index(layer)
    later = set(order[place + 1 :])
    for name in sorted(order[:place], key=lambda name: name.count(".")):
        inside = name.startswith(f"{layer}.") or layer.startswith(f"{name}.")
        if not inside and name not in later:
            try:
                network.set_submodule(name, nn.Identity())
            except AttributeError:
                continue  # inside a module that was already taken out
    network.set_submodule(layer, _Replay())
