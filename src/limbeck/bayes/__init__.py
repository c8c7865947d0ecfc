"""Bayesian teachers: distributions over networks that answer with the mean of their class probabilities."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn

from ..bayesian import BayesConfig
from .adapters import Foreign
from .base import BayesianTeacher, Posterior, mixture
from .dropout import MCDropout
from .ensemble import Ensemble
from .laplace import LastLayerLaplace
from .snapshots import SGLD, SWAG
from .variational import Variational


def posterior(
    config: BayesConfig, network: nn.Module, another: Callable[[int], nn.Module] | None = None
) -> Posterior:
    """The distribution over networks that a configuration names, around a network.

    Args:
        config: kind and settings.
        network: the network; used, not copied.
        another: makes the further members of an ensemble from their number; None copies the network.

    Example:
        >>> posterior(BayesConfig(name="swag", samples=4), nn.Linear(4, 3)).bank.shape
        torch.Size([4, 15])
    """
    if config.name == "ensemble":
        make = another or (lambda number: copy.deepcopy(network))
        members = [network, *(make(number) for number in range(1, config.members))]
        return Ensemble(members, config.samples)
    kinds: dict[str, Callable[[nn.Module, BayesConfig], Posterior]] = {
        "vi": Variational,
        "dropout": MCDropout,
        "swag": SWAG,
        "sgld": SGLD,
        "laplace": LastLayerLaplace,
    }
    return kinds[config.name](network, config)


__all__ = [
    "SGLD",
    "SWAG",
    "BayesConfig",
    "BayesianTeacher",
    "Ensemble",
    "Foreign",
    "LastLayerLaplace",
    "MCDropout",
    "Posterior",
    "Variational",
    "mixture",
    "posterior",
]
