"""Looking inside a network: its layers with shapes, its stages, and taps on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import ModelError, suggest
from .preact import INPUT, Seen, split, tap_before

EMBEDDING = "embedding"
"""Name of the tap on what the classifier reads: the input of the last linear layer."""


class Layer(NamedTuple):
    """A module that gave one tensor, in the order of the forward pass.

    Attributes:
        name: its path in the network, such as ``layer2.0``.
        kind: its class.
        shape: of its output without the batch: ``(C, H, W)`` for maps, ``(L, D)`` for tokens, ``(D,)``.
        signed: whether any of its output was below 0 when the network was looked at.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    signed: bool = False


class Anatomy(NamedTuple):
    """Where the literature taps a network: its attribute ``anatomy``, by names of modules.

    Attributes:
        stem: what feeds the first stage, if anything does.
        stages: shallow to deep.
        preacts: each stage before its last ReLU.
    """

    stem: str | None
    stages: tuple[str, ...]
    preacts: tuple[str, ...]


class Layout(NamedTuple):
    """What a method may know of a network before training.

    Attributes:
        layers: all layers in order.
        stages: names of the automatic choice, shallow to deep.
        embedding: shape of the embedding, or None where the network ends in no linear layer.
        classifier: name of that linear layer.
        stem: name of what feeds the first stage, where the network says so.
        preacts: each stage before its last ReLU, named by the network or found in its run (``preact``); empty
            where that could not be told.
    """

    layers: tuple[Layer, ...]
    stages: tuple[str, ...]
    embedding: tuple[int, ...] | None
    classifier: str | None
    stem: str | None = None
    preacts: tuple[str, ...] = ()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a layer's output, or of the activation whose input is tapped.

        Raises:
            ModelError: no such layer; the nearest is named.
        """
        if name == EMBEDDING and self.embedding is not None:
            return self.embedding
        return self.layers[self._position(name)].shape

    def signed(self, name: str) -> bool:
        """Whether a layer's output held numbers below 0; True for what a module reads, which nobody looked at.

        Raises:
            ModelError: no such layer; the nearest is named.
        """
        return name.startswith(INPUT) or self.layers[self._position(name)].signed

    def before_activation(self) -> tuple[str, ...]:
        """Taps on each stage before its last activation.

        Raises:
            ModelError: it could not be told for a stage.
        """
        for stage, preact in zip(self.stages, self.preacts, strict=True):
            if not preact:
                raise ModelError(
                    f"stage {stage!r} cannot be tapped before its activation, which is no module",
                    expected="nn.ReLU (or another activation) as a module at the end of the stage",
                    fix="use activation modules, give the network an anatomy (docs/models.md), or name layers "
                    "by hand",
                )
        return self.preacts

    def norm_before(self, name: str) -> str | None:
        """The last batch normalisation of a tap's width that had run when the tapped tensor was there."""
        position = self._position(name)
        channels = self.layers[position].shape[0]
        for layer in reversed(self.layers[: position + 1]):
            if layer.kind.startswith("BatchNorm") and layer.shape[0] == channels:
                return layer.name
        return None

    def _position(self, name: str) -> int:
        path, call = split(name)
        places = [i for i, layer in enumerate(self.layers) if layer.name == path]
        if len(places) < call:
            names = [layer.name for layer in self.layers]
            raise ModelError(
                f"no layer {name!r}", expected=suggest(path, names), fix="limbeck layers MODEL lists them"
            )
        return places[call - 1] if name.startswith(INPUT) else places[-1]


@torch.no_grad()
def layout(model: nn.Module, inputs: Tensor) -> Layout:
    """Run a network once and look at what its modules give.

    Stages are those that the network names itself (``anatomy``), as those of the zoo do. Otherwise they are
    four equally spaced blocks of a stack of equal blocks that give tokens; without tokens, the deepest module
    at each spatial resolution of at least 2 pixels. The network's mode, statistics and the random state are
    left as they were.

    Args:
        model: the network.
        inputs: one batch as it is fed.

    Example:
        >>> from limbeck.models import build
        >>> found = layout(build("resnet8", classes=10, channels=1, size=(16, 16)), torch.zeros(1, 1, 16, 16))
        >>> found.stages, found.shape("layer2"), found.embedding
        (('layer1', 'layer2', 'layer3'), (32, 8, 8), (64,))
    """
    order: list[Layer] = []
    seen: list[Seen] = []
    linear: list[tuple[str, tuple[int, ...]]] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, given: Any, out: Any) -> None:
            found = _tensor(out)
            if found is not None and found.dim() >= 2 and len(found) == len(inputs):
                signed = bool((found < 0).any())
                order.append(Layer(name, type(module).__name__, tuple(found.shape[1:]), signed))
                seen.append(Seen(name, module, found, signed))
            if isinstance(module, nn.Linear) and given[0].dim() == 2:
                linear.append((name, tuple(given[0].shape[1:])))

        return module.register_forward_hook(hook)

    modes = {module: module.training for module in model.modules()}
    handles = [watch(name, module) for name, module in model.named_modules() if name]
    random = torch.get_rng_state()
    try:
        model.eval()(inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"the network {type(model).__name__} fails on inputs of shape {tuple(inputs.shape)}",
            got=f"{type(error).__name__}: {error}",
            fix="check the network against the data's channels and size",
        ) from error
    finally:
        torch.set_rng_state(random)
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    layers = tuple(order)
    classifier, embedding = linear[-1] if linear else (None, None)
    own = getattr(model, "anatomy", None)
    if isinstance(own, Anatomy):
        return Layout(layers, own.stages, embedding, classifier, own.stem, own.preacts)
    stages = _blocks(layers) or _maps(layers, tuple(inputs.shape[-2:]))
    preacts = tuple(tap_before(seen, stage) for stage in stages)
    return Layout(layers, stages, embedding, classifier, None, preacts)


def _tensor(out: Any) -> Tensor | None:
    """What a module gave: a tensor, or the first of several things where that is one."""
    first = out[0] if isinstance(out, (tuple, list)) and out else out
    return first if isinstance(first, Tensor) else None


def _maps(layers: Sequence[Layer], size: tuple[int, ...]) -> tuple[str, ...]:
    """The last module at each resolution; containers finish after their children, so they win.

    What is inside a block that steps down from that resolution is no stage, if there was one before the block.
    """
    at: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        if len(layer.shape) == 3 and _alike(layer.shape[1:], size):
            at.pop(layer.name, None)
            at[layer.name] = layer.shape[1:]
    inside: dict[str, set[tuple[int, ...]]] = {}
    for name, resolution in at.items():
        for block in _around(name):
            inside.setdefault(block, set()).add(resolution)
    last: dict[tuple[int, ...], str] = {}
    for name, resolution in at.items():
        steps = [b for b in _around(name) if at.get(b, resolution) != resolution and len(inside[b]) <= 2]
        before = resolution in last and any(not last[resolution].startswith(f"{b}.") for b in steps)
        if max(resolution) > 1 and not before:
            last[resolution] = name
    return tuple(last.values())


def _around(name: str) -> list[str]:
    """The modules that a module is inside of, itself not among them."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _alike(resolution: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a map can be of an image: its sides are to each other as the image's are, give or take a pixel."""
    (height, width), (h, w) = resolution, size
    return abs(height * w - width * h) <= max(size)


def _blocks(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Four equally spaced blocks of the longest stack of equal blocks."""
    stacks: dict[tuple[str, str], list[str]] = {}
    for layer in layers:
        parent, _, number = layer.name.rpartition(".")
        if number.isdigit() and len(layer.shape) == 2:
            stacks.setdefault((parent, layer.kind), []).append(layer.name)
    blocks = max(stacks.values(), key=len, default=[])
    count = min(4, len(blocks))
    return tuple(blocks[(i + 1) * len(blocks) // count - 1] for i in range(count))


class Taps:
    """Records what named modules give while a network runs.

    Hooks live only during the forward pass, so copies, wrappers and checkpoints of the network never hold
    them, and a network without taps costs nothing.

    Args:
        names: paths of modules for what they give; ``input of PATH`` for what a module reads, ``#2`` behind it
            at its second call in one run; ``embedding`` for what the module ``classifier`` reads.
        classifier: name of the last linear layer, for ``embedding`` and ``head``.
        head: whether ``last_layer`` is wanted.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
        >>> with Taps(["1", "embedding"], classifier="2").record(net) as found:
        ...     _ = net(torch.zeros(5, 2))
        >>> {name: tuple(tensor.shape) for name, tensor in found.items()}
        {'1': (5, 3), 'embedding': (5, 3)}
    """

    def __init__(
        self, names: Sequence[str] = (), classifier: str | None = None, *, head: bool = False
    ) -> None:
        self.names, self.classifier, self.head = tuple(dict.fromkeys(names)), classifier, head

    def last_layer(self, model: nn.Module) -> tuple[Tensor, Tensor | None] | None:
        """Weight ``(C, D)`` and bias ``(C,)`` of the classifier where ``head`` was asked for, else None.

        Raises:
            ModelError: the network ends in no linear layer.
        """
        if not self.head:
            return None
        layer = None if self.classifier is None else model.get_submodule(self.classifier)
        if not isinstance(layer, nn.Linear):
            raise ModelError(
                f"{type(model).__name__} ends in no linear layer on vectors",
                fix="use a method that does not apply the classifier anew",
            )
        return layer.weight, layer.bias

    @contextmanager
    def record(self, model: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Features by name, filled while the context is open.

        Raises:
            ModelError: a name is no module of the network.
        """
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(_: nn.Module, given: Any, out: Any) -> None:
                tensor = _tensor(out)
                if tensor is None:
                    raise ModelError(f"the layer {name!r} gives no tensor", got=type(out).__name__)
                found[name] = tensor

            return hook

        def keep_input(name: str, call: int) -> Any:
            calls = 0

            def hook(module: nn.Module, given: Any) -> None:
                nonlocal calls
                calls += 1
                if calls == call:  # what works in place would change what is kept
                    found[name] = given[0].clone() if getattr(module, "inplace", False) else given[0]

            return hook

        with ExitStack() as stack:
            for name in self.names:
                path, call = (self.classifier or "", 1) if name == EMBEDDING else split(name)
                try:
                    module = model.get_submodule(path)
                except AttributeError:
                    raise ModelError(
                        f"no layer {path!r} in the network", fix="limbeck layers MODEL lists them"
                    ) from None
                if name == EMBEDDING or name.startswith(INPUT):
                    stack.callback(module.register_forward_pre_hook(keep_input(name, call)).remove)
                else:
                    stack.callback(module.register_forward_hook(keep(name)).remove)
            yield found
