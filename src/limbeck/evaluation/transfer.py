"""Linear probe: how well a frozen network's embedding serves other data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import DataError, ModelError
from ..seeds import derive
from ..taps import EMBEDDING, Taps, layout
from .pixels import PixelModel, chunks, evaluating

if TYPE_CHECKING:
    from ..data import Data, Split
    from ..runs import Run
    from ..teachers import Inputs

IMAGES = 10_000
"""Training images that the probe is fitted to."""

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty that validation chooses from."""


def linear_probe(
    of: nn.Module | Run,
    data: Data,
    *,
    inputs: Inputs | None = None,
    images: int | None = IMAGES,
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
) -> dict[str, Any]:
    """Test accuracy of logistic regression on what the last linear layer of a frozen network reads.

    Images are brought to the network's size (bilinear, antialiased) and channels (grey is repeated, colour
    averaged) and normalised as it was trained. Embeddings are standardised by the training images' mean and
    deviation. The penalty is chosen by accuracy on validation; the test split is looked at once.

    Args:
        of: a network, or a finished run (its last epoch).
        data: the other data; classes need not be the network's.
        inputs: what the network was trained on; a run knows it, for a network it is by default as ``data``.
        images: how many training images, drawn at random; None for all.
        seed: of the draw.
        strengths: inverse strengths C of the L2 penalty to choose from.

    Returns:
        ``data`` (name), ``train`` (images used), ``embedding`` (its length), ``strength`` (the C chosen),
        ``validation`` and ``accuracy`` (test).

    Raises:
        ModelError: the network ends in no linear layer on vectors, or gives NaN or infinity.
        DataError: fewer than two classes among the training images, pixels outside [0, 1].

    Source: as the transfer tables of Tian et al. 2020 (arXiv 1910.10699). Deviation: scikit-learn's logistic
    regression, run to convergence, instead of SGD.

    Example:
        >>> from limbeck.data import DataConfig, load
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> found = linear_probe(net, load(DataConfig()), images=300)
        >>> found["embedding"], found["accuracy"] > 0.7
        (32, True)
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    from ..teachers import Inputs

    if isinstance(of, nn.Module):
        model, expects = of, inputs or Inputs(data.channels, data.size, data.mean, data.std)
    else:
        model, expects = of.student(), inputs or of.inputs()
    random = torch.Generator().manual_seed(derive(seed, "probe images"))
    ids = torch.randperm(len(data.train), generator=random)[:images].sort().values
    with evaluating(model):
        x, y = _embeddings(model, data.train, ids, expects, len(data.classes))
        parts = [
            _embeddings(model, split, torch.arange(len(split)), expects, len(data.classes))
            for split in (data.validation, data.test)
        ]
    if len(np.unique(y)) < 2:
        raise DataError("a probe needs images of at least two classes", got=f"{len(y)} images of one")
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation < 1e-6] = 1
    (x_validation, y_validation), (x_test, y_test) = parts

    def fit(strength: float) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=strength, max_iter=500).fit((x - mean) / deviation, y)

    fitted = {strength: fit(strength) for strength in strengths}
    scores = {s: float(f.score((x_validation - mean) / deviation, y_validation)) for s, f in fitted.items()}
    strength = max(scores, key=scores.__getitem__)
    return {
        "data": data.name,
        "train": len(ids),
        "embedding": x.shape[1],
        "strength": strength,
        "validation": scores[strength],
        "accuracy": float(fitted[strength].score((x_test - mean) / deviation, y_test)),
    }


@torch.no_grad()
def _embeddings(
    model: nn.Module, split: Split, ids: Tensor, expects: Inputs, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Embeddings ``(n, D)`` and labels of the ids."""
    seen = PixelModel(model, expects.mean, expects.std, classes)
    taps, vectors, labels = None, [], []
    for images, y in chunks(split, ids):
        images = _fitted(images, expects)
        if taps is None:
            found = layout(model, images[:1].to(seen.device))
            if found.embedding is None:
                raise ModelError(
                    f"{type(model).__name__} ends in no linear layer on vectors",
                    fix="probe a network whose last layer is a torch.nn.Linear",
                )
            taps = Taps((EMBEDDING,), found.classifier)
        with taps.record(model) as recorded:
            seen(images)
        vectors.append(recorded[EMBEDDING].flatten(1).cpu().double())
        labels.append(y)
    x = torch.cat(vectors).numpy()
    if not np.isfinite(x).all():
        raise ModelError("the embedding holds NaN or infinity", fix="the network has diverged: probe another")
    return x, torch.cat(labels).numpy()


def _fitted(images: Tensor, expects: Inputs) -> Tensor:
    """Images with the channels and the size that a network expects."""
    if images.shape[1] != expects.channels:
        images = images.mean(1, keepdim=True).expand(-1, expects.channels, -1, -1)
    if tuple(images.shape[2:]) != tuple(expects.size):
        images = F.interpolate(images, expects.size, mode="bilinear", antialias=True).clamp(0, 1)
    return images
