"""A student and a teacher with tokenizers of their own: one run of each method, on words and their plurals."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.vocabulary.trained import BUILDERS

from limbeck import Run
from limbeck.config import parse
from limbeck.data.bilingual import Languages, Reader
from limbeck.data.text import TokenSplit, encode
from limbeck.errors import ConfigError
from limbeck.methods import METHODS
from limbeck.reading import Reading
from limbeck.shapes import IGNORE
from limbeck.training.session import assemble, execute, score
from limbeck.training.trainer import RunInterrupted, Trainer

PLAIN = {"n_positions": 96, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SMALL = {"name": "causal:gpt2", "options": {**PLAIN, "n_embd": 12, "n_layer": 1, "n_head": 2}}
LARGE = {"name": "causal:llama", "options": {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 192, "tie_word_embeddings": False,
}}  # fmt: skip
ACROSS = sorted(name for name, method in METHODS.items() if method.across_tokenizers)
WORDS = [
    "data",
    "naïve",
    "plain",
    "sentence",
    "café",
    "space",
    "line",
    "petal",
    "width",
    "class",
    "sample",
    "value",
    "日本",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, and the two tokenizers."""
    folder = tmp_path_factory.mktemp("two")
    draw = random.Random(0)
    rows = []
    for _ in range(60):
        a, b = draw.choice(WORDS), draw.choice(WORDS)
        rows.append({"prompt": f"{a}, {b}: ", "response": f"{a}s and {b}s"})
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("gpt2", "llama"):
        BUILDERS[name]().save_pretrained(str(folder / name))
    return folder


def config(folder: Path, output: Path, tokenizer: str, **more: Any) -> Any:
    data = {
        "name": "text",
        "path": str(folder / "texts.jsonl"),
        "length": 90,
        "responses": 2,
        "new_tokens": 8,
    }
    train = {"epochs": 1, "batch_size": 16, "precision": "fp32", "log_every": 1, "threads": 1}
    train |= {"optimizer": {"name": "adamw", "learning_rate": 0.01}, **more.pop("train", {})}
    data |= {"tokenizer": str(folder / tokenizer)}
    return parse({"data": data, "student": SMALL, "output": str(output), "train": train, **more})


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Run:
    return execute(config(folder, folder / "teacher", "llama", student=LARGE, train={"epochs": 4}))


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages.of(BUILDERS["gpt2"](), BUILDERS["llama"]())


# ------------------------------------------------------------------------------------------------------ the reading


def read(languages: Languages, prompt: str, response: str) -> tuple[TokenSplit, Reading]:
    sample = encode(languages.student.tokenizer, prompt, response, 200)
    assert sample is not None
    split = TokenSplit([sample], "train", [(prompt, response)])
    return split, Reader(languages, 400).batch(split, torch.arange(1))


@pytest.mark.parametrize("response", ["plain sentences, naïve", "日本語 café", "x", "  two  spaces "])
def test_exact_pairs_are_the_same_bytes_and_the_ends_meet(languages: Languages, response: str) -> None:
    split, reading = read(languages, "say: ", response)
    mine = split.targets[0][split.targets[0] != IGNORE]
    theirs = reading.labels[0][reading.labels[0] != IGNORE]
    a, b = reading.pairs("exact")
    assert (int(a[-1]), int(b[-1])) == (len(mine) - 1, len(theirs) - 1), "end token with end token"
    assert int(mine[-1]) == languages.student.eos
    assert int(theirs[-1]) == languages.teacher.eos
    for i, j in zip(a[:-1].tolist(), b[:-1].tolist()):
        left, right = languages.student.pieces[int(mine[i])], languages.teacher.pieces[int(theirs[j])]
        assert left == right or (j == 0 and left == right.lstrip(b" "))
    assert a.diff().gt(0).all()
    assert b.diff().gt(0).all()


def test_rows_of_several_samples_are_counted_on(languages: Languages) -> None:
    readings = [read(languages, "a ", text) for text in ("plain data", "naïve", "value of a line")]
    together = Reading.of([reading.samples[0] for _, reading in readings])
    ours = theirs = 0
    expected: list[tuple[int, int]] = []
    for _, reading in readings:
        a, b = reading.pairs("exact")
        expected += [(int(i) + ours, int(j) + theirs) for i, j in zip(a, b)]
        ours, theirs = ours + reading.samples[0].counts[0], theirs + reading.samples[0].counts[1]
    assert list(zip(*(x.tolist() for x in together.pairs("exact")))) == expected
    kept = together.rows(torch.tensor([False, False, True]))
    assert torch.equal(kept.pairs("exact")[0], readings[2][1].pairs("exact")[0])
    assert [len(x) for x in together.rows_of()] == [ours, theirs]


def test_tokens_that_a_tokenizer_would_not_make_of_the_text_are_found(languages: Languages) -> None:
    vocabulary = languages.student.tokenizer.get_vocab()
    letters = torch.tensor([*(vocabulary[c] for c in "plain"), languages.student.eos])
    ids, labels = encode(languages.teacher.tokenizer, "a ", "plain", 100) or (None, None)
    assert ids is not None
    assert labels is not None
    sample = Reader(languages, 100).joined(ids, labels, "plain", letters)
    assert sample.spans is not None
    assert sample.spans[0].bounds.tolist() == [[i, i + 1] for i in range(5)] + [[5, 5]]
    assert sample.pairs("exact")[0][-1] == 5


# -------------------------------------------------------------------------------------------------------- the runs


@pytest.mark.parametrize("name", ACROSS)
def test_every_method_for_two_tokenizers_trains(
    folder: Path, teacher: Run, tmp_path: Path, name: str
) -> None:
    run = execute(
        config(folder, tmp_path / "run", "gpt2", teacher={"run": str(teacher.path)}, methods=[name])
    )
    results = run.results
    assert results["last"]["test"]["perplexity"] > 1
    assert "agreement" not in results["last"]["test"], "the two vocabularies have no common likeliest token"
    assert results["teacher"]["test"]["perplexity"] > 1
    assert len((run.path / "responses.jsonl").read_text().splitlines()) == 2
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    first = next(row for row in rows if row["kind"] == "train")
    shares = {key: value for key, value in first.items() if key.startswith(f"{name}.")}
    assert shares
    assert all(0 <= value <= 1 for value in shares.values())
    assert "agreement" not in score(run, "validation")


def test_the_first_step_is_the_loss_of_the_aligned_tokens(folder: Path, teacher: Run, tmp_path: Path) -> None:
    """``overlap`` written out with whole logits."""
    parts = assemble(
        config(folder, tmp_path / "run", "gpt2", teacher={"run": str(teacher.path)}, methods=["overlap"])
    )
    batch = next(parts.loader.epoch(0))
    assert parts.teacher is not None
    signals = parts.teacher.signals(batch)
    terms = parts.learner(batch, signals)
    mine = parts.task.signals(parts.task.call(parts.learner.student, batch)).logits
    assert batch.reading is not None
    a, b = batch.reading.pairs("exact")
    relation = parts.languages.relation  # type: ignore[attr-defined]
    p = signals.logits[b][:, relation.teacher_ids].log_softmax(1)
    q = mine[a][:, relation.student_ids].log_softmax(1)
    expected = (p.exp() * (p - q)).sum(1).mean()
    torch.testing.assert_close(terms["overlap"].value, expected)


@pytest.mark.parametrize("by", ["student", "teacher"])
def test_texts_of_one_model_are_read_by_the_other(
    folder: Path, teacher: Run, tmp_path: Path, by: str
) -> None:
    sampling = {"by": by, "new_tokens": 6}
    options = {"teacher": {"run": str(teacher.path)}, "methods": ["dskd"], "sampling": sampling}
    run = execute(config(folder, tmp_path / "run", "gpt2", **options))
    assert run.status == "finished"


@pytest.mark.parametrize("name", ["dskd_cma", "dskd"])
def test_a_stopped_run_goes_on_to_the_same_weights(
    folder: Path, teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options: dict[str, Any] = {"teacher": {"run": str(teacher.path)}, "methods": [name]}
    options["train"] = {"checkpoint_every": 1, "batch_size": 16}
    whole = execute(config(folder, tmp_path / "whole", "gpt2", **options))
    one = Trainer._one

    def stop(self: Trainer, batch: Any) -> None:
        one(self, batch)
        if self.step == 2:
            raise RunInterrupted("stopped", fix="", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one", stop)
        with pytest.raises(RunInterrupted):
            execute(config(folder, tmp_path / "parts", "gpt2", **options))
    resumed = execute(config(folder, tmp_path / "parts", "gpt2", **options), resume=True)
    left, right = (load_file(run.path / "student.safetensors") for run in (whole, resumed))
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_teacher_with_the_same_tokenizer_takes_the_old_way(
    folder: Path, teacher: Run, tmp_path: Path
) -> None:
    parts = assemble(
        config(folder, tmp_path / "run", "llama", teacher={"run": str(teacher.path)}, methods=["dskd", "uld"])
    )
    assert parts.languages is None  # type: ignore[attr-defined]
    batch = next(parts.loader.epoch(0))
    assert batch.reading is None
    assert parts.teacher is not None
    assert set(parts.learner(batch, parts.teacher.signals(batch))) >= {"dskd.student_space", "uld"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"methods": ["token_kd"]},
            "token_kd needs one vocabulary.*dskd, dskd_cma, gold, mined, overlap, uld",
        ),
        ({"methods": ["dist"]}, "dist needs one vocabulary"),
        ({"methods": ["dskd"], "sampling": {"by": "both"}}, "two tokenizers"),
    ],
)
def test_what_needs_one_vocabulary_is_refused(
    folder: Path, teacher: Run, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        assemble(config(folder, tmp_path / "run", "gpt2", teacher={"run": str(teacher.path)}, **change))


def test_cross_model_attention_is_for_two_tokenizers(folder: Path, teacher: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use dskd"):
        assemble(
            config(
                folder, tmp_path / "run", "llama", teacher={"run": str(teacher.path)}, methods=["dskd_cma"]
            )
        )
