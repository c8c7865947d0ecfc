"""Adapters of methods with learnable helpers: their own modules, filled with the golden's parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from limbeck import losses
from limbeck.methods import CRD, DCD, ITRD, RRD, Method
from limbeck.methods.ab import SCALE, stage_weights
from limbeck.methods.base import Setting
from limbeck.methods.reviewkd import ABF
from limbeck.taps import Layout

Tensors = dict[str, Tensor]


class Call(nn.Module):
    """Calls one method of a module, so that its tensors can be put in place of the module's own."""

    def __init__(self, module: Method, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.module, self.name)(*inputs)


def call(method: Method, name: str, tensors: Tensors, *inputs: Any) -> Any:
    """``method.name(*inputs)`` with these parameters and buffers."""
    return functional_call(Call(method, name), {f"module.{k}": v for k, v in tensors.items()}, inputs)


def prepared(method: Method, inputs: Tensors, samples: int = 2) -> Method:
    """The method as it stands before training on embeddings of the golden's widths."""

    def network(x: Tensor) -> Layout:
        return Layout(layers=(), stages=(), embedding=tuple(x.shape[1:]), classifier="fc")

    labels = torch.arange(samples) % 2
    setting: Any = Setting(2, labels, 1, None, nn.Identity(), None, None)  # type: ignore[arg-type]
    method.prepare(network(inputs["s"]), network(inputs["t"]), setting)
    return method.to(inputs["s"].dtype).train()


def renamed(params: Tensors, *pairs: tuple[str, str]) -> Tensors:
    """The parameters under our names: each pair is a start of the golden's name and of ours."""
    found = {}
    for key, tensor in params.items():
        for theirs, ours in pairs:
            if key.startswith(theirs):
                found[ours + key.removeprefix(theirs)] = tensor
    return found


def dcd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    method = DCD(
        width=hyper["feat_dim"],
        alpha=hyper["alpha"],
        learnable=hyper["trainable"],
        max_scale=hyper["max_tau"],
        temperature=hyper["nce_t"],
        literal=True,
    )
    scalars = (("params.", ""),) if hyper["trainable"] else ()
    tensors = renamed(params, ("embed_", "embed_"), *scalars)
    tensors = {name.replace("b", "bias") if name == "b" else name: x for name, x in tensors.items()}
    return {"loss": call(prepared(method, inputs), "contrast", tensors, inputs["s"], inputs["t"])}


def rrd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    method = RRD(
        width=params["queue"].shape[1],
        length=hyper["nce_k"],
        student_temperature=hyper["nce_t_s"],
        teacher_temperature=hyper["nce_t_t"],
    )
    tensors = {name: x.clone() if name.startswith("queue") else x for name, x in params.items()}
    loss = call(prepared(method, inputs), "contrast", tensors, inputs["s"], inputs["t"])
    return {"loss": loss, "queue_after": tensors["queue"]}


def itrd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    method = ITRD(alpha=hyper["alpha_it"], correlation_weight=1, mutual_weight=1)
    tensors = renamed(params, ("embed.linear.", "embed."))
    terms = call(prepared(method, inputs), "relate", tensors, inputs["s"], inputs["t"])
    corr, mutual = terms["correlation"].value, terms["mutual"].value
    return {"loss": corr + mutual, "corr": corr, "mutual": mutual}


def _crd(params: Tensors, hyper: dict[str, Any]) -> tuple[CRD, Tensors]:
    method = CRD(
        width=hyper["feat_dim"],
        negatives=hyper["nce_k"],
        temperature=hyper["nce_t"],
        momentum=hyper["nce_m"],
    )
    pairs = (("embed_s.linear.", "embed_s."), ("embed_t.linear.", "embed_t."), ("contrast.", "memory."))
    tensors = renamed(params, *pairs)
    return method, {n: x.clone() if n.startswith("memory") else x for n, x in tensors.items()}


def _after(loss: Tensor, tensors: Tensors) -> Tensors:
    z_s, z_t = tensors["memory.params"][2:4]
    memories = {f"memory_v{i}_after": tensors[f"memory.memory_v{i}"] for i in (1, 2)}
    return {"loss": loss, "Z_v1": z_s, "Z_v2": z_t, **memories}


def crd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    method, tensors = _crd(params, hyper)
    prepared(method, inputs, hyper["n_data"])
    where = (inputs["idx"], inputs["idx"], inputs["contrast_idx"])
    return _after(call(method, "contrast", tensors, inputs["s"], inputs["t"], *where), tensors)


def crd_second_step(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    method, tensors = _crd(params, hyper)
    prepared(method, inputs, hyper["n_data"])
    where = (inputs["idx"], inputs["idx"], inputs["contrast_idx"])
    call(method, "contrast", tensors, inputs["s"], inputs["t"], *where)
    s, t = 0.5 * inputs["s"] + 0.1, 0.5 * inputs["t"] - 0.1  # what the record's notes say was fed next
    return _after(call(method, "contrast", tensors, s, t, *where), tensors)


def ab(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    stages = hyper["feat_num"]
    keys = [("s", "t")] if stages == 1 else [(f"s{i}", f"t{i}") for i in range(stages)]
    found = {
        f"l{i}": SCALE * weight * losses.ab(inputs[s], inputs[t], margin=hyper["margin"])
        for i, (weight, (s, t)) in enumerate(zip(stage_weights(stages), keys, strict=True))
    }
    return {"loss": sum(found.values(), torch.zeros(())), **found}


def ab_mean(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    value = losses.ab(inputs["s"], inputs["t"], margin=hyper["m"], reduction="sum")
    return {"loss": value / inputs["s"].numel()}


def ab_sum(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return {"loss": losses.ab(inputs["s"], inputs["t"], margin=hyper["margin"])}


def ofd(reduction: Any) -> Any:
    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        margin = inputs["margin"].flatten()
        return {"loss": losses.ofd(inputs["s"], inputs["t"], margin, reduction=reduction)}

    return adapter


def ofd_margin(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    margin = losses.ofd_margin(inputs["weight"], inputs["bias"])
    dtype = inputs["weight"].dtype  # the margins are float32 by construction, ours and theirs
    return {"margin": margin.to(dtype), "loss": margin.sum().to(dtype)}


def hcl(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return {"loss": losses.hcl(inputs["s"], inputs["t"])}


def abf(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    x, y = inputs["x"], inputs["y"]
    size = (2 * y.shape[2], 2 * y.shape[3])  # the records' output size is twice the residual's
    module = ABF(hyper["in"], hyper["mid"], hyper["out"], hyper["fuse"]).to(x.dtype).train()
    tensors = {name: p if p.requires_grad else p.clone() for name, p in params.items()}
    out, residual = functional_call(module, tensors, (x, y if hyper["fuse"] else None, size))
    return {"out": out, "residual": residual, "loss": out.square().mean() + residual.square().mean()}
