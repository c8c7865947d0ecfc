"""Adapters of the losses and helpers that work on features. No formula lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from limbeck import losses
from limbeck.connectors import match
from limbeck.methods import RKD
from limbeck.methods.fitnets import Regressor
from limbeck.methods.ft import Paraphraser, Translator
from limbeck.methods.vid import Guess

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


def _darkrank(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    options = {"alpha": float(hyper["alpha"]), "beta": float(hyper["beta"]), "length": hyper["permute_len"]}
    return {"loss": losses.darkrank(inputs["s"], inputs["t"], **options)}


def _nst(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    s, t = inputs["s"], inputs["t"]
    rows, total = (losses.nst(s, t, constant=False, reduction=how) for how in ("none", "sum"))
    return {"loss": total, "per_sample": rows}


def _vid(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    s, t = match(inputs["s"], inputs["t"])
    guess = Guess(s.shape[1], t.shape[1], hyper["init_pred_var"], hyper["eps"])
    mean, variance = functional_call(guess, params, (s,))
    return {"loss": losses.vid(mean, t, variance)}


def _fsp(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return {"loss": losses.fsp((inputs["s1"], inputs["s2"]), (inputs["t1"], inputs["t2"]))}


def _ft(**options: Any) -> Adapter:
    """``ft`` with the gradient that the reference gives to a factor without direction."""
    return lambda inputs, params, hyper: {
        "loss": losses.ft(inputs["s"], inputs["t"], degenerate="published", **options)
    }


def _ft_attention(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    distance = {1: "l1", 2: "square"}[hyper["p2"]]
    options = {"power": float(hyper["p1"]), "distance": distance}
    return {"loss": losses.ft(inputs["s"], inputs["t"], form="attention", **options)}


def _paraphraser(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    t = inputs["t"]
    module = Paraphraser(t.shape[1], len(params["encoder.6.bias"]))
    found = functional_call(module, params, (t,))
    encoder = {name.removeprefix("encoder."): x for name, x in params.items() if name.startswith("encoder.")}
    factor = functional_call(module.encoder, encoder, (t,))
    return {"factor": factor, "reconstruction": found, "loss": torch.nn.functional.mse_loss(found, t)}


def _translator(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    module = Translator(inputs["s"].shape[1], len(params["encoder.6.bias"]))
    factor = functional_call(module, {name: x.clone() for name, x in params.items()}, (inputs["s"],))
    return {"factor": factor, "loss": factor.square().mean()}  # only to have a gradient, as the record says


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
    ("rkd", "official_darkrank"): _darkrank,
    ("pkt", "repdistiller"): _pkt,
    ("pkt", "official"): _pkt,
    ("pkt", "kdzoo_eps1e-6"): _pkt,
    ("nst", "repdistiller"): _plain(losses.nst),
    ("nst", "official_mxnet_transcribed"): _nst,
    ("vid", "repdistiller"): _vid,
    ("fsp", "repdistiller"): _fsp,
    ("fsp", "kdzoo"): _fsp,
    ("ft", "official"): _ft(),
    ("ft", "kdzoo"): _ft(),
    ("ft", "torchdistill_p1"): _ft(),
    ("ft", "torchdistill_p2"): _ft(distance="norm"),
    ("ft", "repdistiller"): _ft_attention,
    ("ft", "paraphraser"): _paraphraser,
    ("ft", "translator"): _translator,
}
"""(method, variant) -> adapter."""
