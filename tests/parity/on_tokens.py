"""Adapters of the losses on tokens. No formula lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from limbeck.losses import (
    Head,
    chunked_cross_entropy,
    chunked_divergence,
    flat_cosine,
    gold,
    kd,
    label_smoothing,
    mined,
    sparse_divergence,
    token_divergence,
    top_k_targets,
)
from limbeck.vocabulary import Spans, bare, groups, warp

Tensors = dict[str, Tensor]
Hyper = dict[str, Any]
NETS = ("student", "teacher")
Adapter = Callable[[Tensors, Tensors, Hyper], Tensors]


def _logits(inputs: Tensors) -> tuple[Tensor, Tensor]:
    return inputs["student_logits"], inputs["teacher_logits"]


def _divergence(inputs: Tensors, divergence: str, masked: bool = True, **options: Any) -> Tensor:
    """``token_divergence`` of the golden's logits, over the labelled positions or over all."""
    labels = inputs["labels"] if masked else None
    return token_divergence(*_logits(inputs), labels, divergence=divergence, **options)


def _simple(
    divergence: str,
    *,
    temperature: str | None = None,
    beta: str | None = None,
    alpha: str | None = None,
    masked: bool = True,
    **options: Any,
) -> Adapter:
    """One divergence, its constants under the golden's names for them."""
    names = {"temperature": temperature, "beta": beta, "alpha": alpha}

    def adapter(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
        given = {
            ours: float(hyper[name]) for ours, name in names.items() if name is not None and name in hyper
        }
        return {"loss": _divergence(inputs, divergence, masked, **given, **options)}

    return adapter


def _entropy(logits: Tensor, labels: Tensor | None = None, reduction: Any = "mean") -> Tensor:
    """Cross-entropy of a distribution with itself; ``kd`` wants finite logits."""
    finite = logits.detach().clamp(min=-1e4)
    rows = finite.flatten(0, -2) if labels is None else finite[labels != -100]
    return kd(rows, rows, temperature=1.0, form="cross_entropy", reduction=reduction)


def _cross(inputs: Tensors, divergence: str, **options: Any) -> Tensor:
    """A divergence from the teacher without the constant that is the teacher's entropy."""
    entropy = _entropy(inputs["teacher_logits"], inputs["labels"])
    return _divergence(inputs, divergence, **options) + entropy


# TRL


def _trl(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    options: Hyper = {name: float(hyper[name]) for name in ("beta", "temperature") if name in hyper}
    masked = not ("labels" in hyper and hyper["labels"] is None)
    shape = inputs["student_logits"].shape
    reduction = hyper.get("reduction", "batchmean")
    if reduction == "sum":
        options["reduction"] = "sum"
    elif reduction == "mean":
        # a mean over the entries of the vocabulary too
        positions = int((inputs["labels"] != -100).sum()) if masked else shape[:-1].numel()
        options["num_items"] = max(positions, 1) * shape[-1]
    elif hyper.get("num_items_in_batch") is not None:
        options["num_items"] = hyper["num_items_in_batch"]
    elif not masked:
        options["num_items"] = shape[0]
    return {"loss": _divergence(inputs, "jsd", masked, **options)}


def _gold(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    """The same from probabilities, none of which may be below 1e-8."""
    clamped = {
        name: inputs[name].softmax(-1).clamp(min=1e-8).log() for name in ("student_logits", "teacher_logits")
    }
    return _trl(inputs | clamped, params, hyper)


def _gold_uld(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    """Sample by sample; "observed" reads the logits of the token itself, as there."""
    vocabularies = hyper["student_vocab"], hyper["teacher_vocab"]
    both = sorted(
        (theirs, vocabularies[0][token])
        for token, theirs in vocabularies[1].items()
        if token in vocabularies[0]
    )
    options: Hyper = {"merge": hyper["strategy"], "beta": float(hyper["beta"])}
    if hyper["hybrid"] is not None:
        options["shared"] = torch.tensor([s for _, s in both]), torch.tensor([t for t, _ in both])
        options["weights"] = None if hyper["hybrid"] == "adaptive" else tuple(hyper["hybrid"])
    early = int(hyper["strategy"] == "bayesian")
    values = []
    for i in range(len(inputs["student_logits"])):
        answers = [(inputs[f"{net}_labels"][i] != -100).nonzero().flatten() for net in NETS]
        number = _answer_groups(inputs, i, answers, bool(hyper["extended"]))
        if early and any(len(at) and at[0] == 0 for at in answers):
            # nothing predicts a sequence's first token
            number = [torch.where(g > 0, g - 1, -1) for g in number]
        rows = [at[g >= 0] for at, g in zip(answers, number, strict=True)]
        logits, tokens = (
            [inputs[f"{net}_{what}"][i][at - late] for net, at in zip(NETS, rows, strict=True)]
            for what, late in (("logits", early), ("input_ids", 0))
        )
        kept = [g[g >= 0] for g in number]
        values.append(gold(*logits, tuple(tokens), tuple(kept), **options))
    loss = torch.stack(values).mean()
    if hyper["ce_weight"]:
        entropy = label_smoothing(
            inputs["student_logits"][:, :-1].flatten(0, 1),
            inputs["student_labels"][:, 1:].flatten(),
            smoothing=0.0,
        )
        loss = loss + hyper["ce_weight"] * entropy
    return {"loss": loss}


def _answer_groups(inputs: Tensors, row: int, answers: list[Tensor], extended: bool) -> list[Tensor]:
    """The group of each token of both answers: by bytes, or the k-th with the k-th; -1 where one side has none."""
    if not extended:
        shorter = min(map(len, answers))
        return [torch.where(torch.arange(len(at)) < shorter, torch.arange(len(at)), -1) for at in answers]
    sides = [
        Spans(inputs[f"{net}_byte_offsets"][row][at].numpy(), np.zeros(len(at), np.int8))
        for net, at in zip(NETS, answers, strict=True)
    ]
    first, second, count = groups(*sides, rest=True)
    lone = [g for g in range(count) if not ((first == g).any() and (second == g).any())]
    return [torch.from_numpy(np.where(np.isin(side, lone), -1, side)) for side in (first, second)]


def _heads(inputs: Tensors, hyper: Hyper) -> tuple[Tensor, Head, Tensor, Head]:
    """Both networks' hidden states and heads."""
    found: list[Any] = []
    for net in ("student", "teacher"):
        scale, cap = hyper.get(f"{net}_logit_scale", 1.0), hyper.get(f"{net}_softcap")
        head = Head(inputs[f"{net}_weight"], inputs.get(f"{net}_bias"), float(scale), cap)
        found += [inputs[f"{net}_hidden"], head]
    return tuple(found)  # type: ignore[return-value]


def _trl_chunked(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    student, mine, teacher, theirs = _heads(inputs, hyper)
    temperature = float(hyper["temperature"])
    options: Hyper = {"divergence": "jsd", "beta": float(hyper["beta"]), "temperature": temperature}
    logits = mine(student)
    found = {
        "per_token": token_divergence(logits, theirs(teacher), reduction="none", **options),
        "student_entropy": _entropy(logits / temperature, reduction="none"),
    }
    pieces = {"chunk": hyper["token_chunk"]} if "token_chunk" in hyper else {}
    if not pieces:
        return found | {
            "loss": chunked_divergence(student, mine, teacher, theirs, reduction="sum", **options)
        }
    mean = chunked_divergence(student, mine, teacher, theirs, inputs["labels"], **options, **pieces)
    return found | {"loss_masked_mean": mean, "loss": mean}


# DistiLLM


def _forward(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    return {"loss": _cross(inputs, "forward_kl")}


def _symmetric(inputs: Tensors, forward: float) -> Tensors:
    """Forward and reverse KL, the first with a weight, the second with the rest."""
    back = _divergence(inputs, "reverse_kl")
    return {"loss": forward * _cross(inputs, "forward_kl") + (1 - forward) * back}


def _distillm_symmetric(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    return _symmetric(inputs, 1 - float(hyper.get("lam", 0.9)))


def _torchtune_symmetric(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    return _symmetric(inputs, float(hyper.get("sym_kd_ratio", 0.5)))


def _distillm_skew(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    return {"loss": _cross(inputs, "skew_kl", alpha=float(hyper.get("lam", 0.1)))}


def _student_beta(name: str, otherwise: float) -> Adapter:
    """A JSD whose weight is the student's, not the teacher's."""

    def adapter(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
        options: Hyper = {"beta": 1 - float(hyper.get(name, otherwise))}
        if "temperature" in hyper:
            options |= {"temperature": float(hyper["temperature"]), "reduction": "sum"}
        return {"loss": _divergence(inputs, "jsd", **options)}

    return adapter


def _distillm2(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    """Sums or means of each sequence, whose labels are shifted inside."""
    student, teacher = (x[:, :-1] for x in _logits(inputs))
    labels = inputs["labels"][:, 1:]
    items = (labels != -100).sum(1).clamp(min=1) if hyper["average_log_prob"] else torch.ones(len(labels))

    def sequences(values: Tensor) -> Tensor:
        return values.view(labels.shape).sum(1) / items

    def apart(divergence: str, **options: float) -> Tensor:
        options = {"divergence": divergence, "reduction": "none", **options}  # type: ignore[dict-item]
        return sequences(token_divergence(student, teacher, labels, **options))  # type: ignore[arg-type]

    def log_prob(logits: Tensor) -> Tensor:
        rows = logits.flatten(0, 1), labels.flatten()
        return -sequences(label_smoothing(*rows, smoothing=0.0, reduction="none"))

    if hyper["loss_type"] == "kd":
        first, second = apart("forward_kl"), -apart("reverse_kl")  # with their sign
    elif hyper["loss_type"] == "gkd":
        first = second = apart("jsd", beta=0.9)
    else:
        first = apart("skew_kl", alpha=float(hyper.get("base_alpha_1", 0.1)))
        second = apart("skew_reverse_kl_fixed", alpha=float(hyper.get("base_alpha_2", 0.1)))
    found = {"out0": log_prob(student), "out1": log_prob(teacher), "out2": first, "out3": second}
    return found | {"loss": first.sum()}


# DSKD


def _dskd(divergence: str) -> Adapter:
    def adapter(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
        options: Hyper = {"temperature": float(hyper["kd_temperature"])}
        options["mu"] = float(hyper.get("adaptive_kl_alpha", 0.5))
        options["alpha"] = float(hyper.get("skew_lambda", 0.1))
        student, teacher = _logits(inputs)
        if hyper.get("use_tea_temp"):
            teacher = teacher / hyper["teacher_temperature"]
        every = hyper.get("reduction") == "none"
        labels, reduction = (None, "none") if every else (inputs["labels"], "sum")
        value = token_divergence(
            student,
            teacher,
            labels,
            divergence=divergence,
            reduction=reduction,  # type: ignore[arg-type]
            **options,
        )
        return {"loss": value}

    return adapter


def _dskd_cross_entropy(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    logits = inputs["student_logits"]
    logits = logits.masked_fill(logits.isinf(), 0.0)  # so does their helper, before anything else
    smoothing = float(hyper["label_smoothing"])
    value = label_smoothing(
        logits.flatten(0, 1), inputs["labels"].flatten(), smoothing=smoothing, reduction="sum"
    )
    return {"loss": value}


# ULD


def _answer(logits: Tensor, labels: Tensor, skip_last: bool) -> Tensor:
    """Logits from the one that predicts the first label, as many as there are labels."""
    given = (labels != -100).nonzero()
    start = max(int(given[0]) - 1, 0)
    return logits[start : start + len(given) - skip_last]


def _uld(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    found = []
    for i in range(len(inputs["student_logits"])):
        rows = []
        for net in ("student", "teacher"):
            skip = bool(hyper.get(f"skip_{net}_eos", False))
            logits = _answer(inputs[f"{net}_logits"][i], inputs[f"{net}_labels"][i], skip)
            rows.append(logits / hyper.get(f"{net}_temperature", 1.0))
        size = min(map(len, rows))
        found.append(token_divergence(rows[0][:size], rows[1][:size], divergence="uld"))
    return {"loss": torch.stack(found).mean() * hyper.get("distillation_weight", 1.0)}


def _mined(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    spell = {who: {i: token for token, i in hyper[f"{who}_vocab"].items()} for who in ("student", "teacher")}
    words = [[bare(spell[who][int(i)]) for i in inputs[f"{who}_input_ids"]] for who in ("student", "teacher")]
    a, b = (torch.from_numpy(side) for side in warp(*words).one_to_one(published=True))
    to_student = inputs["teacher_to_student_id"]
    same = to_student[inputs["teacher_input_ids"][b]] == inputs["student_input_ids"][a]
    columns = torch.full((len(spell["student"]),), -1)
    columns[inputs["student_ids_with_teacher"]] = inputs["teacher_ids_for_student"][:, 0]
    student, theirs = inputs["student_logits"], inputs["teacher_logits"]
    labels = inputs["student_target_ids"]
    options = {"temperature": float(hyper["kd_temperature"]), "reduction": "sum"}
    return {"loss": mined(student, theirs[b[same]], labels, a[same], columns, **options)}


def _uld_rotated(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    """Each row starts at its first label; positions count that have a label on both sides."""
    found: dict[str, list[Tensor]] = {}
    for net in ("student", "teacher"):
        for logits, labels in zip(inputs[f"{net}_logits"], inputs[f"{net}_labels"], strict=True):
            first = int((labels != -100).nonzero()[0])
            found.setdefault(f"{net}_logits", []).append(logits.roll(-first, 0))
            found.setdefault(f"{net}_labels", []).append(labels.roll(-first))
    rolled = {name: torch.stack(rows) for name, rows in found.items()}
    labels = rolled["student_labels"].masked_fill(rolled["teacher_labels"] == -100, -100)
    value = token_divergence(*_logits(rolled), labels, divergence="uld", reduction="sum")
    return {"loss": value}


# Speculative KD


def _first(divergence: str) -> Adapter:
    """Over all positions of the first sequence."""

    def adapter(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
        student, teacher = _logits(inputs)
        return {"loss": token_divergence(student[0], teacher[0], divergence=divergence)}

    return adapter


# Liger


def _liger(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    student, mine, teacher, theirs = _heads(inputs, hyper)
    chunk = hyper["chunk_size"]
    more = max(len(theirs.weight) - len(mine.weight), 0)
    # entries that only the teacher has get logits of 0 from the student
    bias = None if mine.bias is None else pad(mine.bias, (0, more))
    soft = chunked_divergence(
        student,
        Head(pad(mine.weight, (0, 0, 0, more)), bias),
        teacher,
        theirs,
        inputs["labels"],
        divergence="jsd",
        beta=float(hyper["beta"]),
        temperature=float(hyper["temperature"]),
        chunk=chunk,
    )
    hard = chunked_cross_entropy(student, mine, inputs["labels"], chunk=chunk)
    loss = hyper["weight_hard"] * hard + hyper["weight_soft"] * soft
    return {"loss": loss, "soft_loss": soft, "hard_loss": hard}


def _liger_cosine(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    """Cosines of raw logits at every token, labelled or not, over the number of labelled ones; T cancels."""
    student, mine, teacher, theirs = _heads(inputs, hyper)
    own, other = mine(student).flatten(0, -2), theirs(teacher).flatten(0, -2)
    own = pad(own, (0, max(other.shape[1] - own.shape[1], 0)))
    apart = torch.stack([flat_cosine(a, b) for a, b in zip(own[:, None], other[:, None], strict=True)])
    soft = hyper["beta"] * apart.sum() / max(int((inputs["labels"] != -100).sum()), 1)
    hard = chunked_cross_entropy(student, mine, inputs["labels"])
    loss = hyper["weight_hard"] * hard + hyper["weight_soft"] * soft
    return {"loss": loss, "soft_loss": soft, "hard_loss": hard}


# NVIDIA


def _automodel(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    options = {
        "temperature": float(hyper.get("temperature", 1.0)),
        "num_items": hyper.get("num_batch_labels"),
    }
    return {"loss": _divergence(inputs, "forward_kl", scale=True, **options)}


def _modelopt(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    shape, reduction = inputs["student_logits"].shape, hyper.get("reduction", "mean")
    divisor = {"mean": shape.numel(), "batchmean": shape[0]}.get(reduction)
    options: Hyper = {"reduction": reduction} if divisor is None else {"num_items": divisor}
    options["temperature"] = float(hyper["temperature"])
    return {"loss": _divergence(inputs, "forward_kl", False, scale=True, **options)}


# DistillKit and verl


def _sparse(divergence: str) -> Adapter:
    def adapter(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
        student, teacher = _logits(inputs)
        ids, log_probs = top_k_targets(teacher, hyper["k"])
        value = sparse_divergence(
            student,
            ids,
            log_probs,
            inputs["labels"],
            divergence=divergence,
            tail={"zero": "renormalise", "symmetric_uniform": "lump"}[hyper["missing"]],  # type: ignore[arg-type]
            temperature=float(hyper["temperature"]),
            reduction="sum",
        )
        return {"loss": value, "target_ids": ids, "target_logprobs": log_probs}

    return adapter


def _verl(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
    student, teacher = (x[:1] for x in _logits(inputs))
    ids, log_probs = top_k_targets(teacher, hyper["topk"])
    value = sparse_divergence(student, ids, log_probs, tail="none", reduction="none")
    return {
        "loss": value.sum(),
        "per_token": value,
        "out_distillation_losses": value,
        "teacher_topk_ids": ids,
        "teacher_topk_logprobs": log_probs,
    }


_DIVERGENCES = {
    "forward_kl": "forward_kl",
    "reverse_kl": "reverse_kl",
    "adaptive_kl": "adaptive_kl",
    "skewed_forward_kl": "skew_kl",
    "skewed_reverse_kl": "skew_reverse_kl",
    "js_divergence": "jsd",
}
_SUM: Hyper = {"temperature": "temperature", "reduction": "sum"}

_ADAPTERS: dict[str, Adapter] = {
    "trl.generalized_jsd_loss": _trl,
    "trl.gold.generalized_jsd_loss(logits_are_probs)": _gold,
    "trl.gold.uld": _gold_uld,
    "trl.chunked_divergence": _trl_chunked,
    "distillm.forward_kl": _forward,
    "distillm.reverse_kl": _simple("reverse_kl"),
    "distillm.symmetric_kl": _distillm_symmetric,
    "distillm.js_distance": _student_beta("lam", 0.9),
    "distillm.tv_distance": _simple("total_variation"),
    "distillm.skewed_forward_kl": _distillm_skew,
    "distillm.skewed_reverse_kl": _simple("skew_reverse_kl", alpha="lam"),
    **{f"{v}.{theirs}": _dskd(ours) for theirs, ours in _DIVERGENCES.items() for v in ("dskd", "dskdv2")},
    "distillm2.get_batch_logps": _distillm2,
    "uld.llm_recipes": _uld,
    "uld.dskd": _uld_rotated,
    "mined.aligned_kl": _mined,
    "dskd.cross_entropy": _dskd_cross_entropy,
    "skd.kl": _first("forward_kl"),
    "skd.reverse_kl": _first("reverse_kl"),
    "torchtune.ForwardKLLoss": _forward,
    "torchtune.ForwardKLWithChunkedOutputLoss": _forward,
    "torchtune.ReverseKLLoss": _simple("reverse_kl"),
    "torchtune.ReverseKLWithChunkedOutputLoss": _simple("reverse_kl"),
    "torchtune.SymmetricKLLoss": _torchtune_symmetric,
    "liger.fused_linear_cosine": _liger_cosine,
    "liger.fused_linear_jsd": _liger,
    "automodel.kd_loss": _automodel,
    "modelopt.logits_distillation": _modelopt,
    "distillkit.dense_kl": _simple("forward_kl", **_SUM),
    "distillkit.dense_jsd": _simple("jsd", **_SUM),
    "distillkit.dense_tvd": _simple("total_variation", **_SUM),
    "distillkit.sparse_kl": _sparse("forward_kl"),
    "distillkit.sparse_jsd": _sparse("jsd"),
    "distillkit.sparse_tvd": _sparse("total_variation"),
    "kdflow.kl": _simple("forward_kl", **_SUM),
    "kdflow.rkl": _simple("reverse_kl", **_SUM),
    "kdflow.jsd": _student_beta("jsd_beta", 0.5),
    "kdflow.skl": _simple("skew_kl", **_SUM),
    "kdflow.srkl": _simple("skew_reverse_kl", **_SUM),
    "kdflow.akl": _simple("adaptive_kl", **_SUM),
    "kdflow.tvd": _simple("total_variation", **_SUM),
    "ms_swift.jsd_loss": _simple("jsd", beta="beta", **_SUM),
    "verl.forward_kl_topk": _verl,
}

Rule = Callable[[Hyper], bool]
EXCEPT: dict[str, tuple[Rule, str]] = {
    "trl.generalized_jsd_loss": (
        lambda hyper: hyper.get("reduction") == "none",
        "a value for each entry of the vocabulary; ours are for each position",
    ),
    "distillm2.get_batch_logps": (
        lambda hyper: hyper.get("logp_logq") is not None or hyper.get("logq_logp") is not None,
        "a rule of that method, not in the catalogue yet, chooses alpha for each sequence",
    ),
    "dskd.cross_entropy": (
        lambda hyper: hyper["label_smoothing"] > 0,
        "a bug there: with smoothing, the sum over all positions is added at each of them",
    ),
    "verl.forward_kl_topk": (
        lambda hyper: hyper.get("log_prob_min_clamp") is not None,
        "another toolkit's convention: no gradient where a log-probability is below the clamp",
    ),
}
"""method -> the hyper-parameters for which it has no adapter, and why."""

CONVENTIONS: dict[str, str] = {
    "skd.jsd": "no JSD: the divergence of the mixture from both, not of both from the mixture",
}
"""method -> what of its own it computes."""


def without(method: str, hyper: Hyper) -> str | None:
    """Why a method that has an adapter has none for these hyper-parameters, or None."""
    rule, reason = EXCEPT.get(method, (lambda hyper: False, ""))
    return reason if rule(hyper) else None


def _checked(method: str, adapter: Adapter) -> Adapter:
    def checked(inputs: Tensors, params: Tensors, hyper: Hyper) -> Tensors:
        if reason := without(method, hyper):
            raise NotImplementedError(reason)
        return adapter(inputs, params, hyper)

    return checked


TOKENS: dict[str, Adapter] = {method: _checked(method, adapter) for method, adapter in _ADAPTERS.items()}
"""method -> adapter."""
