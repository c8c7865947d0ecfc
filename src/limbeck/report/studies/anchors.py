"""Where the links of the page lead to."""

from __future__ import annotations

from .model import Comparison, Study


class Anchors:
    """Ids of groups, of methods within groups, and of runs.

    Args:
        study: the study.
    """

    def __init__(self, study: Study) -> None:
        keys = [row.key for row in study.rows]
        keys += [path for t in study.tuning for trial in t.trials for path in trial.paths]
        self._runs = {key: f"run-{place}" for place, key in enumerate(dict.fromkeys(keys))}
        self._groups = {(g.pair, g.setting): f"g{place}" for place, g in enumerate(study.groups)}
        self._methods = {name: f"m{place}" for place, name in enumerate(study.axes.methods)}

    def run(self, key: str | None) -> str:
        """Of a run; empty for none."""
        return self._runs.get(key or "", "")

    def group(self, group: Comparison) -> str:
        """Of a group, whatever the metric; empty where the deciding metric has none."""
        return self._groups.get((group.pair, group.setting), "")

    def method(self, group: Comparison, method: str) -> str:
        """Of a method's line in the table of a group."""
        return f"{self.group(group)}-{self._methods.get(method, '')}"
