"""Text from ``datasets``, and a teacher's texts as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from tests.training.test_language import SMALL, config
from typer.testing import CliRunner

import limbeck
from limbeck import Run
from limbeck.cli.app import app
from limbeck.data import DataConfig, load, text_from
from limbeck.errors import ConfigError, DataError
from limbeck.models import build
from limbeck.training.session import execute


def rows(text: dict[str, Any]) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(text["path"]).read_text().splitlines()]


def test_saved_datasets_are_the_lines(text: dict[str, Any], tmp_path: Path) -> None:
    whole = datasets.Dataset.from_list(rows(text))
    whole.save_to_disk(str(tmp_path / "one"))
    lines = load(DataConfig(**text))
    for data in (
        load(DataConfig(**{**text, "path": str(tmp_path / "one")})),
        text_from(whole, DataConfig(**text)),
    ):
        for name in ("train", "validation", "test"):
            assert getattr(data, name).texts == getattr(lines, name).texts
            assert torch.equal(getattr(data, name).labels, getattr(lines, name).labels)
    parts = datasets.DatasetDict(
        train=whole.select(range(50)),
        test=datasets.Dataset.from_list([{"text": f"{i} + 1"} for i in range(4)]),
    )
    parts.save_to_disk(str(tmp_path / "parts"))
    data = load(DataConfig(**{**text, "path": str(tmp_path / "parts")}))
    assert (len(data.train), len(data.validation), len(data.test)) == (45, 5, 4)
    assert data.test.texts[0] == ("", "0 + 1")


def test_what_is_no_text(text: dict[str, Any], tmp_path: Path) -> None:
    settings = DataConfig(**text)
    for wrong, message in (
        ([1], "this is no text"),
        (datasets.Dataset.from_list([{"a": "b"}] * 9), "is no sample"),
        (datasets.DatasetDict(test=datasets.Dataset.from_list(rows(text))), "no training rows"),
    ):
        with pytest.raises(DataError, match=message):
            text_from(wrong, settings)
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot read the data set"):
        load(DataConfig(**{**text, "path": str(tmp_path)}))
    with pytest.raises(ConfigError, match="for text"):
        limbeck.train("cnn", {"name": "digits", "path": datasets.Dataset.from_list(rows(text))})


def test_a_dataset_in_python(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    data = {**text, "path": datasets.Dataset.from_list(rows(text))}
    short = {"epochs": 1, "batch_size": 32, "precision": "fp32"}
    student = build(
        SMALL["name"], classes=len(teacher.card()["classes"]), channels=0, size=(0, 0), **SMALL["options"]
    )
    run = limbeck.distill(
        student, teacher, data, method="token_kd", output=tmp_path / "run", quiet=True, train=short
    )
    assert "agreement" in run.results["last"]["test"]
    assert Run(tmp_path / "run").config.data.length == text["length"]


def test_the_teacher_s_texts_are_data(
    text: dict[str, Any], teacher: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("limbeck.evaluation.answers.BATCH", 50)
    out = tmp_path / "texts" / "train.jsonl"
    words = ["generate", str(teacher.path), "--data", "train", "--out", str(out), "--new-tokens", "6"]
    words += ["--temperature", "1.0", "--seed", "3"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    prompts = [prompt for prompt, _ in load(DataConfig(**text)).train.texts]
    assert [json.loads(line)["prompt"] for line in lines] == prompts
    assert len({json.loads(line)["response"] for line in lines}) > 3
    out.write_bytes(b"".join(lines[:70]) + lines[70][:5])  # stopped within a line of the second batch
    assert CliRunner().invoke(app, words).exit_code == 0
    assert out.read_bytes() == whole
    found = load(DataConfig(**text, train_from=str(out)))
    plain = load(DataConfig(**text))
    assert found.train.texts == tuple((r["prompt"], r["response"]) for r in map(json.loads, lines))
    assert found.test.texts == plain.test.texts
    run = execute(config({**text, "train_from": str(out)}, tmp_path / "run"))
    metrics = run.metrics("train")
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    out.write_text('{"prompt": "another", "response": ""}\n')
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, DataError)


@pytest.mark.parametrize("words", [[], ["--data", "train"], ["--data", "train", "--out", "x", "-p", "1"]])
def test_one_thing_to_go_on_from(words: list[str], teacher: Run) -> None:
    refused = CliRunner().invoke(app, ["generate", str(teacher.path), *words])
    assert isinstance(refused.exception, ConfigError)
