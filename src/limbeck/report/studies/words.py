"""How a study's numbers are worded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...study.statistics import Interval
from ...study.tables import SHARES
from ..text import NONE, counted, significant
from .model import Against, Spread, Study

TITLES = {
    "accuracy": "accuracy",
    "miou": "mIoU",
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier score",
    "ccc": "CCC",
    "rmse": "RMSE",
    "top5": "top-5 accuracy",
    "teacher_kl": "KL to the teacher",
    "rouge_l": "Rouge-L",
}


def metric_name(metric: str, unit: bool = True) -> str:
    """A metric as tables and axes show it.

    Example:
        >>> metric_name("accuracy"), metric_name("macro_recall", unit=False)
        ('accuracy, %', 'macro recall')
    """
    return TITLES.get(metric, metric.replace("_", " ")) + (", %" if unit and metric in SHARES else "")


def unit(metric: str) -> str:
    """What differences of a metric are counted in."""
    return (
        f"points of {metric_name(metric, False)}"
        if metric in SHARES
        else f"difference in {metric_name(metric, False)}"
    )


def scaled(found: Interval, metric: str) -> Interval:
    """An interval in the unit that is shown."""
    scale = 100 if metric in SHARES else 1
    return Interval(scale * found.mean, scale * found.low, scale * found.high, found.n)


def digits(metric: str) -> int:
    """Decimals of a shown value."""
    return 2 if metric in SHARES else 4


def spread(value: Spread | None, metric: str) -> str:
    """Mean and half of the interval.

    Example:
        >>> spread(Spread(mean=0.92, low=0.91, high=0.93, n=3), "accuracy"), spread(Spread(mean=0.5, n=1), "nll")
        ('92.00 ± 1.00', '0.5000')
    """
    if value is None or value.mean is None:
        return NONE
    found, decimals = scaled(value.interval, metric), digits(metric)
    text = f"{found.mean:.{decimals}f}"
    return text if math.isnan(found.low) else f"{text} ± {(found.high - found.low) / 2:.{decimals}f}"


def gain(value: Against, metric: str) -> tuple[str, str]:
    """A paired difference, and the interval that it rests on.

    Example:
        >>> gain(Against(mean=-0.02, low=-0.03, high=-0.01, n=3, verdict="hurt", alone="hurt"), "accuracy")
        ('−2.00', '−3.00 to −1.00')
    """
    if value.mean is None:
        return NONE, ""
    found, decimals = scaled(value.interval, metric), digits(metric)
    ends = "" if math.isnan(found.low) else f"{signed(found.low, decimals)} to {signed(found.high, decimals)}"
    return signed(found.mean, decimals), ends


def pace(value: float | None, metric: str) -> str:
    """A difference for each extra second.

    Example:
        >>> pace(0.0123, "accuracy"), pace(-12.0, "nll")
        ('+1.23', '−12.0')
    """
    if value is None:
        return NONE
    shown = (100 if metric in SHARES else 1) * value
    return f"{'−' if shown < 0 else '+'}{significant(abs(shown))}"


def signed(value: float, decimals: int) -> str:
    """A number with its sign; zero has none."""
    text = f"{abs(value):.{decimals}f}"
    return text if float(text) == 0 else f"{'−' if value < 0 else '+'}{text}"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it.

    Example:
        >>> duration(3.14159), duration(600.0), duration(9000.0)
        ('3.14 s', '10 min', '2.5 h')
    """
    if seconds is None:
        return NONE
    if seconds < 100:
        return f"{significant(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def summary(study: Study, base: str) -> list[tuple[str, str, str]]:
    """What came out against one baseline: (verdict, a heading, the methods with the number of groups)."""
    groups = [g for g in study.groups if g.of(base) is not None]
    verdicts = {
        method: [m.against[base].verdict for g in groups if (m := g.of(method)) and base in m.against]
        for method in study.axes.methods
    }
    lines: list[tuple[str, str, str]] = []
    for word in ("helped", "hurt", "higher", "lower"):
        found = {method: mine.count(word) for method, mine in verdicts.items() if word in mine}
        names = [f"{method} ({n} of {len(verdicts[method])})" for method, n in found.items()]
        preposition = "than" if word in ("higher", "lower") else "against"
        if names:
            lines.append((word, f"{word} {preposition} {base}", listed(names)))
    never = [method for method, mine in verdicts.items() if mine and set(mine) == {"no evidence"}]
    if never:
        lines.append(("no evidence", f"no evidence of a difference from {base} in any group", listed(never)))
    return lines


def caveats(study: Study) -> list[str]:
    """What a reader must know before believing the tables."""
    found = []
    students = [row for row in study.rows if row.kind == "student"]
    bad = [row for row in students if row.status != "finished"]
    if bad:
        kinds = {row.status for row in bad}
        found.append(
            f"{len(bad)} of {counted(len(students), 'student run')} are in no number: {', '.join(sorted(kinds))}."
        )
    if len(study.axes.seeds) < 2:
        found.append("There is one seed, so nothing can be said about chance.")
    for base in study.baselines:
        if not any(group.of(base) for group in study.groups):
            found.append(f"No run of the baseline {base} is finished.")
    infinite = [(g.group, m.method, m.failed) for g in study.groups for m in g.methods if m.failed]
    for group, method, seeds in infinite:
        names = ", ".join(map(str, seeds))
        found.append(f"{method} in {group}: {counted(len(seeds), 'seed')} without a finite value ({names}).")
    edges = sorted({f"{t.method}: {', '.join(t.edges)}" for t in study.tuning if t.edges})
    if edges:
        found.append(
            f"Tuning chose a value at the end of its list, the best may lie outside: {'; '.join(edges)}."
        )
    tuned = {t.method for t in study.tuning if t.trials}
    untuned = [m for m in study.axes.methods if m not in tuned]
    if tuned and untuned:
        found.append(f"Not tuned: {listed(untuned)}.")
    remade = sorted({row.method for row in students if row.reconstructed})
    if remade:
        found.append(
            f"Reconstructed, because the published formula could not be had: {listed(remade)}. Their numbers are "
            "those of Limbeck's reading of the paper."
        )
    return found
