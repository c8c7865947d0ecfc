"""Comparing two ways of doing the same in one run, by alternating pairs.

A benchmark calls ``compare`` (time) and ``compare_memory`` (peak of what PyTorch allocates on the CPU) and ends with
``finish``, which prints a table and then one line of JSON per figure:
``{"name": ..., "ratio": ..., "goal": ..., "better": "lower" | "higher", "pairs": n, "ours": ..., "reference": ...,
"unit": ...}``. Time is processor time of the process: others on the machine stretch a call, but not its figure.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler is chatty

import torch

Better = Literal["lower", "higher"]
Call = Callable[[], Any]


@dataclass(frozen=True)
class Figure:
    """One figure: the ratio of ours to the reference, and both sides in their unit."""

    name: str
    ratio: float
    goal: float
    better: Better
    pairs: int
    ours: float
    reference: float
    unit: str

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal if self.better == "lower" else self.ratio >= self.goal

    def line(self) -> str:
        keys = {"name": self.name, "ratio": round(self.ratio, 4), "goal": self.goal, "better": self.better}
        sides = {"ours": float(f"{self.ours:.4g}"), "reference": float(f"{self.reference:.4g}")}
        return json.dumps({**keys, "pairs": self.pairs, **sides, "unit": self.unit})


def compare(
    name: str,
    ours: Call,
    reference: Call,
    *,
    goal: float = 1.0,
    better: Better = "lower",
    pairs: int = 40,
    warmup: int = 5,
    least: float = 2e-3,
    budget: float | None = None,
) -> Figure:
    """Median over pairs of our processor time to the reference's; the order alternates from pair to pair.

    Args:
        name: name of the figure.
        ours: called without arguments.
        reference: does the same work.
        goal: the ratio to reach.
        better: ``lower`` gives ours / reference in time, ``higher`` the speed-up reference / ours.
        pairs: measured pairs.
        warmup: calls of each side before.
        least: seconds that one measurement lasts at least; short calls are repeated to fill it.
        budget: seconds after which there are fewer pairs than asked for, though three at least.
    """
    both = seconds(ours, 1) + seconds(reference, 1)
    if budget is not None and both > budget / 20:
        pairs = min(pairs, max(3, round(budget / both)))
    elif warmup:
        for _ in range(warmup):
            ours()
            reference()
        both = seconds(ours, 1) + seconds(reference, 1)
    repeats = max(1, round(2 * least / max(both, 1e-7)))
    samples = []
    for pair in range(pairs):
        if pair % 2:
            b = seconds(reference, repeats)
            a = seconds(ours, repeats)
        else:
            a = seconds(ours, repeats)
            b = seconds(reference, repeats)
        samples.append((a, b))
    ratio = median(a / b if better == "lower" else b / a for a, b in samples)
    mine, theirs = (1e3 * median(side) for side in zip(*samples, strict=True))
    return Figure(name, ratio, goal, better, pairs, mine, theirs, "ms")


def seconds(call: Call, repeats: int) -> float:
    """Mean time of a call: of this process's work, so that others on the machine do not count."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def compare_memory(name: str, ours: Call, reference: Call, *, goal: float = 1.0, warmup: int = 1) -> Figure:
    """Ratio of the peaks of allocated memory; one pair, since allocations do not vary."""
    for call in (ours, reference) * warmup:
        call()
    a, b = peak_memory(ours) / 2**20, peak_memory(reference) / 2**20
    return Figure(name, a / b, goal, "lower", 1, a, b, "MiB")


def peak_memory(call: Call) -> int:
    """Peak bytes that a call holds on the CPU beyond what was held before, by the profiler's record of every
    allocation and release (workspaces inside kernels included)."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as record:
        call()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def parser(description: str | None) -> argparse.ArgumentParser:
    """Command line shared by all benchmarks."""
    words = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--quick", action="store_true", help="fewer pairs, at most a minute")
    words.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default 1)")
    return words


def parse(words: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for; sets the threads."""
    found = words.parse_args()
    torch.set_num_threads(found.threads)
    return found


def arguments(description: str | None) -> argparse.Namespace:
    """``parse`` for benchmarks without words of their own."""
    return parse(parser(description))


def finish(figures: Iterable[Figure]) -> None:
    """Print the table, then the lines of JSON."""
    figures = list(figures)
    width = max(len(figure.name) for figure in figures)
    print(f"{'':{width}}  {'ours':>10}  {'reference':>10}        ratio   goal")
    for figure in figures:
        mark = "" if figure.met else "  MISSED"
        print(
            f"{figure.name:{width}}  {figure.ours:10.4g}  {figure.reference:10.4g} {figure.unit:4}"
            f"  {figure.ratio:6.3f}  {figure.goal:5.2f}{mark}"
        )
    for figure in figures:
        print(figure.line())
