"""What a study sweeps: swept options and data settings that differ in one number."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ...study.config import merge
from ...study.grid import sweep
from ..records import number
from .model import Study

NEUTRAL = {"rate": 0.0, "ratio": 1.0, "exponent": 0.0}
"""What a change of the data is where it is not made."""


_Rest = tuple[tuple[str, str], ...]


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
    """Data settings that are alike but for one number, which is then an axis; or for several that go together."""
    settings = _settings(study)
    found: dict[str, list[Curve]] = {}
    placed: set[str] = set()
    for key in dict.fromkeys(key for leaves in settings.values() for key in leaves):
        lines: dict[_Rest, dict[float, str]] = {}
        for name, leaves in settings.items():
            if (x := number(leaves.get(key))) is not None:
                lines.setdefault(_rest(leaves, {key}), {})[x] = name
        section, _, last = key.rpartition(".")
        for name, leaves in settings.items() if last in NEUTRAL else ():
            for rest, points in lines.items():  # the setting without that change at all
                if tuple(item for item in rest if not item[0].startswith(f"{section}.")) == _rest(leaves):
                    points.setdefault(NEUTRAL[last], name)
        for rest, points in lines.items():
            if len(points) > 1:
                placed |= set(points.values())
                found.setdefault(key, []).append(_curve(rest, points))
    for key, curve in _together({name: leaves for name, leaves in settings.items() if name not in placed}):
        found.setdefault(key, []).append(curve)
    return [Sweep(key, tuple(curves)) for key, curves in found.items()]


def _together(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Curve]]:
    """Settings that differ in several numbers at once: the axis is the one that their names tell, else the first."""
    alike: dict[tuple[_Rest, tuple[str, ...]], list[str]] = {}
    for name, leaves in settings.items():
        numbers = tuple(key for key in leaves if number(leaves[key]) is not None)
        alike.setdefault((_rest(leaves, numbers), numbers), []).append(name)
    for (rest, numbers), names in alike.items():
        able = [key for key in numbers if len({settings[name][key] for name in names}) == len(names) > 1]
        told = [key for key in able if all(str(settings[name][key]) in name.split() for name in names)]
        for key in sorted(told, key=lambda key: key.startswith("data."))[:1] or able[:1]:
            yield key, _curve(rest, {float(settings[name][key]): name for name in names})


def _curve(rest: _Rest, points: Mapping[float, str]) -> Curve:
    return Curve(", ".join(f"{key} {value}" for key, value in rest), tuple(sorted(points.items())))


def _settings(study: Study) -> dict[str, dict[str, Any]]:
    """Every data setting with all it overrides, by dotted key."""
    found = {}
    for name, overrides in _mapping(study.config.get("data")).items():
        for suffix, values in sweep(_lists(study.config.get("sweep"))):
            full = (suffix if name == "default" else f"{name} {suffix}") if suffix else name
            found[full] = _leaves(merge(merge({}, _mapping(overrides)), values))
    return {name: leaves for name, leaves in found.items() if name in study.axes.settings}


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


def _rest(leaves: Mapping[str, Any], without: Collection[str] = ()) -> _Rest:
    return tuple(sorted((key, str(value)) for key, value in leaves.items() if key not in without))
