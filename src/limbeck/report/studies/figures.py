"""Ranking, differences and cost: the pictures that every study has."""

from __future__ import annotations

from ...study.tables import SHARES
from ..picture import Picture
from . import plots
from .model import Comparison, Study
from .plots import Bar
from .words import metric_name, scaled, unit


def ranking(study: Study) -> list[Picture]:
    """Mean ranks with Nemenyi's distance."""
    found = study.ranking
    if found is None:
        return []
    caption = (
        f"Mean rank over {found.blocks} groups × seeds. Bars reach half of the critical distance "
        f"({found.critical_distance:.2f}, Nemenyi, {100 * study.level:g} %) to each side: two methods differ where "
        "their bars do not meet. Blue: not told apart from the first."
    )
    title = f"Ranking by {metric_name(found.metric, False)}"
    neutral = study.groups and study.groups[0].higher_is_better is None
    axis = f"mean rank, 1 is {'highest' if neutral else 'best'}"
    return [plots.ranking(found.mean_rank, found.critical_distance, axis, title, caption)]


def differences(study: Study, group: Comparison, base: str) -> list[Picture]:
    """Paired differences of one group to one baseline, the largest first."""
    theirs = group.of(base)
    if theirs is None:
        return []
    scale = 100 if group.metric in SHARES else 1
    bars = []
    for method in group.methods:
        found = method.against.get(base)
        if found is None or found.mean is None:
            continue
        pairs = [
            scale * (value - other)
            for seed, value in method.values.items()
            if value is not None and (other := theirs.values.get(seed)) is not None
        ]
        bars.append(Bar(method.method, scaled(found.interval, group.metric), found.verdict, tuple(pairs)))
    if not bars:
        return []
    bars.sort(key=lambda bar: bar.interval.mean if group.higher_is_better is False else -bar.interval.mean)
    colours = "Blue higher, orange lower" if group.higher_is_better is None else "Green helped, red hurt"
    caption = (
        f"Paired by seed; small dots are seeds, bars {100 * study.level:g} % intervals. {colours}, "
        "after correction for all methods of the group; grey: no evidence."
    )
    title = f"{group.group}: against {base}"
    return [plots.forest(bars, unit(group.metric), title, caption)]


COSTS = {
    "processor_seconds": "seconds of a processor core in training",
    "tokens": "supervised tokens in training",
}
"""Metrics that are costs too, and what they are counted in."""


def cost(study: Study, group: Comparison) -> list[Picture]:
    """Training time, and other costs that were measured, against the first metric that has a better end."""
    judged = next(
        (c for m in study.metrics if (c := study.on(group, m)) and c.higher_is_better is not None), None
    )
    if judged is None:
        return []
    spent = {"seconds of training": {m.method: m.seconds.mean for m in judged.methods}}
    for metric, words in COSTS.items():
        if metric in study.metrics and (found := study.on(group, metric)) is not None:
            spent[words] = {m.method: m.mean for m in found.methods}
            if metric == "processor_seconds":
                del spent["seconds of training"]  # the same, and true on a machine that does other things
    pictures = []
    for words, costs in spent.items():
        points = [
            (m.method, cost, scaled(m.interval, judged.metric))
            for m in judged.methods
            if m.mean is not None and (cost := costs.get(m.method))
        ]
        if len(points) > 1:
            title = f"{group.group}: against {'tokens' if 'tokens' in words else 'training time'}"
            higher = judged.higher_is_better is True
            pictures.append(plots.front(points, words, metric_name(judged.metric), higher, title))
    return pictures
