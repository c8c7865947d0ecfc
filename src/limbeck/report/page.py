"""One self-contained HTML page from run records."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..files import write_text
from . import figures
from .groups import Group, arrange, caveats, title
from .records import Record, read_all
from .rows import Row
from .rows import rows as rows_of
from .svg import SERIES
from .text import COLUMNS, NONE, Cell, cell, changed, count, counted, probability, sentence, significant

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
MARKS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "p": "⬟"}
SHOWN = 8
"""Prompts whose responses are shown."""
BEST = (
    "miou",
    "ccc",
    "exact_match",
    "error_rate",
    "rouge_l",
    "perplexity",
    "accuracy",
    "agreement",
    "nll",
    "ece",
    "scratch",
    "kd",
)


def write(runs: Sequence[Path | str], out: Path | str, title: str = "Limbeck report") -> Path:
    """Write a report on runs as one HTML file that needs no network.

    Args:
        runs: run folders, or folders that hold run folders.
        out: the file to write; in an existing folder, ``report.html``.
        title: the page's heading.

    Returns:
        the path of the file.

    Raises:
        RunError: there is no run, a record is damaged (the message names the file and the fix), or the
            file cannot be written.
    """
    out = Path(out)
    if out.is_dir():
        out = out / "report.html"
    write_text(out, render(read_all(runs), title))
    return out


def render(records: Sequence[Record], title: str = "Limbeck report") -> str:
    """The page as text; equal records give equal text."""
    from markupsafe import Markup

    if not records:
        raise RunError("no run to report", expected="at least one run", fix="give the path of a run")
    style, script = (TEMPLATES / name for name in ("style.css", "script.js"))
    code = script.read_text(encoding="utf-8")
    anchors = {id(record): f"run-{place}" for place, record in enumerate(records)}
    context = {
        "title": title,
        "style": Markup(style.read_text(encoding="utf-8")),
        "script": Markup(code),
        "script_hash": base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        "groups": [_group(group, f"g{place}") for place, group in enumerate(arrange(records))],
        "runs": [_run(record, place) for place, record in enumerate(records)],
        "anchors": lambda record: anchors[id(record)],
        "guards": _guards(records),
        "environment": environment_of([record.environment for record in records]),
        "span": _span(records),
        "reconstructed": any(record.run.reconstructed for record in records),
    }
    text = templates().get_template("page.html.jinja").render(context)
    return text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold halves of characters


def templates() -> Environment:
    """The templates; everything they show is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = Markup  # only svg.draw's output, which is escaped there
    environment.filters["counted"] = counted
    environment.filters["probability"] = probability
    return environment


def _group(group: Group, key: str) -> dict[str, Any]:
    rows, best = rows_of(group), rows_of(group, "best")
    labels = tuple(dict.fromkeys((*group.labels, *(r.run.label for r, _ in group.left_out))))
    looks = figures.styles(labels)
    counted = group.counted or tuple(record for record, _ in group.left_out)
    fidelity, fidelity_top = figures.fidelity(group, rows, key)
    columns, columns_top = figures.columns(group, rows, key)
    students = [row for row in rows if row.role == "student"]
    return {
        "key": key,
        "name": group.name,
        "regime": _regime(group),
        "sentences": [sentence(row) for row in sorted(students, key=lambda row: row.label == "scratch")],
        "caveats": caveats(group),
        "left_out": group.left_out,
        "several": any(len(row.records) > 1 for row in students),
        "legend": [
            (title(label, [r for r in counted if r.run.label == label]), *_mark(looks[label]))
            for label in dict.fromkeys(record.run.label for record in counted)
        ],
        "last": _table(rows, tuple(column.key for column in COLUMNS)),
        "best": _table(best, BEST) if any(row.role == "student" for row in best) else None,
        "selected_on": _selected(group),
        "gains": [f for base in ("scratch", "kd") for f in figures.gains(rows, base, looks, key)],
        "learning": figures.learning(group, counted, looks, key),
        "learning_unfinished": not group.counted,
        "generated": figures.generated(group, key),
        "responses": _responses(group),
        "calibration": figures.calibration(group, rows, looks, key),
        "fidelity": fidelity,
        "fidelity_top": fidelity_top,
        "columns": columns,
        "columns_top": columns_top,
        "cost": figures.cost(rows, looks, key),
    }


def _responses(group: Group) -> list[dict[str, Any]]:
    """What was written to the first test prompts, one line for each writer: first seed of each method."""
    firsts = [record for label in group.labels if (record := group.of(label)[0]).responses]
    blocks: dict[tuple[str, str], dict[str, str]] = {}
    for record in firsts:
        for row in record.responses[:SHOWN]:
            lines = blocks.setdefault((row["prompt"], row["reference"]), {})
            for key, name in (("teacher", "Teacher"), ("before", "Student before")):
                if key in row:
                    lines.setdefault(name, row[key])
            lines[title(record.run.label, [record])] = row["student"]
    order = ("Teacher", "Student before")
    return [
        {
            "prompt": prompt,
            "reference": reference,
            "lines": [
                (name, lines[name], lines[name].strip() == reference.strip())
                for name in sorted(lines, key=lambda n: order.index(n) if n in order else len(order))
            ],
        }
        for (prompt, reference), lines in list(blocks.items())[:SHOWN]
    ]


def _mark(look: Any) -> tuple[int, str]:
    return SERIES.index(look.colour), MARKS[look.marker]


def _table(rows: Sequence[Row], keys: tuple[str, ...]) -> dict[str, Any]:
    columns = [column for column in COLUMNS if column.key in keys]
    columns = [c for c in columns if any(cell(row, c.key).text != NONE for row in rows)]
    return {
        "columns": columns,
        "rows": [(row, [(c.key, _shown(row, c.key)) for c in columns]) for row in rows],
    }


def _shown(row: Row, key: str) -> tuple[Cell, str]:
    """A cell and the word that colours it."""
    shown, verdict = cell(row, key), row.verdicts.get(key)
    return shown, verdict.text if verdict and shown.text != NONE else ""


def _selected(group: Group) -> str:
    found = [r.results.best.selected_on for r in group.counted if r.results and r.results.best]
    return ", ".join(dict.fromkeys(name for name in found if name)) or "validation"


def _regime(group: Group) -> list[tuple[str, str]]:
    """The conditions that the verdict holds for, as (name, value) pairs."""
    runs = group.counted or tuple(record for record, _ in group.left_out)
    found: dict[str, list[str]] = {}

    def say(name: str, value: str) -> None:
        if value and value not in found.setdefault(name, []):
            found[name].append(value)

    for record in runs:
        run, settings = record.run, record.settings
        data, train = settings.get("data"), settings.get("train")
        train_size = data.get("train_size") if isinstance(data, dict) else None
        batch = train.get("batch_size") if isinstance(train, dict) else None
        sizes = dict(run.samples) or ({"train": train_size} if isinstance(train_size, int) else {})
        if "test" not in sizes and "reliability_count" in record.arrays:
            sizes["test"] = int(record.arrays["reliability_count"].sum())
        words = {"train": "training", "validation": "validation", "test": "test"}
        samples = [f"{sizes[split]} {word} samples" for split, word in words.items() if split in sizes]
        samples += [f"{len(run.classes)} classes"] if run.classes else []
        samples += changed(run.changes)
        say("Data", f"{run.data}: {', '.join(samples)}" if samples else run.data)
        say("Student", _network(run.student.name, run.student.parameters))
        if run.teacher is not None:
            taught = record.results.teacher if record.results else None
            accuracy = taught.test.get("accuracy") if taught else None
            reached = f", {100 * accuracy:.1f} % on the test split" if accuracy is not None else ""
            say("Teacher", _network(run.teacher.name, run.teacher.parameters) + reached)
        budget = [f"{run.epochs} epochs"] if run.epochs else []
        budget += [f"{run.steps} steps"] if run.steps else []
        budget += [f"batches of {batch}"] if batch else []
        say("Budget of each run", ", ".join([*budget, *([run.precision] if run.precision else [])]))
        say("Seeds", str(run.seed))
    for _, _, own in group.teachers:
        if own is not None and "train" in own.run.samples:
            samples = [counted(own.run.samples["train"], "sample"), *changed(own.run.changes)]
            say("Teacher trained on", f"{own.run.data}: {', '.join(samples)}")
    joined = {"Seeds": ", "}
    good = " / ".join(dict.fromkeys("mIoU" if r.metric == "miou" else r.metric for r in group.counted))
    judged = [("Judged by", f"test {good} of the last epoch")] if group.counted else []
    return [(name, joined.get(name, " / ").join(values)) for name, values in found.items()] + judged


def _network(name: str, parameters: int | None) -> str:
    return name if parameters is None else f"{name}, {count(parameters)} parameters"


def _run(record: Record, place: int) -> dict[str, Any]:
    results = record.results
    moments = []
    if results is not None:
        moments = [("last", results.last)] + ([("best", results.best)] if results.best else [])
    names = dict.fromkeys(name for _, moment in moments for name in moment.test)
    command = record.environment.get("command")
    return {
        "record": record,
        "anchor": f"run-{place}",
        "method": title(record.run.label, [record]),
        "moments": moments,
        "metrics": [(name, [_figure(moment.test.get(name)) for _, moment in moments]) for name in names],
        "command": " ".join(map(str, command)) if isinstance(command, list) else "",
        "seconds": NONE if record.run.seconds is None else f"{significant(record.run.seconds)} s",
    }


def _figure(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:.4f}"


def _guards(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Start-up checks over all runs: how many passed, and every distinct finding."""
    found: dict[str, list[tuple[Record, bool | None, str]]] = {}
    for record in records:
        for guard in record.guards:
            found.setdefault(guard.name, []).append((record, guard.ok, guard.detail))
    rows = []
    for name, results in found.items():
        details: dict[tuple[bool | None, str], int] = {}
        for _, ok, detail in results:
            details[ok, detail] = details.get((ok, detail), 0) + 1
        outcomes = [ok for _, ok, _ in results]
        worst = False if False in outcomes else (True if True in outcomes else None)
        passed = f"{outcomes.count(True)} of {len(outcomes)}"
        ordered = sorted(details.items(), key=lambda item: item[0][0] is not False)
        rows.append({"name": name, "worst": worst, "passed": passed, "details": ordered})
    return rows


def environment_of(runs: Sequence[dict[str, Any]]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Environment values, each with the number of runs that had it; the command stands with its run."""
    found: dict[str, dict[str, int]] = {}
    for environment in runs:
        for key, value in _leaves({k: v for k, v in environment.items() if k != "command"}):
            column = found.setdefault(key, {})
            column[value] = column.get(value, 0) + 1
    return [(key, list(values.items())) for key, values in found.items()]


def _leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{key} ")
        else:
            found.append((f"{prefix}{key}", NONE if value is None else str(value)))
    return found


def _span(records: Sequence[Record]) -> str:
    days = sorted(r.run.started[:10] for r in records if r.run.started)
    if not days:
        return ""
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
