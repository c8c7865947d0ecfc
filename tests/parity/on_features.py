"""Adapters of the losses and helpers that work on features. No formula lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from limbeck import losses
from limbeck.methods import RKD
from limbeck.methods.fitnets import Regressor

Tensors = dict[str, Tensor]
Adapter = Callable[[Tensors, Tensors, dict[str, Any]], Tensors]


def _plain(loss: Callable[..., Tensor]) -> Adapter:
    """A loss on two features, without options."""
    return lambda inputs, params, hyper: {"loss": loss(inputs["s"], inputs["t"])}


def _regressor(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    source, target = (tuple(inputs[name].shape[1:]) for name in "st")
    regressor = Regressor(source, target, relu=hyper["use_relu"]).to(inputs["s"].dtype)
    found = functional_call(regressor, {name: x.clone() for name, x in params.items()}, (inputs["s"],))
    return {"regressed": found, "loss": losses.fitnets(found, inputs["t"])}


def _at(**options: Any) -> Adapter:
    """``at`` with the power and eps that the golden has."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        given = {"power": float(hyper.get("p", 2)), "eps": float(hyper.get("eps", 0))}
        return {"loss": losses.at(inputs["s"], inputs["t"], **given, **options)}

    return adapter


def _published(loss: Callable[..., Tensor]) -> Adapter:
    """A loss on two features, with the gradient that the reference gives to what has no direction."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        return {"loss": loss(inputs["s"], inputs["t"], degenerate="published")}

    return adapter


def _cc(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    options = {"gamma": float(hyper["gamma"]), "order": int(hyper["P_order"])}
    return {"loss": losses.cc(inputs["s"], inputs["t"], degenerate="published", **options)}


def _cc_plain(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    reduction = {"batchmean": "mean"}.get(hyper["reduction"], hyper["reduction"])
    gamma, order = float(hyper["gamma"]), int(hyper["max_p"])
    s, t = inputs["s"], inputs["t"]
    value = losses.cc(s, t, gamma=gamma, order=order, normalise=False, distance="norm", reduction=reduction)
    return {"loss": value}


def _rkd(distance: str, angle: str, **options: Any) -> Adapter:
    """Both parts of RKD as the method adds them up, with the weights under the golden's names for them."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        weights = {
            "distance_weight": float(hyper.get(distance, 25)),
            "angle_weight": float(hyper.get(angle, 50)),
        }
        method = RKD(**weights, **options, degenerate="published")
        terms = method.compared([(inputs["s"], inputs["t"])])
        return {"loss": torch.stack([term.value * term.weight for term in terms.values()]).sum()}

    return adapter


def _pkt(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return {"loss": losses.pkt(inputs["s"], inputs["t"], eps=float(hyper["eps"]))}


FEATURES: dict[tuple[str, str], Adapter] = {
    ("fitnet", "hint_mse"): _plain(losses.fitnets),
    ("fitnet", "convreg"): _regressor,
    ("at", "repdistiller"): _at(),
    ("at", "official"): _at(),
    ("at", "kdzoo"): _at(),
    ("at", "torchdistill_code"): _at(),
    ("at", "torchdistill_paper"): _at(form="norm"),
    ("sp", "repdistiller"): _published(losses.sp),
    ("sp", "kdzoo"): _published(losses.sp),
    ("cc", "repdistiller"): _plain(losses.cc_neighbours),
    ("cc", "kdzoo_taylor_rbf"): _cc,
    ("cc", "torchdistill_gaussian_sum"): _cc_plain,
    ("cc", "torchdistill_gaussian_batchmean"): _cc_plain,
    ("rkd", "repdistiller"): _rkd("w_d", "w_a"),
    ("rkd", "mdistiller"): _rkd("distance_weight", "angle_weight"),
    ("rkd", "mdistiller_squared"): _rkd("distance_weight", "angle_weight", squared=True),
    ("rkd", "official_distance"): _plain(losses.rkd_distance),
    ("rkd", "official_angle"): _published(losses.rkd_angle),
    ("pkt", "repdistiller"): _pkt,
    ("pkt", "official"): _pkt,
    ("pkt", "kdzoo_eps1e-6"): _pkt,
}
"""(method, variant) -> adapter."""
