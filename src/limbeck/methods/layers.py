"""Which layers of the two networks a feature method compares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ..connectors import Connector, Shape, as_map, as_vector, grid, text
from ..errors import ConfigError, ModelError
from ..signals import Signals
from ..taps import EMBEDDING, Layout
from .base import Method


class Pair(NamedTuple):
    """A layer of the student, the layer of the teacher it is compared with, and the shapes of both.

    Example:
        >>> str(Pair("layer2", "layer3", (32, 8, 8), (64, 8, 8)))
        'student layer2 32x8x8, teacher layer3 64x8x8'
    """

    student: str
    teacher: str
    source: Shape
    target: Shape

    def __str__(self) -> str:
        source, target = text(self.source), text(self.target)
        return f"student {self.student} {source}, teacher {self.teacher} {target}"


class FeatureMethod(Method):
    """A method that compares what layers of the two networks give.

    ``prepare`` asks for pairs of layers (``stages``, ``deepest`` or ``embeddings``), builds connectors, and
    ends in ``compare``; ``forward`` takes their features with ``features``. Layers named by hand in
    ``student_layers`` and ``teacher_layers`` replace the automatic choice of that network.
    """

    needs = frozenset({"features"})
    pairs: tuple[Pair, ...] = ()

    class Options(Method.Options):
        """Layers by name."""

        student_layers: tuple[str, ...] = Field((), description="the student's layers; none: its stages")
        teacher_layers: tuple[str, ...] = Field((), description="the teacher's layers; none: its stages")

    options: Options

    def stages(self, student: Layout, teacher: Layout | None) -> tuple[Pair, ...]:
        """All stages, the deepest with the deepest, then upwards until one network has no more.

        Raises:
            ModelError: a network has no stages, or a layer that was named does not exist.
            ConfigError: layers were named for both networks, but not equally many.
        """
        return self.paired(student, teacher, student.stages, self.network(teacher).stages)

    def preacts(self, student: Layout, teacher: Layout | None) -> tuple[Pair, ...]:
        """``stages``, each tapped before its last activation; layers named by hand are taken as they are.

        Raises:
            As ``stages``.
            ModelError: a network's activations are no modules.
        """
        o, teacher = self.options, self.network(teacher)
        ours = () if o.student_layers else student.before_activation()
        theirs = () if o.teacher_layers else teacher.before_activation()
        return self.paired(student, teacher, ours, theirs)

    def deepest(self, student: Layout, teacher: Layout | None, *, embedding: bool = True) -> tuple[Pair, ...]:
        """The last stage of each network; with ``embedding``, that where a network has no stages.

        Raises:
            As ``stages``.
        """
        networks = (student, self.network(teacher))
        ours, theirs = (n.stages[-1:] or (_embedding(n) if embedding else ()) for n in networks)
        return self.paired(student, teacher, ours, theirs)

    def embeddings(self, student: Layout, teacher: Layout | None) -> tuple[Pair, ...]:
        """What the classifier of each network reads.

        Raises:
            As ``stages``.
        """
        return self.paired(student, teacher, _embedding(student), _embedding(self.network(teacher)))

    def network(self, teacher: Layout | None) -> Layout:
        """What is known of the teacher, or an error that names the method."""
        if teacher is None:
            raise ConfigError(
                f"method {self.name!r} needs a teacher network",
                fix="set teacher, or choose another method",
            )
        return teacher

    def paired(
        self, student: Layout, teacher: Layout | None, automatic: Sequence[str], other: Sequence[str]
    ) -> tuple[Pair, ...]:
        """Pairs from these automatic choices for the two networks, or from the layers named by hand.

        Raises:
            As ``stages``.
        """
        teacher = self.network(teacher)
        o = self.options
        if o.student_layers and o.teacher_layers and len(o.student_layers) != len(o.teacher_layers):
            raise ConfigError(
                f"method {self.name!r}: the layers named do not pair",
                got=f"{len(o.student_layers)} student_layers, {len(o.teacher_layers)} teacher_layers",
                expected="equally many, in the order in which they are compared",
            )
        ours, theirs = o.student_layers or tuple(automatic), o.teacher_layers or tuple(other)
        for who, found, network in (("student", ours, student), ("teacher", theirs, teacher)):
            if not found:
                raise ModelError(
                    f"method {self.name!r} finds no layers to compare in the {who}",
                    got=", ".join(f"{layer.name} {text(layer.shape)}" for layer in network.layers[-8:]),
                    expected="maps (C, H, W), tokens (L, D), or a last linear layer",
                    fix=f"name layers with {who}_layers (embedding is what the last linear layer reads), or "
                    "choose a method that compares whole samples, such as rkd, pkt or sp",
                )
        count = min(len(ours), len(theirs))
        self.choices = tuple(
            f"{self.name}: {who} {', '.join(names)} not compared: stages are paired from the deepest"
            for who, names in (("student", ours[:-count]), ("teacher", theirs[:-count]))
            if names
        )
        return tuple(
            Pair(a, b, student.shape(a), teacher.shape(b))
            for a, b in zip(ours[-count:], theirs[-count:], strict=True)
        )

    def maps(self, pairs: Iterable[Pair]) -> tuple[Pair, ...]:
        """These pairs, once it is sure that both sides are maps, or tokens on a square grid.

        Raises:
            ModelError: a layer has no grid; both layers are named.
        """
        pairs = tuple(pairs)
        for pair in pairs:
            if grid(pair.source) is None or grid(pair.target) is None:
                raise ModelError(
                    f"method {self.name!r} compares places of feature maps",
                    got=str(pair),
                    expected="maps (C, H, W), or tokens (L, D) of a square grid with at most one class token",
                    fix="name other layers with student_layers and teacher_layers, or choose a method that "
                    "compares vectors, such as rkd, pkt or sp",
                )
        return pairs

    def connector(self, pair: Pair) -> Connector:
        """A learned projection from the student's layer to the teacher's.

        Raises:
            ModelError: none is known between these shapes; both layers are named.
        """
        try:
            return Connector(pair.source, pair.target)
        except ModelError as error:
            raise ModelError(
                f"method {self.name!r}: {error.what}", got=pair, expected=error.expected, fix=error.fix
            ) from None

    def compare(self, pairs: Iterable[Pair], connectors: Iterable[nn.Module | str] = ()) -> None:
        """Tap these layers and tell the reader.

        Args:
            pairs: the layers.
            connectors: for each pair what stands between them, shown by its ``str``; none: nothing.
        """
        self.pairs = tuple(pairs)
        self.student_taps = tuple(pair.student for pair in self.pairs)
        self.teacher_taps = tuple(pair.teacher for pair in self.pairs)
        shown = [f": {connector}" for connector in connectors] or [""] * len(self.pairs)
        lines = (f"{self.name}: {pair}{how}" for pair, how in zip(self.pairs, shown, strict=True))
        self.choices = (*self.choices, *lines)

    def features(self, student: Signals, teacher: Signals | None) -> list[tuple[Tensor, Tensor]]:
        """Features of each pair, the student's and the teacher's, float32 at least."""
        given = self.taught(teacher).features
        return [(full(student.features[p.student]), full(given[p.teacher])) for p in self.pairs]

    def feature_vectors(self, student: Signals, teacher: Signals | None) -> list[tuple[Tensor, Tensor]]:
        """Features of each pair as one vector for each sample: maps and tokens are averaged over places."""
        return [(as_vector(s), as_vector(t)) for s, t in self.features(student, teacher)]

    def feature_maps(self, student: Signals, teacher: Signals | None) -> list[tuple[Tensor, Tensor]]:
        """Features of each pair as maps ``(N, C, H, W)``."""
        return [(as_map(s), as_map(t)) for s, t in self.features(student, teacher)]


def full(x: Tensor) -> Tensor:
    """In float32 at least, for helpers that autocast does not reach."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def stem(network: Layout) -> tuple[str, ...]:
    """What feeds the first stage: as the network says, or the layer before a first stage that has layers of its
    own; otherwise none.

    Example:
        >>> import torch
        >>> from limbeck.models import build
        >>> from limbeck.taps import layout
        >>> network = build("resnet8", classes=10, channels=1, size=(16, 16))
        >>> stem(layout(network, torch.zeros(1, 1, 16, 16)))
        ('relu',)
    """
    if network.stem is not None:
        return (network.stem,)
    names = [layer.name for layer in network.layers]
    for i, name in enumerate(names):
        if network.stages and name.startswith(network.stages[0] + "."):
            return tuple(names[i - 1 : i])
    return ()


def _embedding(network: Layout) -> tuple[str, ...]:
    return (EMBEDDING,) if network.embedding is not None else ()


__all__ = ["FeatureMethod", "Pair", "full"]
