"""Adapters of dual-space KD. No formula lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from limbeck.losses import DualSpace, Head, cross_attention, cross_space, dual_space, projector_start
from limbeck.vocabulary.greedy import greedy_pairs

Tensors = dict[str, Tensor]
Hyper = dict[str, Any]
Adapter = Callable[[Tensors, Tensors, Hyper], Tensors]

KINDS = {
    "forward_kl": "forward_kl",
    "reverse_kl": "reverse_kl",
    "adaptive_kl": "adaptive_kl",
    "skewed_forward_kl": "skew_kl",
    "skewed_reverse_kl": "skew_reverse_kl",
    "js_divergence": "jsd",
}


def _options(hyper: Hyper) -> Hyper:
    return {"divergence": KINDS[hyper["kd_objective"]], "temperature": float(hyper["kd_temperature"])}


def _states(inputs: Tensors) -> Hyper:
    """Hidden states and heads."""
    heads = {f"{who}_head": Head(inputs[f"{who}_head"]) for who in ("student", "teacher")}
    return {"student": inputs["student_hidden"], "teacher": inputs["teacher_hidden"], **heads}


def _back(hidden: Tensor, inputs: Tensors, hyper: Hyper) -> Tensor:
    """The student's states in the teacher's space."""
    if "w_s2t" in inputs and not hyper.get("init_s2t_projector"):
        return linear(hidden, inputs["w_s2t"], inputs.get("b_s2t"))
    own, other = inputs["student_head"].detach(), inputs["teacher_head"]
    if "student_vocab" in hyper:
        mine, theirs = _shared(hyper)
        own, other = own[mine], other[theirs]
    own, other = own.float(), other.float()  # as there
    return linear(hidden, (projector_start(own, other)[1] @ own).to(hidden.dtype))


def _shared(hyper: Hyper) -> tuple[Tensor, Tensor]:
    """Ids of the tokens that both vocabularies have, once the student's marker of a space is the teacher's."""
    known = {token.replace("Ġ", "▁"): i for token, i in hyper["student_vocab"].items()}
    pairs = [(known[token], i) for token, i in hyper["teacher_vocab"].items() if token in known]
    mine, theirs = torch.tensor(pairs).T
    return mine, theirs


def _told(found: DualSpace, loss: Tensor, inputs: Tensors) -> Tensors:
    """The outputs; what a setting leaves out has a gradient of 0 in the reference."""
    loss = loss + sum(0.0 * x.sum() for x in inputs.values() if x.requires_grad)
    return {
        "loss": loss,
        "log_kd_loss": loss,
        "log_t2s_ce_loss": found.projector,
        "log_t2s_kd_loss": found.student_space,
        "log_s2t_kd_loss": found.teacher_space,
    }


def _first(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    states = _states(inputs)
    found = dual_space(
        **states,
        to_student=linear(states["teacher"], inputs["w_t2s"], inputs["b_t2s"]),
        to_teacher=_back(states["student"], inputs, hyper),
        labels=inputs["student_label"],
        targets=inputs["student_label"],
        agreement=-1.0,
        teacher_divergence="forward_kl",
        num_items=1,
        **_options(hyper),
    )
    return _told(found, found.student_space + found.projector + found.teacher_space, inputs)


def _second(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    states = _states(inputs)
    found = dual_space(
        **states,
        to_student=linear(states["teacher"], inputs["w_t2s"]),
        to_teacher=_back(states["student"], inputs, hyper),
        labels=inputs["student_label"],
        agreement=float(hyper.get("t2s_agreement", 1.0)),
        num_items=hyper["loss_denom"],
        **_options(hyper),
    )
    student = found.student_space + found.projector
    if hyper.get("only_stu_kd"):
        return _told(found, student, inputs)
    loss = found.teacher_space if hyper.get("only_tea_kd") else student + found.teacher_space
    return _told(found, loss, inputs)


def _start(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    own, other = inputs["student_head"], inputs["teacher_head"]
    if not hyper["same_vocab"]:
        mine, theirs = _shared(hyper)
        own, other = own[mine], other[theirs]
    top = hyper.get("topk_vocab", -1)
    own, other = (x[:top] if top > 0 else x for x in (own, other))
    own, other = own.float(), other.float()  # as there
    there, back = projector_start(own, other)
    found = {"w_t2s": there, "teacher_head_pinv": back.T, "w_s2t_dxD": (back @ own).T}
    return {name: x.double() for name, x in found.items()}


def _span(labels: Tensor) -> range:
    """From the first labelled position to the last."""
    known = (labels != -100).nonzero().flatten().tolist()
    return range(known[0], known[-1] + 1) if known else range(0)


def _aligned(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    spell = {who: {i: token for token, i in hyper[f"{who}_vocab"].items()} for who in ("student", "teacher")}
    ends = {f"{who}_eos": hyper[f"{who}_eos"] for who in ("student", "teacher")}
    at: tuple[list[tuple[int, int]], ...] = ([], [])
    for row, labels in enumerate(zip(inputs["student_label"], inputs["teacher_label"], strict=True)):
        spans = [_span(x) for x in labels]
        tokens = [
            [spell[who].get(int(x[k]), "") for k in span]
            for who, x, span in zip(spell, labels, spans, strict=True)
        ]
        for side, span, places in zip(at, spans, greedy_pairs(*tokens, **ends), strict=True):
            side += [(row, span[k]) for k in places]
    mine, theirs = (tuple(torch.tensor(side, dtype=torch.long).view(-1, 2).T) for side in at)
    translate = torch.full((len(inputs["teacher_head"]),), -100)
    for token, i in hyper["teacher_vocab"].items():
        said = hyper["student_eos"] if token == hyper["teacher_eos"] else token
        translate[i] = hyper["student_vocab"].get(said, -100)
    states = _states(inputs)
    states |= {"student": states["student"][mine], "teacher": states["teacher"][theirs]}
    found = dual_space(
        **states,
        to_student=linear(states["teacher"], inputs["w_t2s"]),
        to_teacher=_back(states["student"], inputs, hyper),
        translate=translate,
        agreement=float(hyper["t2s_agreement"]),
        **_options(hyper),
    )
    return _told(found, found.student_space + found.projector + found.teacher_space, inputs)


def _labels(inputs: Tensors, who: str) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, which count, and embeddings of what was fed and what should come; 0 where nothing counts."""
    labels, table = inputs[f"{who}_label"], inputs[f"{who}_embed"].detach()
    known = labels != -100
    fed, asked = (x.where(known, 0) for x in (inputs[f"{who}_input_ids"], labels))
    return labels, known, torch.cat([table[fed], table[asked]], -1)


def _attended(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    states = _states(inputs)
    mine, known, asking = _labels(inputs, "student")
    theirs, other, asked = _labels(inputs, "teacher")
    hidden, after = states["teacher"], asked.chunk(2, -1)[1]
    values = linear(hidden / hidden.std() + after / after.std(), inputs["w_t2s"], inputs["b_t2s"])
    u, v = cross_attention(
        linear(asking, inputs["w_query"], inputs["b_query"]),
        asked / asked.std(),
        linear(states["student"], inputs["w_s2t"], inputs["b_s2t"]),
        values,
        known,
        other,
    )
    tempered = {"teacher_temperature": float(hyper["teacher_temperature"])}
    found = cross_space(
        **states, to_student=u, to_teacher=v, student_labels=mine, teacher_labels=theirs,
        num_items=1, **tempered, **_options(hyper),
    )  # fmt: skip
    loss = found.student_space + found.projector + found.teacher_space
    return _told(DualSpace(*found, known.sum()), loss, inputs)


SPACES: dict[str, Adapter] = {
    "dskd_v1.cma": _attended,
    "dskd_v2.eta": _aligned,
    "dskd_v1.dual_space": _first,
    "dskd_v2.dual_space": _second,
    "dskd_v2.projector_init": _start,
}
"""method -> adapter."""
