"""Networks of other packages by name: ``timm:resnet18``, ``transformers:vit``, ``causal:gpt2``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import DependencyError, ModelError, suggest
from ..shapes import Images, Logits
from .causal import from_causal


class Data(NamedTuple):
    """What the data decides about a network."""

    classes: int
    channels: int
    size: tuple[int, int]


def from_timm(name: str, data: Data, options: dict[str, Any]) -> nn.Module:
    """A network of timm; ``options`` are those of ``timm.create_model``, such as ``pretrained``.

    Networks of a fixed image size are made for the data's. Activations are made to work out of place, so that
    a tap reads what a layer gave.

    Raises:
        DependencyError: timm is not installed, or does not import.
        ModelError: unknown name, wrong options, or weights that cannot be had.
    """
    timm = import_library("timm")
    plain = name.partition(".")[0]
    if not timm.is_model(plain):
        raise ModelError(f"timm has no network {plain!r}", expected=suggest(plain, timm.list_models()))
    fixed = timm.get_pretrained_cfg(plain, allow_unregistered=True)
    if fixed is not None and fixed.fixed_input_size:
        options = {"img_size": data.size, **options}
    make = lambda: timm.create_model(name, num_classes=data.classes, in_chans=data.channels, **options)
    network: nn.Module = attempt(f"timm:{name}", make)
    for module in network.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010  (a plain assignment is typed as one of a module)
    return network


class ImageClassifier(nn.Module):
    """A classifier of transformers that gives plain logits.

    Args:
        network: the classifier.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Images) -> Logits:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        logits: Tensor = self.network(pixel_values=x).logits
        return logits


def from_transformers(name: str, data: Data, options: dict[str, Any]) -> nn.Module:
    """An image classifier of transformers: a kind (``vit``), a folder, or a name on the hub.

    ``options`` are keys of its configuration, and ``pretrained``. Without it, weights are random and the
    network is made for the data's image size and channels; with it, the folder's or hub's weights are
    loaded from safetensors and a classifier of another size starts anew. Code of a hub is never run.

    Raises:
        DependencyError: transformers is not installed.
        ModelError: unknown kind, wrong options, or weights or configuration that cannot be had.
    """
    transformers = import_library("transformers")
    label = f"transformers:{name}"
    options = dict(options)
    pretrained = options.pop("pretrained", False)
    kinds = list(
        import_library("transformers.models.auto.modeling_auto").MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    )
    if name in kinds and pretrained:
        fix = "give a folder or a name on the hub instead of a kind"
        raise ModelError(f"{label} has no pretrained weights", fix=fix)
    configure, known = configuration(label, name, kinds, "image classifier", options)
    shape: dict[str, Any] = {"num_labels": data.classes}
    if not pretrained and hasattr(known, "image_size"):
        height, width = data.size
        shape["image_size"] = height if height == width else data.size
    if hasattr(known, "num_channels"):
        shape["num_channels"] = data.channels
    config = attempt(label, lambda: configure(**{**shape, **options}))
    auto: Any = transformers.AutoModelForImageClassification
    if pretrained:
        loading = {"ignore_mismatched_sizes": True, "use_safetensors": True, "trust_remote_code": False}
        return ImageClassifier(attempt(label, lambda: auto.from_pretrained(name, config=config, **loading)))
    return ImageClassifier(attempt(label, lambda: auto.from_config(config)))


def configuration(
    label: str, name: str, kinds: list[str], what: str, options: dict[str, Any]
) -> tuple[Callable[..., Any], Any]:
    """What makes configurations of a kind of transformers, or of a folder or hub name, and the plain one.

    Raises:
        ModelError: no such kind, or an option that the configuration does not have.
    """
    auto: Any = import_library("transformers").AutoConfig
    configure: Callable[..., Any]
    if name in kinds:
        configure = lambda **keys: auto.for_model(name, **keys)
    elif "/" in name:
        configure = lambda **keys: auto.from_pretrained(name, trust_remote_code=False, **keys)
    else:
        raise ModelError(
            f"transformers has no {what} {name!r}",
            expected=f"{suggest(name, kinds)}, owner/name on the hub, or a folder with a slash in its path",
        )
    known = attempt(label, configure)
    for option in options:
        if not hasattr(known, option):
            keys = sorted(known.to_dict())
            raise ModelError(f"{label} has no option {option!r}", expected=suggest(option, keys))
    return configure, known


LIBRARIES: dict[str, Callable[[str, Data, dict[str, Any]], nn.Module]] = {
    "timm": from_timm,
    "transformers": from_transformers,
    "causal": from_causal,
}
"""Packages whose networks a configuration can name as ``package:name``."""


def normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of the images that a pretrained network was trained on, where its package says so.

    Example:
        >>> normalisation(nn.Linear(2, 3))
    """
    known = getattr(network, "pretrained_cfg", None)
    return (tuple(known["mean"]), tuple(known["std"])) if isinstance(known, dict) else None


def of_library(name: str) -> bool:
    """Whether a name is of another package's network.

    Example:
        >>> of_library("timm:resnet18"), of_library("mine:make"), of_library("resnet8")
        (True, False, False)
    """
    library, colon, _ = name.partition(":")
    return bool(colon) and library in LIBRARIES


def import_library(name: str, extra: str = "vision") -> Any:
    """Import another package, or say what to install."""
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except Exception as error:
        missing = getattr(_cause(error), "name", None)
        if isinstance(error, ModuleNotFoundError) and missing in (package, "torchvision"):
            raise DependencyError(
                f"networks of {package} need {missing}", fix=f"pip install 'limbeck[{extra}]'"
            ) from None
        raise _broken(package, error) from error


def attempt(label: str, make: Callable[[], Any]) -> Any:
    """Call another package; whatever it raises is told in one message."""
    try:
        return make()
    except ImportError as error:
        raise _broken(label.partition(":")[0], error) from error
    except Exception as error:
        raise ModelError(
            f"{label} cannot be made",
            got=_told(error),
            fix="check its name and options, and the network connection where weights are fetched",
        ) from error


def _broken(package: str, error: Exception) -> DependencyError:
    return DependencyError(
        f"{package} is installed but does not import",
        got=_told(_cause(error)),
        fix=f"install releases of {package} and torchvision that fit torch {torch.__version__}",
    )


def _cause(error: BaseException) -> BaseException:
    """What an error goes back to."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
