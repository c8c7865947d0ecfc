"""How numbers and verdicts are worded, once for the page and the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..study.statistics import Interval, Verdict
from .groups import BASELINES, title
from .records import Changes
from .rows import Row

NONE = "–"


class Cell(NamedTuple):
    """One table cell: its text, and the number it sorts by (NaN where there is none)."""

    text: str
    value: float


class Column(NamedTuple):
    """One table column. ``higher_is_better`` is None where neither end is better."""

    key: str
    title: str
    note: str
    higher_is_better: bool | None


class Sentence(NamedTuple):
    """A verdict in one sentence: who, the word on it, and what it rests on."""

    who: str
    word: str
    rest: str

    def __str__(self) -> str:
        return f"{self.head}{self.rest}"

    @property
    def head(self) -> str:
        """Who and the word: "KD helped", "KD: no evidence"."""
        verb = self.word in ("helped", "hurt", "failed")
        return f"{self.who} {self.word}" if verb else f"{self.who}: {self.word}"


COLUMNS = (
    Column("ccc", "CCC", "mean concordance correlation with the targets of the test split", True),
    Column("miou", "mIoU, %", "mean over classes of intersection over union, on the test split", True),
    Column("exact_match", "Exact match, %", "responses to test prompts that are the reference", True),
    Column(
        "error_rate", "Word errors, %", "edits per word of the reference, in responses to test prompts", False
    ),
    Column(
        "rouge_l", "Rouge-L, %", "longest common subsequence with the reference, mean over test prompts", True
    ),
    Column("perplexity", "Perplexity", "per supervised token of the test split", False),
    Column("accuracy", "Accuracy, %", "on the test split; ± is half of the 95 % interval over seeds", True),
    Column(
        "agreement", "Agreement, %", "test images on which student and teacher predict the same class", True
    ),
    Column("nll", "NLL", "negative log-likelihood of the true class, nats", False),
    Column("ece", "ECE, %", "expected calibration error, 15 bins of equal width", False),
    Column("parameters", "Parameters", "of the network that is deployed", False),
    Column("latency", "Latency, ms", "per batch of 1 and of 256 images", False),
    Column("seconds", "Seconds", "of training, mean over seeds", False),
    Column(
        "scratch",
        "Against scratch",
        "accuracy (mIoU of masks), paired by seed: points with 95 % interval",
        True,
    ),
    Column("kd", "Against KD", "accuracy (mIoU of masks), paired by seed: points with 95 % interval", True),
)
"""The comparison table's columns after the method's name."""


def cell(row: Row, key: str) -> Cell:
    """What a table shows of one row in one column of ``COLUMNS``."""
    if key in BASELINES:
        return _verdict(None if row.label == "scratch" else row.verdicts.get(key))
    if key == "latency":
        first, second = (row.values.get(f"latency_ms_{batch}") for batch in (1, 256))
        text = " / ".join(significant(v.mean) if v else NONE for v in (first, second))
        return Cell(text if first or second else NONE, first.mean if first else math.nan)
    interval = row.values.get(key)
    if interval is None:
        return Cell(NONE, math.nan)
    return Cell(_FORMATS[key](interval), interval.mean)


def _verdict(verdict: Verdict | None) -> Cell:
    if verdict is None:
        return Cell(NONE, math.nan)
    if verdict.n == 0:
        return Cell(verdict.text, math.nan)
    return Cell(f"{verdict.text} {points(verdict.interval)}", verdict.interval.mean)


def sentence(row: Row) -> Sentence:
    """The verdict on one method.

    Args:
        row: a student's row.

    Returns:
        for example "BicKD (reconstructed) helped: +1.2 points over training from scratch (95 % interval +0.3
        to +2.1, 3 seeds); no evidence of a difference from KD (+0.2 points, −0.4 to +0.8)."
    """
    if row.failed and len(row.failed) == len(row.seeds):
        return Sentence(row.title, "failed", ": its accuracy is not a finite number in any seed.")
    scratch, kd = row.verdicts.get("scratch"), row.verdicts.get("kd")
    word: str
    if scratch is not None:
        word, rest = scratch.text, _because(scratch, "training from scratch")
    elif row.label == "scratch":
        word, rest = "baseline", ": the others are measured against it"
    else:
        word, rest = "no verdict", ": no finished run from scratch to compare with"
    if kd is not None:
        rest += "; " + _beside(kd) if row.label != "scratch" else ""
    return Sentence(row.title, word, rest + ".")


def _because(v: Verdict, what: str) -> str:
    if v.n == 0:
        return f": no seed in common with {what}"
    gain = f"{points(v.interval, range_=False)} points {'over' if v.interval.mean >= 0 else 'against'} {what}"
    if v.n == 1:
        return f": one seed cannot tell ({gain})"
    if v.p == 1.0 and v.interval.low == v.interval.high:
        return f": equal to {what} in all {v.n} seeds"
    if v.interval.low == v.interval.high:
        return f": the difference is the same in all {v.n} seeds, so its spread is unknown ({gain})"
    return f": {gain} (95 % interval {_ends(v.interval)}, {v.n} seeds)"


def _beside(v: Verdict) -> str:
    if v.n == 0:
        return f"no seed in common with {title('kd')}"
    known = f", {_ends(v.interval)}" if v.n > 1 and v.interval.low != v.interval.high else ""
    gain = f"({points(v.interval, range_=False)} points{known})"
    if v.text != "no evidence":
        return f"{'better' if v.text == 'helped' else 'worse'} than KD {gain}"
    return f"no evidence of a difference from KD {gain}"


def points(interval: Interval, range_: bool = True) -> str:
    """A difference of fractions in percentage points, with enough decimals not to hide its sign.

    Example:
        >>> points(Interval(0.012, 0.0002, 0.0238, 3))
        '+1.20 (+0.02 to +2.38)'
    """
    decimals = _decimals(interval)
    text = _signed(100 * interval.mean, decimals)
    if not range_ or interval.n < 2 or interval.low == interval.high:
        return text
    return f"{text} ({_ends(interval)})"


def _ends(interval: Interval) -> str:
    decimals = _decimals(interval)
    return f"{_signed(100 * interval.low, decimals)} to {_signed(100 * interval.high, decimals)}"


def _decimals(interval: Interval) -> int:
    shown = [100 * abs(v) for v in interval[:3] if math.isfinite(v) and v != 0]
    return next((d for d in (1, 2, 3) if all(v >= 0.5 * 10**-d for v in shown)), 3)


def _signed(value: float, decimals: int) -> str:
    text = f"{abs(value):.{decimals}f}"
    zero = float(text) == 0
    return text if zero else f"{'−' if value < 0 else '+'}{text}"


def significant(value: float) -> str:
    """A positive measurement in three significant digits, without exponent.

    Example:
        >>> significant(0.04567), significant(12.345), significant(12345.0)
        ('0.0457', '12.3', '12345')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NONE
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def count(value: float | int) -> str:
    """A large count with its unit.

    Example:
        >>> count(842), count(12345), count(1.2e6)
        ('842', '12.3 k', '1.2 M')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            shown = value / size
            return f"{shown:.0f} {unit}" if shown >= 100 else f"{shown:.1f} {unit}"
    return f"{value:.0f}"


def probability(p: float | None) -> str:
    """A p value.

    Example:
        >>> probability(0.04567), probability(0.00001), probability(None)
        ('p = 0.046', 'p < 0.001', '')
    """
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def counted(n: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "run"), counted(3, "run")
        ('1 run', '3 runs')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def changed(changes: Changes) -> list[str]:
    """What was done to the training split, one phrase each.

    Example:
        >>> from limbeck.report.records import Changed
        >>> changed(Changes(noise=Changed(kind="symmetric", rate=0.4, realised=0.3951), per_class=20))
        ['at most 20 per class', 'symmetric label noise 0.4 (39.5 % of the training labels are wrong)']
    """
    found = [] if changes.per_class is None else [f"at most {changes.per_class} per class"]
    if (tail := changes.imbalance) is not None:
        asked = f"ratio {tail.ratio:g}" if tail.ratio is not None else f"exponent {tail.exponent or 0:g}"
        found.append(
            f"{tail.kind} class imbalance, {asked} (largest class {tail.realised:.3g} times smallest)"
        )
    if (noise := changes.noise) is not None:
        wrong = f"{100 * noise.realised:.1f} % of the training labels are wrong"
        where = "; validation labels too" if noise.validation else ""
        found.append(f"{noise.kind} label noise {noise.rate or 0:g} ({wrong}{where})")
    return found


def percent(interval: Interval) -> str:
    """A fraction as ``mean ± half-width`` in percent."""
    mean, low, high, n = interval
    return _spread(Interval(100 * mean, 100 * low, 100 * high, n), 1)


def _spread(interval: Interval, decimals: int) -> str:
    text = f"{interval.mean:.{decimals}f}"
    return text if interval.n < 2 else f"{text} ± {(interval.high - interval.low) / 2:.{decimals}f}"


_FORMATS: dict[str, Callable[[Interval], str]] = {
    "ccc": lambda interval: _spread(interval, 3),
    "miou": percent,
    "accuracy": percent,
    "agreement": percent,
    "nll": lambda interval: _spread(interval, 3),
    "ece": percent,
    "perplexity": lambda interval: _spread(interval, 3),
    "exact_match": percent,
    "error_rate": percent,
    "rouge_l": percent,
    "parameters": lambda interval: count(interval.mean),
    "seconds": lambda interval: significant(interval.mean),
}
