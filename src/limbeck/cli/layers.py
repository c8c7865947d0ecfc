"""``limbeck layers``: what a network gives, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ConfigError

SIZE, CHANNELS, CLASSES = 32, 3, 100
"""The images that a network is shown where neither data nor a size is given."""


def run(
    model: str,
    options: list[str],
    data: str | None,
    size: int | None,
    channels: int | None,
    classes: int | None,
    as_json: bool,
    allow_code: list[str],
) -> None:
    """Print the layers of a network of the table, of another package, of the user's code or of a run."""
    from ..config import ModelConfig, apply
    from ..runs import Run
    from ..teachers import Inputs
    from ..training.networks import feeds, make

    if (Path(model) / "run.json").is_file():
        found = Run(model)
        if data or size or channels or classes or options:
            raise ConfigError(
                "the student of a run has its own data and options", fix="give the folder alone"
            )
        show(model, found.student(allow_code=allow_code), found.images("limbeck layers"), as_json)
        return
    if data is not None:
        from ..data import DataConfig, load

        loaded = load(DataConfig(name=data))
        inputs, count = feeds(loaded), len(loaded.classes)
    else:
        count = CLASSES
        inputs = Inputs(CHANNELS, (SIZE, SIZE), (0.0,) * CHANNELS, (1.0,) * CHANNELS)
    inputs = Inputs(
        channels or inputs.channels, (size, size) if size else inputs.size, inputs.mean, inputs.std
    )
    values: dict[str, Any] = {}
    for option in options:
        apply(values, option)
    network = make(
        ModelConfig(name=model, options=values),
        classes=classes or count,
        inputs=inputs,
        seed=0,
        allow_code=allow_code,
    )
    show(model, network, inputs, as_json)


def show(name: str, network: Any, inputs: Any, as_json: bool) -> None:
    """Run the network on two empty images and print what its layers gave."""
    import torch

    from ..preact import INPUT
    from ..taps import EMBEDDING, layout
    from .tables import table

    shape = (inputs.channels, *inputs.size)
    found = layout(network, torch.zeros(2, *shape))
    marks: dict[str, list[str]] = {}
    for i, (stage, preact) in enumerate(zip(found.stages, found.preacts, strict=True), 1):
        marks.setdefault(stage, []).append(f"stage {i}")
        if preact is not None and preact.startswith(INPUT):
            marks[stage].append(f"before its activation: {preact}")
        elif preact is not None and preact != stage:
            marks.setdefault(preact, []).append(f"stage {i} before its activation")
    if found.stem is not None:
        marks.setdefault(found.stem, []).append("stem")
    rows: list[dict[str, Any]] = []
    for layer in found.layers:
        if layer.name == found.classifier and found.embedding is not None:
            told = f"what {layer.name} reads"
            rows.append({"name": EMBEDDING, "kind": told, "shape": found.embedding, "marks": ["embedding"]})
            marks.setdefault(layer.name, []).append("classifier")
        rows.append({**layer._asdict(), "marks": marks.get(layer.name, [])})
    parameters = sum(p.numel() for p in network.parameters())
    if as_json:
        card = {"model": name, "input": shape, "parameters": parameters}
        print(json.dumps({**card, "stages": found.stages, "layers": rows}, indent=2))
        return
    title = f"{name} on images {_text(shape)}: {parameters:,} parameters"
    cells = [[row["name"], row["kind"], _text(row["shape"]), ", ".join(row["marks"])] for row in rows]
    table(title, ["name", "kind", "output", ""], cells, right=4)


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
