"""Methods: the visible table of ways to teach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, suggest
from .ab import AB
from .asdt import ASDT
from .at import AT
from .base import Method, MethodOptions, Setting, Term, Terms
from .bickd import BicKD
from .bss import BSS
from .cc import CC
from .ccc_kd import CCCKD
from .cka import CKA
from .comparative import ComparativeKD
from .crd import CRD
from .cskd import CSKD
from .ctkd import CTKD
from .cwd import CWD
from .darkrank import DarkRank
from .dcd import DCD
from .dist import DIST
from .dkd import DKD
from .dml import DML
from .dskd import DSKD
from .dskd_cma import DSKDCMA
from .fitnets import FitNets
from .fsp import FSP
from .ft import FT
from .gold import GOLD
from .itrd import ITRD
from .kd import KD
from .label_smoothing import LabelSmoothing
from .m2pkd import M2PKD
from .mined import MinED
from .mlkd import MLKD
from .mt_alignment import MTAlignment
from .mt_pkdot import MTPKDOT
from .nkd import NKD
from .nst import NST
from .ofd import OFD
from .one import ONE
from .overlap import Overlap
from .pkdot import PKDOT
from .pkt import PKT
from .reviewkd import ReviewKD
from .rkd import RKD
from .rkd_logits import RKDLogits
from .rld import RLD
from .rrd import RRD
from .sample_ckd import SampleCKD
from .sdd import SDDDKD, SDDKD, SDDNKD
from .sp import SP
from .tf_kd import TfKD
from .tnet import TNet
from .token_kd import TokenKD
from .ttm import TTM, WTTM
from .uld import ULD
from .vid import VID
from .wsld import WSLD

METHODS: dict[str, type[Method]] = {
    "kd": KD,
    "dkd": DKD,
    "nkd": NKD,
    "wsld": WSLD,
    "ttm": TTM,
    "wttm": WTTM,
    "rld": RLD,
    "sample_ckd": SampleCKD,
    "ctkd": CTKD,
    "mlkd": MLKD,
    "sdd_kd": SDDKD,
    "sdd_dkd": SDDDKD,
    "sdd_nkd": SDDNKD,
    "dist": DIST,
    "cskd": CSKD,
    "bickd": BicKD,
    "fitnets": FitNets,
    "at": AT,
    "ab": AB,
    "ofd": OFD,
    "reviewkd": ReviewKD,
    "crd": CRD,
    "dcd": DCD,
    "rrd": RRD,
    "itrd": ITRD,
    "nst": NST,
    "cwd": CWD,
    "vid": VID,
    "fsp": FSP,
    "ft": FT,
    "sp": SP,
    "cc": CC,
    "cka": CKA,
    "rkd": RKD,
    "rkd_logits": RKDLogits,
    "pkt": PKT,
    "darkrank": DarkRank,
    "comparative_kd": ComparativeKD,
    "bss": BSS,
    "pkdot": PKDOT,
    "mt_pkdot": MTPKDOT,
    "mt_alignment": MTAlignment,
    "m2pkd": M2PKD,
    "tnet": TNet,
    "ccc_kd": CCCKD,
    "label_smoothing": LabelSmoothing,
    "tf_kd": TfKD,
    "asdt": ASDT,
    "dml": DML,
    "one": ONE,
    "token_kd": TokenKD,
    "dskd": DSKD,
    "dskd_cma": DSKDCMA,
    "uld": ULD,
    "gold": GOLD,
    "mined": MinED,
    "overlap": Overlap,
}
"""Name in configuration -> method. Other packages add theirs by the entry-point group ``limbeck.methods``."""

GROUP = "limbeck.methods"


def resolve(method: str | type[Method] | Method, options: Mapping[str, Any] | None = None) -> Method:
    """Make a method from its name, its class, or itself.

    Args:
        method: a name in ``METHODS`` or of an installed package's entry point, a class, or an instance.
        options: the method's options; an instance brings its own and takes none.

    Raises:
        ConfigError: no such method (the nearest is named), or an option is wrong.

    Example:
        >>> resolve("kd", {"temperature": 2}).options.temperature
        2.0
        >>> resolve("bicdk")
        Traceback (most recent call last):
        limbeck.errors.ConfigError: no method 'bicdk'; expected 'bickd'
    """
    options = dict(options or {})
    if isinstance(method, Method):
        if options:
            raise ConfigError(
                f"method {method.name!r} is already made", got=f"options {', '.join(options)}",
                fix="give the options where it is made",
            )  # fmt: skip
        return method
    if isinstance(method, str):
        method = METHODS.get(method) or _installed(method)
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise ConfigError("not a method", got=repr(method), expected="a name, or a Method class or instance")
    return method(**options)


def _installed(name: str) -> Any:
    """Load a method of another package; only names that the table does not have come here."""
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(f"no method {name!r}", expected=suggest(name, [*METHODS, *found]))
    try:
        return found[name].load()
    except Exception as error:
        raise ConfigError(
            f"method {name!r} cannot be loaded from {found[name].value}",
            got=f"{type(error).__name__}: {error}",
            fix="mend or reinstall the package that brings it",
        ) from error


def describe() -> list[dict[str, str]]:
    """One row of strings for each method in the table: name, status, needs, weights, paper.

    Example:
        >>> {row["name"]: row["weights"] for row in describe()}["bickd"]
        'labels 0.1, kd 0.9, sample 1, class 1'
    """
    rows = []
    for name, kind in METHODS.items():
        method = kind()
        weights = {"labels": method.label_weight} | {
            term: method.weight * weight for term, weight in method.term_weights().items()
        }
        rows.append(
            {
                "name": name,
                "status": method.status,
                "needs": ", ".join(sorted(method.needs)) or "no teacher",
                "weights": ", ".join(f"{term} {weight:g}" for term, weight in weights.items()),
                "paper": method.paper,
            }
        )
    return rows


__all__ = [
    "AB",
    "AT",
    "BSS",
    "CC",
    "CCCKD",
    "CKA",
    "CRD",
    "CSKD",
    "CTKD",
    "DCD",
    "DIST",
    "DKD",
    "DML",
    "DSKDCMA",
    "FSP",
    "FT",
    "ITRD",
    "KD",
    "M2PKD",
    "METHODS",
    "MLKD",
    "MTPKDOT",
    "NKD",
    "NST",
    "OFD",
    "ONE",
    "PKDOT",
    "PKT",
    "RKD",
    "RLD",
    "RRD",
    "SDDDKD",
    "SDDKD",
    "SDDNKD",
    "SP",
    "TTM",
    "ULD",
    "VID",
    "WSLD",
    "WTTM",
    "BicKD",
    "ComparativeKD",
    "DarkRank",
    "FitNets",
    "LabelSmoothing",
    "MTAlignment",
    "Method",
    "MethodOptions",
    "MinED",
    "Overlap",
    "RKDLogits",
    "ReviewKD",
    "SampleCKD",
    "Setting",
    "TNet",
    "Term",
    "Terms",
    "TfKD",
    "describe",
    "resolve",
]
