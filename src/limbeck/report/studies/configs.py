"""Hundreds of configurations in little space: what most runs share, and how each one differs from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .runs import compact

Flat = dict[str, str]
"""Values by dotted key, each on one line."""

HIDDEN = frozenset({"output", "group", "title", "name", "seed"})
"""What the page says of every run beside its configuration."""

NOT_SET = "(not set)"


def flat(settings: Mapping[str, Any], prefix: str = "") -> Flat:
    """Nested settings by dotted key; lists are one value.

    Example:
        >>> flat({"data": {"name": "digits"}, "methods": [{"name": "kd"}]})
        {'data.name': 'digits', 'methods': '[{name: kd}]'}
    """
    found: Flat = {}
    for key, value in settings.items():
        if not prefix and key in HIDDEN:
            continue
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = compact(value)
    return found


def shared(runs: Sequence[Flat]) -> Flat:
    """The value of each key that more than half of the runs have.

    Example:
        >>> shared([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1"}])
        {'a': '1'}
    """
    found: Flat = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        value, times = Counter(run[key] for run in runs if key in run).most_common(1)[0]
        if 2 * times > len(runs):
            found[key] = value
    return found


def own(run: Flat, base: Flat) -> Flat:
    """What a run sets otherwise than the shared part, or sets alone; ``(not set)`` where it lacks a shared key.

    Example:
        >>> own({"a": "2", "c": "null"}, {"a": "1", "b": "1", "c.d": "4"})
        {'a': '2', 'c': 'null', 'b': '(not set)'}
    """
    found = {key: value for key, value in run.items() if base.get(key) != value}
    for key in base:
        parents = {key[:place] for place, letter in enumerate(key) if letter == "."}
        if key not in run and not parents & run.keys():
            found[key] = NOT_SET
    return found
