"""Runs on text: from JSON lines to a record, in pieces, in two processes, stopped and resumed."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.running import launch, limbeck, write_config
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from typer.testing import CliRunner

from limbeck import Run
from limbeck.cli.app import app
from limbeck.config import parse
from limbeck.data import DataConfig, load
from limbeck.data.text import read_tokenizer
from limbeck.errors import ConfigError, DataError, GuardError, ModelError
from limbeck.evaluation.responses import respond
from limbeck.procedures import adaptive
from limbeck.training.session import assemble, execute, score
from limbeck.training.trainer import RunInterrupted, Trainer

GPT: dict[str, Any] = {"n_positions": 32, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SMALL = {"name": "causal:gpt2", "options": {**GPT, "n_embd": 8, "n_layer": 1, "n_head": 2}}
LARGE = {"name": "causal:llama", "options": {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 32, "tie_word_embeddings": False,
}}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Numbers and their sums, and a byte-level tokenizer trained on them."""
    folder = tmp_path_factory.mktemp("text")
    draw = random.Random(0)
    pairs = [(draw.randrange(30), draw.randrange(30)) for _ in range(240)]
    rows = [{"prompt": f"{a} + {b} = ", "response": str(a + b)} for a, b in pairs]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=80, special_tokens=["<eos>"], show_progress=False)
    tokenizer.train_from_iterator([row["prompt"] + row["response"] for row in rows], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    path, known = folder / "sums.jsonl", folder / "tokenizer.json"
    return {"name": "text", "path": str(path), "tokenizer": str(known), "length": 24}


def config(text: dict[str, Any], folder: Path, **more: Any) -> Any:
    optimizer = {"name": "adamw", "learning_rate": 0.01}
    train = {"epochs": 2, "batch_size": 16, "precision": "fp32", "log_every": 1, "threads": 1}
    train |= {"optimizer": optimizer, **more.pop("train", {})}
    return parse({"data": text, "student": SMALL, "output": str(folder), "train": train, **more})


@pytest.fixture(scope="module")
def teacher(text: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return execute(config(text, folder, student=LARGE, train={"epochs": 6}))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "student.safetensors")


def assert_same(first: Run, second: Run, rtol: float = 0.0, atol: float = 0.0) -> None:
    mine, theirs = weights(first), weights(second)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


# ----------------------------------------------------------------------------------------------------------- text


def test_labels_are_shifted_once(text: dict[str, Any]) -> None:
    split = load(DataConfig(**text)).train
    tokenizer = read_tokenizer(text["tokenizer"])
    inputs, labels = split.fetch(torch.tensor([3, 0]))
    for row, (prompt, response) in enumerate(split.texts[i] for i in (3, 0)):
        before, after = (tokenizer(part)["input_ids"] for part in (prompt, response))
        whole = [*before, *after, tokenizer.eos_token_id]
        assert inputs[row, : len(whole) - 1].tolist() == whole[:-1]
        assert labels[row][labels[row] != -100].tolist() == [*after, tokenizer.eos_token_id]
        first = int((labels[row] != -100).nonzero()[0])
        assert first == len(before) - 1  # the last token of the prompt predicts the first of the response
        assert (labels[row, len(whole) - 1 :] == -100).all()


def test_kinds_of_samples(text: dict[str, Any], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"{i} + 1"} for i in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load(DataConfig(**{**text, "path": str(tmp_path / "a.jsonl")}))
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    inputs, labels = data.train.fetch(torch.tensor([0]))
    assert torch.equal(inputs[0, 1:], labels[0, :-1])
    for name, share in (("train", rows), ("validation", rows[:3]), ("test", rows[:2])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, share)))
    data = load(DataConfig(**{**text, "path": str(tmp_path), "train_size": 7}))
    assert (len(data.train), len(data.validation), len(data.test)) == (7, 3, 2)


def test_messages(text: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = read_tokenizer(text["tokenizer"])
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} = {% endfor %}"
    tokenizer.save_pretrained(str(tmp_path / "chat"))
    rows = [
        {"messages": [{"role": "user", "content": f"{i} + 1"}, {"role": "assistant", "content": str(i + 1)}]}
        for i in range(12)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load(DataConfig(name="text", path=str(tmp_path / "a.jsonl"), tokenizer=str(tmp_path / "chat")))
    assert all(prompt.endswith("1 = ") for prompt, _ in data.train.texts)


def test_what_is_cut_off_is_counted(text: dict[str, Any], tmp_path: Path) -> None:
    rows = [
        {"prompt": "1 + " * 40, "response": "1"},
        *({"prompt": f"{i} ", "response": "1"} for i in range(20)),
    ]
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load(DataConfig(**{**text, "path": str(tmp_path)}))
    assert data.changes == {"left_out_without_response": {"train": 1, "validation": 1, "test": 1}}
    assert len(data.train) == 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "1"}', "line 1 of train is no sample"),
        ('["1"]', "line 1 of train is no sample"),
        ("{", "no JSON"),
        ('{"messages": [{"role": "user", "content": "1"}]}', "the assistant's"),
    ],
)
def test_wrong_lines(text: dict[str, Any], tmp_path: Path, line: str, message: str) -> None:
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        load(DataConfig(**{**text, "path": str(tmp_path)}))


def test_wrong_sources(text: dict[str, Any], tmp_path: Path) -> None:
    for change, message in (
        ({"tokenizer": None}, "needs data.path and data.tokenizer"),
        ({"path": "nowhere.jsonl"}, "no file"),
        ({"tokenizer": str(tmp_path / "none.json")}, "no tokenizer file"),
        ({"tokenizer": str(tmp_path)}, "cannot read the tokenizer"),
    ):
        with pytest.raises(DataError, match=message):
            load(DataConfig(**{**text, **change}))


# ----------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("method", ["token_kd", "dskd", "kd", "dkd", "dist", "bickd"])
def test_methods_train_and_resume(
    method: str, text: dict[str, Any], teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"teacher": {"run": str(teacher.path)}, "methods": [method]}
    whole = execute(config(text, tmp_path / "whole", **settings))
    test = whole.results["last"]["test"]
    assert {"accuracy", "nll", "perplexity", "agreement", "teacher_kl"} <= set(test)
    assert whole.results["teacher"]["test"]["accuracy"] == teacher.results["last"]["test"]["accuracy"]
    rows = whole.metrics("train")
    assert rows[-1]["loss"] < rows[0]["loss"]

    def stopped(self: Trainer) -> None:
        if self.step == len(rows) - 3:
            self._save()
            raise RunInterrupted("stopped", fix="go on", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", stopped)
        with pytest.raises(RunInterrupted):
            execute(config(text, tmp_path / "stopped", **settings))
    again = config(text, tmp_path / "stopped", **settings)
    assert_same(execute(again, resume=True), whole)


@pytest.mark.parametrize("method", ["token_kd", "dskd"])
def test_accumulated_pieces_are_the_batch(
    method: str, text: dict[str, Any], teacher: Run, tmp_path: Path
) -> None:
    """Samples hold unlike numbers of tokens; a mean of the pieces' means would be another number."""
    settings = {"teacher": {"run": str(teacher.path)}, "methods": [{"name": method, **WHOLE.get(method, {})}]}
    plain = {"optimizer": {"name": "sgd", "learning_rate": 0.05}}
    one = execute(config(text, tmp_path / "one", train=plain, **settings))
    two = execute(config(text, tmp_path / "two", train={**plain, "accumulate": 3}, **settings))
    assert_same(two, one, rtol=1e-3, atol=1e-5)


WHOLE = {"dskd": {"masked": False}}
"""The mask's divisor is of a piece."""


GREEDY = {"temperature": 0.0}


def sampled(text: dict[str, Any], source: Run, folder: Path, **sampling: Any) -> Run:
    method = {"name": "token_kd", "divergence": "jsd"}
    settings = {"teacher": {"run": str(source.path)}, "methods": [method], "label_weight": 0.0}
    sampling = {"new_tokens": 5, "student": GREEDY, "teacher": GREEDY, **sampling}
    train = {"epochs": 1, "evaluate_every": 1 if sampling.get("adaptive") else None}
    return execute(config(text, folder, sampling=sampling, train=train, **settings))


def test_limits_of_speculative_kd(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    """K = 1 under a greedy teacher is the teacher's own text; K = V is on-policy KD."""
    runs = {
        "first": sampled(text, teacher, tmp_path / "first", by="both", top_k=1),
        "teacher": sampled(text, teacher, tmp_path / "teacher", by="teacher"),
        "all": sampled(text, teacher, tmp_path / "all", by="both", top_k=9999),
        "student": sampled(text, teacher, tmp_path / "student", by="student"),
    }
    assert_same(runs["first"], runs["teacher"], rtol=1e-4, atol=1e-6)
    assert_same(runs["all"], runs["student"], rtol=1e-4, atol=1e-6)
    with pytest.raises(AssertionError):
        assert_same(runs["first"], runs["all"], rtol=1e-2, atol=1e-3)
    rows = runs["first"].metrics("train")
    assert all(0 <= row["acceptance_rate"] <= 1 for row in rows)
    assert "acceptance_rate" not in runs["student"].metrics("train")[0]
    learned = runs["first"].info["learned"]
    rates = [row["acceptance_rate"] for row in rows]
    assert min(rates) <= learned["acceptance_rate"] <= max(rates)
    assert learned["processor_seconds"] > 0
    assert runs["student"].info["learned"].keys() == {"processor_seconds", "tokens"}


def test_sampled_labels_are_no_truth(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    """The task's loss is on the data only; half of the batches are sampled, after an epoch without."""
    settings = {"teacher": {"run": str(teacher.path)}, "methods": ["token_kd"]}
    sampling = {"by": "both", "share": 0.5, "after": 1, "new_tokens": 5}
    run = execute(config(text, tmp_path / "run", sampling=sampling, train={"epochs": 3}, **settings))
    assert score(run, "test")["accuracy"] == pytest.approx(run.results["last"]["test"]["accuracy"])
    rows = run.metrics("train")
    per_epoch = len(rows) // 3
    labelled = ["cross_entropy" in row["terms"] for row in rows]
    assert all(labelled[:per_epoch])
    assert 0 < sum(labelled[per_epoch:]) < 2 * per_epoch
    assert all(("acceptance_rate" in row) != known for row, known in zip(rows, labelled, strict=True))


HOT = {"temperature": 1.0, "top_p": 1.0}


@pytest.mark.parametrize(
    "given",
    [
        {"by": "both", "top_k": 5, "student": HOT, "teacher": HOT},
        {"by": "student", "adaptive": True, "replay": 20},
    ],
    ids=["both", "adaptive"],
)
def test_sampling_goes_on_where_it_stopped(
    given: dict[str, Any], text: dict[str, Any], teacher: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive, "MARGIN", -99.0)  # every validation counts as worse
    monkeypatch.setattr(adaptive, "STEP", 0.7)
    whole = sampled(text, teacher, tmp_path / "whole", **given)

    def stopped(self: Trainer) -> None:
        if self.step == 8:
            self._save()
            raise RunInterrupted("stopped", fix="go on", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", stopped)
        with pytest.raises(RunInterrupted):
            sampled(text, teacher, tmp_path / "stopped", **given)
    again = Run(tmp_path / "stopped").config
    resumed = execute(again.model_copy(update={"output": str(tmp_path / "stopped")}), resume=True)
    assert_same(resumed, whole)
    counted = [
        {k: v for k, v in r.info["learned"].items() if k != "processor_seconds"} for r in (resumed, whole)
    ]
    assert counted[0] == counted[1]
    if given["by"] == "both":
        assert {"tokens", "acceptance_rate", "tokens_per_pass"} <= counted[0].keys()
    else:
        assert counted[0]["threshold"] == 1
        assert counted[0]["batches_new"] >= 2
        assert counted[0]["batches_replayed"] >= 2


def test_the_students_share_rises_when_validation_worsens(
    text: dict[str, Any], teacher: Run, tmp_path: Path
) -> None:
    settings = {"teacher": {"run": str(teacher.path)}, "methods": ["token_kd"]}
    parts = assemble(
        config(
            text,
            tmp_path,
            sampling={"by": "student", "adaptive": True, "replay": 4, "new_tokens": 5},
            **settings,
        )
    )
    rule = parts.procedure()
    assert isinstance(rule, adaptive.AdaptiveDistillation)
    seen = []
    for nll in (2.0, 2.09, 2.11, 2.2, 1.0, 2.22, 9.0):
        rule.validated({"nll": nll})
        seen.append(round(rule.threshold, 3))
    assert seen == [0, 0, 0.1, 0.1, 0.1, 0.2, 0.3]
    for _ in range(9):
        rule.validated({"nll": rule.counted + 1})
    assert rule.threshold == 1
    batch = next(parts.loader.epoch(0))
    next(rule.step(batch))
    assert rule.turns == {"new": 1, "replayed": 0}
    assert len(rule.buffer) == 4, "only the last ones are kept"
    parts.learner.at(1.999)
    for _ in range(3):
        next(rule.step(batch))
    assert rule.turns == {"new": 1, "replayed": 3}
    again = rule._again(batch)
    kept = {tuple(row.tolist()) for row, _ in rule.buffer}
    assert {
        tuple(row[mask].tolist()) for row, mask in zip(again.labels, again.labels != -100, strict=True)
    } <= {tuple(row[row != -100].tolist()) for _, row in rule.buffer}
    assert len(kept) > 1
    assert again.sampled


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("token_kd", ["student.lora={rank: 2, alpha: 8}", "data.packing=true"]),
        ("{name: dskd, start: random}", []),
    ],
    ids=["token_kd with LoRA, packed", "dskd"],
)
def test_two_processes(
    method: str, more: list[str], text: dict[str, Any], teacher: Run, tmp_path: Path
) -> None:
    path = write_config(
        tmp_path / "run.yaml",
        data={**text, "train_size": None},
        student=SMALL,
        teacher={"run": str(teacher.path)},
        train={"optimizer": {"name": "sgd", "learning_rate": 0.05}, "batch_size": 16, "epochs": 1},
    )
    done = launch(
        "distill", path, "methods=[token_kd]", "sampling.new_tokens=5", "--output", tmp_path / "sampled"
    )
    assert done.returncode == 0, done.stderr
    for start, name in ((limbeck, "one"), (launch, "two")):
        done = start("distill", path, f"methods=[{method}]", *more, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert_same(Run(tmp_path / "two"), Run(tmp_path / "one"), rtol=1e-3, atol=1e-5)
    scores = [Run(tmp_path / name).results["last"]["test"] for name in ("one", "two")]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)


def test_the_command_line(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "run.yaml",
        data={**text, "train_size": None},
        student=SMALL,
        teacher={"run": str(teacher.path)},
        methods=["dskd"],
        train={"epochs": 1},
    )
    done = limbeck("distill", path, "data.responses=9", "data.new_tokens=6", "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout
    assert "exact match of responses" in done.stdout
    assert "projectors between widths 8 and 16" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "run" / "responses.jsonl").read_text().splitlines()]
    assert len(rows) == 9
    first = assemble(config(text, tmp_path / "none")).learner.student
    prompts = [row["prompt"] for row in rows]
    assert [row["before"] for row in rows] == respond(
        first, read_tokenizer(text["tokenizer"]), prompts, new_tokens=6
    )
    for words in (("evaluate", tmp_path / "run"), ("report", tmp_path / "run", "-o", tmp_path / "page.html")):
        done = limbeck(*words)
        assert done.returncode == 0, done.stderr
        if words[0] == "evaluate":
            assert "Rouge-L of responses" in done.stdout
            assert re.search(rf"prompt +{re.escape(prompts[0].strip())}\nreference +", done.stdout)
            assert f"student, before  {rows[0]['before'].strip()}".rstrip() in done.stdout
    page = (tmp_path / "page.html").read_text()
    assert "dskd.teacher_space" in page
    assert "Student before" in page
    for command, *options in (
        ("layers",),
        ("export", "--onnx"),
        ("evaluate", "--robustness"),
        ("evaluate", "--probe", "digits"),
    ):
        refused = CliRunner().invoke(app, [command, str(tmp_path / "run"), *options])
        assert isinstance(refused.exception, ConfigError)
        assert "needs a student of images" in str(refused.exception)
    shown = limbeck(
        "generate", tmp_path / "run", "-p", rows[0]["prompt"], "-p", rows[1]["prompt"], "--new-tokens", 6
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "".join(f"{row['prompt']}{row['student']}\n" for row in rows[:2])


def test_a_student_that_can_add(text: dict[str, Any], tmp_path: Path) -> None:
    """Greedy answers are right where the model has learned the training sums by heart."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"prompt": f"{a} + {a} = ", "response": str(2 * a)} for a in range(8)]
    for name in ("train", "validation", "test"):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {**text, "path": str(folder), "responses": 8, "new_tokens": 6}
    run = execute(config(data, tmp_path / "run", student=LARGE, train={"epochs": 120, "batch_size": 8}))
    test = run.results["last"]["test"]
    assert run.results["last"]["validation"]["exact_match"] == 1.0  # so that tuning can judge by responses
    tokenizer = read_tokenizer(data["tokenizer"])
    spelled = sum(len(tokenizer(row["response"])["input_ids"]) + 1 for row in rows)
    assert run.info["learned"]["tokens"] == 120 * spelled
    assert test["exact_match"] == 1.0
    assert test["error_rate"] == 0.0
    assert test["rouge_l"] == 1.0


def test_half_precision(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    """Heads are cast under autocast; whole logits are made of them elsewhere too."""
    settings = {"teacher": {"run": str(teacher.path)}, "methods": ["token_kd"]}
    nll = {
        precision: execute(
            config(text, tmp_path / precision, train={"epochs": 1, "precision": precision}, **settings)
        ).results["last"]["test"]["nll"]
        for precision in ("fp32", "bf16")
    }
    assert nll["bf16"] == pytest.approx(nll["fp32"], rel=0.05)


def test_the_record_rebuilds_the_student(text: dict[str, Any], teacher: Run) -> None:
    model = teacher.student()
    ids = torch.tensor([[5, 6, 7]])
    assert model(ids).logits.shape == (1, 3, len(teacher.card()["classes"]))


def test_projectors_are_trained(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    settings = {"teacher": {"run": str(teacher.path)}, "methods": ["dskd"]}
    run = execute(config(text, tmp_path / "run", **settings))
    rows = run.metrics("train")
    assert rows[-1]["terms"]["dskd.projector"]["raw"] < rows[0]["terms"]["dskd.projector"]["raw"]


def test_padded_heads(text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    """A head with more rows than the tokenizer: the rest is cut off, in losses and in scores."""
    padded = {**SMALL, "options": {**SMALL["options"], "vocab_size": 96}}
    settings = {"teacher": {"run": str(teacher.path)}, "methods": ["token_kd"]}
    run = execute(config(text, tmp_path / "run", student=padded, **settings))
    assert len(weights(run)["transformer.wte.weight"]) == 96
    assert run.results["last"]["test"]["teacher_kl"] > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"methods": ["at"]}, ConfigError, "looks into layers"),
        ({"methods": [], "sampling": {}}, ConfigError, "sampled texts need a method"),
        ({"sampling": {"adaptive": True}}, ConfigError, "adaptive is for by: student"),
        ({"augment": {"flip": True}}, ConfigError, "text has no augment"),
        ({"teacher": {"cache": "memory"}}, ConfigError, "text has no teacher.cache"),
        ({"train": {"compile": True}}, ConfigError, "text has no train.compile"),
        ({"student": {"name": "causal:gpt3"}}, ModelError, "no causal language model"),
        ({"student": {"name": "causal:gpt2", "options": {"layers": 2}}}, ModelError, "no option 'layers'"),
        (
            {"student": {**SMALL, "options": {**SMALL["options"], "vocab_size": 9}}},
            ModelError,
            "fewer tokens",
        ),
        (
            {"student": {**SMALL, "options": {**SMALL["options"], "n_positions": 4}}},
            ModelError,
            "data.length",
        ),
    ],
)
def test_wrong_settings(
    change: dict[str, Any], error: Any, message: str, text: dict[str, Any], teacher: Run, tmp_path: Path
) -> None:
    source = {"run": str(teacher.path), **change.pop("teacher", {})}
    with pytest.raises(error, match=message):
        execute(config(text, tmp_path / "run", **{"methods": ["token_kd"], "teacher": source, **change}))


def test_token_methods_on_images(tmp_path: Path) -> None:
    short = {"epochs": 8, "precision": "fp32", "threads": 1, "batch_size": 32}
    base: dict[str, Any] = {"data": {"name": "digits", "train_size": 320}, "student": "cnn", "train": short}
    teacher = execute(parse({**base, "output": str(tmp_path / "t")}))
    settings = {**base, "teacher": {"run": str(teacher.path)}, "methods": ["token_kd"]}
    with pytest.raises(GuardError, match="methods need tokens"):
        execute(parse({**settings, "output": str(tmp_path / "s")}))
