"""What a study sweeps: swept options and data settings that differ in one number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...study.config import merge
from ...study.grid import sweep
from ..records import number
from .model import Study

NEUTRAL = {"rate": 0.0, "ratio": 1.0, "exponent": 0.0}
"""What a change of the data is where it is not made."""


class Curve(NamedTuple):
    """Names of methods (or of settings) along one axis, by value."""

    name: str
    points: tuple[tuple[float, str], ...]


class Sweep(NamedTuple):
    """One swept quantity and the lines along it."""

    key: str
    curves: tuple[Curve, ...]


def method_sweeps(study: Study) -> list[Sweep]:
    """One sweep for each swept key of methods; methods that sweep the same key share it."""
    found: dict[str, list[Curve]] = {}
    for name, entry in _mapping(study.config.get("methods")).items():
        axes = _mapping(_mapping(entry).get("sweep"))
        axes = _lists(axes)
        for key in axes:
            lines: dict[str, dict[float, str]] = {}
            for values in itertools.product(*axes.values()):
                point = dict(zip(axes, values, strict=True))
                x = _x(point[key])
                full = f"{name} {_suffix(point)}"
                rest = {other: value for other, value in point.items() if other != key}
                if x is not None and full in study.axes.methods:
                    lines.setdefault(" ".join([name, *([_suffix(rest)] if rest else [])]), {})[x] = full
            curves = [Curve(line, tuple(sorted(points.items()))) for line, points in lines.items()]
            found.setdefault(key, []).extend(curve for curve in curves if len(curve.points) > 1)
    return [Sweep(key, tuple(curves)) for key, curves in found.items() if curves]


def setting_sweeps(study: Study) -> list[Sweep]:
    """Data settings that are alike but for one number, which is then an axis; the same for swept settings."""
    settings = {}
    for name, overrides in _mapping(study.config.get("data")).items():
        for suffix, values in sweep(_lists(study.config.get("sweep"))):
            full = (suffix if name == "default" else f"{name} {suffix}") if suffix else name
            settings[full] = _leaves(merge(merge({}, _mapping(overrides)), values))
    settings = {name: found for name, found in settings.items() if name in study.axes.settings}
    found: dict[str, dict[tuple[Any, ...], dict[float, str]]] = {}
    for key in dict.fromkeys(key for leaves in settings.values() for key in leaves):
        for name, leaves in settings.items():
            x = number(leaves.get(key))
            rest = {other: value for other, value in leaves.items() if other != key}
            if x is not None:
                found.setdefault(key, {}).setdefault(_frozen(rest), {})[x] = name
        section, _, last = key.rpartition(".")
        for fixed, points in found.get(key, {}).items():  # the setting without that change at all
            without = tuple(item for item in fixed if not item[0].startswith(f"{section}."))
            for name, leaves in settings.items():
                if last in NEUTRAL and _frozen(leaves) == without:
                    points.setdefault(NEUTRAL[last], name)
    sweeps = []
    for key, lines in found.items():
        curves = [
            Curve(", ".join(f"{k} {v}" for k, v in rest), tuple(sorted(points.items())))
            for rest, points in lines.items()
            if len(points) > 1
        ]
        if curves:
            sweeps.append(Sweep(key, tuple(curves)))
    return sweeps


def axis_name(key: str) -> str:
    """What stands under an axis.

    Example:
        >>> axis_name("data.noise.rate"), axis_name("data.train_size"), axis_name("methods.0.temperature")
        ('noise rate', 'train size', 'temperature')
    """
    parts = [
        part for part in key.split(".") if part not in ("data", "train", "methods") and not part.isdigit()
    ]
    return " ".join(parts).replace("_", " ") or key


def logarithmic(values: list[float]) -> bool:
    """Whether values spread so that a logarithmic axis shows them better."""
    return min(values) > 0 and max(values) >= 8 * min(values) and len(set(values)) > 2


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _lists(value: Any) -> dict[str, list[Any]]:
    return {key: values for key, values in _mapping(value).items() if isinstance(values, list)}


def _suffix(point: Mapping[str, Any]) -> str:
    return sweep({key: [value] for key, value in point.items()})[0][0]


def _x(value: Any) -> float | None:
    """A swept value as a number; of several overrides that go together the first one."""
    return number(next(iter(value.values()), None) if isinstance(value, Mapping) else value)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = value
    return found


def _frozen(leaves: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, str(value)) for key, value in leaves.items()))
