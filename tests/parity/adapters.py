"""From the goldens' names and options to the public API. No formula lives here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from tests.parity import modules
from tests.parity.on_features import FEATURES
from tests.parity.on_generation import SAMPLED
from tests.parity.on_spaces import SPACES
from tests.parity.on_tokens import CONVENTIONS, TOKENS
from torch import Tensor, nn

from limbeck import losses
from limbeck.losses import at, dist, dkd, fitnets, kd, one, one_ensemble
from limbeck.methods import KD, MLKD, ONE
from limbeck.methods.boundary import Scores, boundary_samples
from limbeck.methods.fitnets import Regressor
from limbeck.ramps import Ramp
from limbeck.signals import Batch, Signals
from limbeck.tasks import Classification
from limbeck.training.learner import Learner, Use

Tensors = dict[str, Tensor]
Adapter = Callable[[Tensors, Tensors, dict[str, Any]], Tensors]


def _kd(temperature: str | None = None, **options: Any) -> Adapter:
    """``kd`` with the temperature under the golden's name for it."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        given = {} if temperature is None else {"temperature": float(hyper[temperature])}
        return {"loss": kd(inputs["s"], inputs["t"], **given, **options)}

    return adapter


def _with_labels(
    inputs: Tensors,
    label_weight: float,
    weight: float,
    temperature: float,
    standardise: bool = False,
    **options: Any,
) -> Tensors:
    """The weighted sum of cross-entropy and KD that a run would minimise."""
    s, t, y = inputs["s"], inputs["t"], inputs["y"]
    method = KD(temperature=temperature, **options)
    learner = Learner(
        nn.Identity(),
        Classification(s.shape[1]),
        [Use(method, float(weight), {}, standardise)],
        float(label_weight),
    )
    terms = learner.terms(Signals(s), Signals(t), Batch(s, y, torch.arange(len(s))))
    return {"loss": torch.stack([term.value * term.weight for term in terms.values()]).sum()}


def _cls_kd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    value = kd(inputs["s"], inputs["t"], temperature=float(hyper["temp"]), form="cross_entropy")
    return {"loss": value * hyper["alpha"]}


def _alpha(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return _with_labels(inputs, 1 - hyper["alpha"], hyper["alpha"], hyper["T"])


def _divided_by_classes(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    alpha, classes = hyper["alpha"], inputs["s"].shape[1]
    return _with_labels(inputs, 1 - alpha, alpha / classes, hyper["T"])


def _alpha_beta(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return _with_labels(inputs, hyper["alpha"], hyper["beta"], hyper["temperature"])


def _squares(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    share = hyper["distil_weight"]
    return _with_labels(inputs, 1 - share, share, hyper["temp"], form="mse_probabilities")


def _dkd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    options = {"alpha": hyper["alpha"], "beta": hyper["beta"], "temperature": hyper["T"]}
    value = dkd(inputs["s"], inputs["t"], inputs["y"], **{k: float(v) for k, v in options.items()})
    return {"loss": value}


def _floats(hyper: dict[str, Any], **names: str) -> dict[str, float]:
    """Options under our names, from a golden's names for them."""
    return {ours: float(hyper[theirs]) for ours, theirs in names.items()}


def _nkd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    y = inputs["y"] if inputs["y"].dim() == 1 else inputs["y"].argmax(1)
    options = _floats(hyper, gamma="gamma", temperature="temp")
    return {"loss": losses.nkd(inputs["s"], inputs["t"], y, **options)}


def _wsld(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    value = losses.wsld(inputs["s"], inputs["t"], inputs["y"], temperature=float(hyper["temp"]))
    return {"loss": value * hyper["alpha"]}


def _power(loss: Callable[..., Tensor]) -> Adapter:
    """``ttm`` or ``wttm``."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        return {"loss": loss(inputs["s"], inputs["t"], exponent=hyper["gamma(l)"])}

    return adapter


def _rld(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    options = _floats(hyper, alpha="alpha", beta="beta", temperature="T", alpha_temperature="alpha_T")
    return {"loss": losses.rld(inputs["s"], inputs["t"], inputs["y"], **options)}


def _standardised(adapter: Adapter) -> Adapter:
    """An adapter whose networks' logits are standardised first."""

    def standard(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        logits = {name: losses.standardise(inputs[name]) for name in ("s", "t")}
        return adapter(inputs | logits, params, hyper)

    return standard


def _standardised_alpha_beta(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return _with_labels(inputs, hyper["alpha"], hyper["beta"], hyper["temperature"], standardise=True)


def _ctkd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    options = _floats(hyper, start="t_start", span="t_end", reverse="lambda")
    temperature = losses.learned_temperature(params["global_T"], **options)
    return {"loss": losses.ctkd(inputs["s"], inputs["t"], temperature), "temperature": temperature}


def _mlkd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    """The terms that a run would minimise, under the golden's names."""
    s, t, s_strong, t_strong = (inputs[f"{net}_{view}"] for view in ("weak", "strong") for net in "st")
    weight, labels_weight = float(hyper["kd_weight"]), float(hyper["ce_weight"])
    weights = dict.fromkeys(("instance_weight", "batch_weight", "class_weight"), weight)
    method = MLKD(temperatures=hyper["T"], strong_label_weight=labels_weight, **weights)
    use = Use(method, 1.0, {}, hyper.get("logit_stand", False))
    learner = Learner(nn.Identity(), Classification(s.shape[1]), [use], labels_weight)
    batch = Batch(s, inputs["y"], torch.arange(len(s)))
    terms = learner.terms(Signals(s), Signals(t), batch, {0: (Signals(s_strong), Signals(t_strong))})
    found = {name: term.value * term.weight for name, term in terms.items()}
    return {
        "loss": torch.stack(list(found.values())).sum(),
        "loss_ce": found["cross_entropy"] + found["mlkd.strong_labels"],
        "loss_kd": found["mlkd.instance"],
        "loss_cc": found["mlkd.class"],
        "loss_bc": found["mlkd.batch"],
    }


def _relation(loss: Callable[..., Tensor]) -> Adapter:
    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        return {"loss": loss(inputs["s"], inputs["t"], temperature=hyper["T"])}

    return adapter


def _sdd(base: str, **names: str) -> Adapter:
    """``sdd`` on logits whose regions come last."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        s, t = (inputs[name].permute(2, 0, 1) for name in ("s", "t"))
        return {"loss": losses.sdd(s, t, inputs["y"], base=base, **_floats(hyper, **names))}

    return adapter


def _regions(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    found = losses.regions(inputs["x"], json.loads(hyper["M"]))
    return {"regions": found, "loss": found.square().sum()}


def _sample_ckd(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return {"loss": losses.sample_ckd(inputs["s"], inputs["t"], temperature=hyper["temperature"])}


def _dist(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    options = {"beta": hyper["beta"], "gamma": hyper["gamma"], "temperature": hyper.get("tau", 1)}
    return {"loss": dist(inputs["s"], inputs["t"], **{k: float(v) for k, v in options.items()})}


def _dist_clamped(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    options = {
        "beta": hyper["beta"],
        "gamma": hyper["gamma"],
        "temperature": hyper["tau"],
        "eps": hyper["eps"],
    }
    floats = {k: float(v) for k, v in options.items()}
    return {"loss": dist(inputs["s"], inputs["t"], eps_form="clamped", **floats)}


def _dist_pixels(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    pixels = {name: x.movedim(1, -1).flatten(0, -2) for name, x in inputs.items()}
    return _dist(pixels, params, hyper)


def _regressor(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    source, target = (tuple(inputs[name].shape[1:]) for name in "st")
    regressor = Regressor(source, target, relu=hyper["use_relu"]).to(inputs["s"].dtype)
    found = functional_call(regressor, {name: x.clone() for name, x in params.items()}, (inputs["s"],))
    return {"regressed": found, "loss": fitnets(found, inputs["t"])}


def _at(**options: Any) -> Adapter:
    """``at`` with the power and eps that the golden has."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        given = {"power": float(hyper.get("p", 2)), "eps": float(hyper.get("eps", 0))}
        return {"loss": at(inputs["s"], inputs["t"], **given, **options)}

    return adapter


def _one_kl(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    return {"loss": one([inputs["s"]], inputs["t"], temperature=float(hyper["T"]))}


def _one_total(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    branches, y = [inputs[f"o{i}"] for i in (1, 2, 3)], inputs["y"]
    method, task = ONE(temperature=float(hyper["T"])), Classification(branches[0].shape[1])
    method.task, method.epoch = task, float(hyper["epoch"])
    method.ramp = Ramp(start=0, end=1, shape="sigmoid", until=hyper["rampup"])
    learner = Learner(nn.Identity(), task, [(method, 1.0)], 1.0)
    learner.at(float(hyper["epoch"]))
    signals = Signals(branches[0], extra={"branches": branches, "gate": inputs["gate"]})
    terms = learner.terms(signals, None, Batch(y, y, torch.arange(len(y))))
    total = torch.stack([term.value * term.weight for term in terms.values()]).sum()
    labels = [terms[name].value for name in ("cross_entropy", "one.branches", "one.ensemble")]
    return {
        "loss": total,
        "ensemble": one_ensemble(branches, inputs["gate"]),
        "kl": terms["one"].value * terms["one"].weight,
        "ce": torch.stack(labels).sum(),
        "ramp": torch.tensor(terms["one"].weight).to(total.dtype),  # stored in float32
    }


def _attack(scores: Scores) -> Adapter:
    """The attack on the goldens' linear network."""

    def adapter(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
        def ask(x: Tensor) -> Tensor:
            return x.flatten(1) @ inputs["w"].T

        base = inputs["y"] if scores == "probabilities" else None
        options = {"steps": hyper["num_steps"], "step_size": hyper["step_alpha"]}
        found = boundary_samples(
            ask, inputs["x"], inputs["attack_class"], base=base, scores=scores, **options
        )
        return {"loss": found.sum(), "adv": found, "adv_logits": ask(found)}

    return adapter


CLASSIFICATION: dict[tuple[str, str], Adapter] = {
    **FEATURES,
    ("kd", "repdistiller"): _kd("T"),
    ("kd", "mdistiller"): _kd("T"),
    ("kd", "kdzoo"): _kd("T"),
    ("kd", "hunto_kldiv"): _kd("tau"),
    ("kd", "clskd_crossentropy"): _cls_kd,
    ("kd", "haitongli_mean"): _divided_by_classes,
    ("kd", "kd_lib_mse"): _squares,
    ("kd", "zagoruyko_alpha"): _alpha,
    ("kd", "torchdistill_full"): _alpha_beta,
    ("kd", "torchdistill_notargets"): _kd("temperature", scale=False),
    ("kd", "logits_mse"): _kd(form="mse_logits"),
    ("dkd", "mdistiller"): _dkd,
    ("dist", "official"): _dist,
    ("dist", "torchdistill"): _dist_clamped,
    ("dist", "segmentation4d"): _dist_pixels,
    ("nkd", "official"): _nkd,
    ("nkd", "official_soft_labels"): _nkd,
    ("wsld", "clskd"): _wsld,
    ("ttm", "official"): _power(losses.ttm),
    ("wttm", "official"): _power(losses.wttm),
    ("rld", "official"): _rld,
    ("ckd", "official"): _sample_ckd,
    ("ctkd", "official"): _ctkd,
    ("mlkd", "official"): _mlkd,
    ("mlkd", "logit_stand"): _mlkd,
    ("mlkd", "cc_loss"): _relation(losses.mlkd_class),
    ("mlkd", "bc_loss"): _relation(losses.mlkd_batch),
    ("sdd_kd", "official"): _sdd("kd", temperature="T"),
    ("sdd_dkd", "official"): _sdd("dkd", temperature="T", alpha="alpha", beta="beta"),
    ("sdd_spp", "official"): _regions,
    ("ls_kd", "official"): _standardised(_kd("base_temp")),
    ("ls_kd", "torchdistill"): _standardised_alpha_beta,
    ("ls_dkd", "official"): _standardised(_dkd),
    ("dcd", "official"): modules.dcd,
    ("rrd", "giakoumoglou_fifo"): modules.rrd,
    ("itrd", "giakoumoglou"): modules.itrd,
    ("crd", "repdistiller"): modules.crd,
    ("crd", "repdistiller_second_step"): modules.crd_second_step,
    ("dml", "kdzoo"): _kd("T"),
    ("bss", "kdzoo_loss"): _kd("T", scale=False),
    ("bss", "attack_official_logits"): _attack("logits"),
    ("bss", "attack_kdzoo_probs"): _attack("probabilities"),
    ("one", "official_kl"): _one_kl,
    ("one", "official_total"): _one_total,
    ("ab", "repdistiller_single"): modules.ab,
    ("ab", "repdistiller_three"): modules.ab,
    ("ab", "torchdistill"): modules.ab_sum,
    ("ab", "kdzoo_mean"): modules.ab_mean,
    ("ofd", "official_sum"): modules.ofd("sum"),
    ("ofd", "mdistiller"): modules.ofd("mean"),
    ("ofd", "margin_from_bn"): modules.ofd_margin,
    ("reviewkd", "hcl"): modules.hcl,
    ("reviewkd", "abf"): modules.abf,
}
"""(method, variant) -> adapter."""

LANGUAGE: dict[str, Adapter] = {**TOKENS, **SAMPLED, **SPACES}
"""method -> adapter."""

LATER = "the method is not in the catalogue yet"
UNSUPPORTED: dict[tuple[str, str] | str, str] = {
    "sdd_nkd": "a bug: the target stays among the rest",
    ("ctkd", "schedule"): "constants without tensors: tests/methods/test_logit_methods.py",
    ("nkd", "sdd_repo_target_not_removed"): "a bug: the target stays among the rest",
    ("crd", "giakoumoglou_fifo_infonce"): "an InfoNCE whose positives are among its negatives, not CRD",
    (
        "dml",
        "official_tf_transcribed",
    ): "adds 1e-8 inside the logarithm; equal to kdzoo where nothing is tiny",
    ("ofd", "kdzoo"): "another toolkit's convention: margins from the batch, mean over elements",
    ("sp", "torchdistill"): "a slip there: F.normalize(gram, 1) takes the L1 norm instead of rows' L2 norms",
    ("vid", "init"): "one constant; tests/methods/test_features.py has it",
    ("fsp", "torchdistill"): "another loss: max-pooling, and norms of columns that are not squared",
    **CONVENTIONS,
    "distillkit.compress_roundtrip": "another toolkit's format of files",
    **dict.fromkeys(
        (
            "kdsvd",
            "modelopt.mft",
            "kdflow.hrl",
        ),
        LATER,
    ),
    **dict.fromkeys(
        ("trl.gold.align_by_byte_offsets", "dskd_v2.eta_align", "mined.dtw"),
        "an alignment; tests/parity/test_alignment.py has it",
    ),
}
"""(method, variant), or a whole method -> why it has no adapter. ``without`` has what depends on constants."""
