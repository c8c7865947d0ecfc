"""Networks by name: the CIFAR family of the distillation literature, and small plain ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import nn

from ..errors import ModelError, suggest
from .asdt import ASDTNet
from .libraries import LIBRARIES, Data, normalisation, of_library
from .mobilenet import MobileNetV2
from .preact_resnet import PreActResNet18
from .resnet import ResNet, residual
from .resnet_large import Bottleneck, LargeBlock, LargeResNet, large
from .segmentation import FCN
from .shufflenet_v1 import ShuffleV1
from .shufflenet_v2 import ShuffleV2
from .small import CNN, MLP
from .vgg import VGG, vgg
from .wrn import WideResNet, wide

MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": residual(8),
    "resnet14": residual(14),
    "resnet20": residual(20),
    "resnet32": residual(32),
    "resnet44": residual(44),
    "resnet56": residual(56),
    "resnet110": residual(110),
    "resnet8x4": residual(8, wide=True),
    "resnet32x4": residual(32, wide=True),
    "wrn_16_1": wide(16, 1),
    "wrn_16_2": wide(16, 2),
    "wrn_40_1": wide(40, 1),
    "wrn_40_2": wide(40, 2),
    "vgg8": vgg(8),
    "vgg11": vgg(11),
    "vgg13": vgg(13),
    "vgg16": vgg(16),
    "vgg19": vgg(19),
    "ResNet18": large(LargeBlock, 2, 2, 2, 2),
    "ResNet34": large(LargeBlock, 3, 4, 6, 3),
    "ResNet50": large(Bottleneck, 3, 4, 6, 3),
    "PreActResNet18": PreActResNet18,
    "MobileNetV2": MobileNetV2,
    "ShuffleV1": ShuffleV1,
    "ShuffleV2": ShuffleV2,
    "cnn": CNN,
    "mlp": MLP,
}
"""Every network that a configuration can name; called with classes, channels, size and its own options."""

SEGMENTERS: dict[str, Callable[..., nn.Module]] = {"fcn": FCN, "asdt": ASDTNet}
"""Networks that give maps of class scores; called alike."""

COMMON = ("classes", "channels", "size")


def build(name: str, *, classes: int, channels: int, size: tuple[int, int], **options: Any) -> nn.Module:
    """Make a network by name, freshly initialised from PyTorch's global generator.

    Args:
        name: an entry of ``MODELS`` or ``SEGMENTERS``, or a network of another package such as ``timm:resnet18``.
        classes: outputs.
        channels: image channels.
        size: height and width of the images.
        options: the network's own, such as ``widths`` and ``norm`` of ``cnn``.

    Raises:
        ModelError: an unknown name or option, or a value that makes no network.
        DependencyError: the package that the name asks for is not installed.

    Example:
        >>> build("resnet8", classes=10, channels=1, size=(28, 28)).fc
        Linear(in_features=64, out_features=10, bias=True)
    """
    if of_library(name):
        library, _, inside = name.partition(":")
        return LIBRARIES[library](inside, Data(classes, channels, size), options)
    if name not in MODELS and name not in SEGMENTERS:
        raise ModelError(f"unknown model {name!r}", expected=suggest(name, [*MODELS, *SEGMENTERS]))
    known = options_of(name)
    for option in options:
        if option not in known:
            raise ModelError(
                f"model {name!r} has no option {option!r}",
                expected=suggest(option, known) if known else "no options",
            )
    if min(classes, channels, *size) < 1:
        raise ModelError(
            f"model {name!r} cannot be built",
            got=f"classes={classes}, channels={channels}, size={size}",
            expected="positive numbers",
        )
    return _factory(name)(classes=classes, channels=channels, size=size, **_validated(name, options))


def options_of(name: str) -> list[str]:
    """Names of a network's own options.

    Example:
        >>> options_of("cnn")
        ['widths', 'norm']
    """
    from inspect import signature

    return [option for option in signature(_factory(name)).parameters if option not in COMMON]


def _factory(name: str) -> Callable[..., nn.Module]:
    return MODELS[name] if name in MODELS else SEGMENTERS[name]


def _validated(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Option values, checked against the types that the factory names."""
    factory: Any = _factory(name)
    called = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    hints = get_type_hints(called, include_extras=True) if options else {}
    for option, value in options.items():
        try:
            options[option] = TypeAdapter(hints.get(option, Any)).validate_python(value)
        except ValidationError as error:
            expected = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise ModelError(
                f"option {option!r} of model {name!r} is wrong", got=repr(value), expected=expected
            ) from error
    return options


class Description(NamedTuple):
    """A network of the table and its parameter count for 100 classes of 32×32 colour images."""

    name: str
    parameters: int


def describe() -> list[Description]:
    """All networks with their parameter counts at 32×32×3 and 100 classes (nothing is allocated).

    Example:
        >>> describe()[0]
        Description(name='resnet8', parameters=83892)
    """
    import torch

    rows = []
    for name in MODELS:
        with torch.device("meta"):
            net = build(name, classes=100, channels=3, size=(32, 32))
        rows.append(Description(name, sum(p.numel() for p in net.parameters())))
    return rows


__all__ = [
    "CNN",
    "FCN",
    "MLP",
    "MODELS",
    "SEGMENTERS",
    "VGG",
    "ASDTNet",
    "Description",
    "LargeResNet",
    "MobileNetV2",
    "PreActResNet18",
    "ResNet",
    "ShuffleV1",
    "ShuffleV2",
    "WideResNet",
    "build",
    "describe",
    "normalisation",
    "of_library",
    "options_of",
]
