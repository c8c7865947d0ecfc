"""LoRA: only low-rank matrices learn and are kept, and what is saved is an ordinary network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_language import LARGE, SMALL, assert_same, config
from transformers import AutoModelForCausalLM

from limbeck import Run
from limbeck.config import LoraConfig, parse
from limbeck.errors import CheckpointError, ConfigError, ModelError
from limbeck.models import build
from limbeck.models.causal import head_of
from limbeck.models.lora import adapted, attach, merged, trained
from limbeck.signals import Batch
from limbeck.tasks import LanguageModelling
from limbeck.training.checkpoint import load
from limbeck.training.session import execute, score
from limbeck.training.trainer import RunInterrupted, Trainer

LORA = {"rank": 2, "alpha": 8.0}
OPEN = {**LARGE["options"], "hidden_size": 8}


def lora_run(text: dict[str, Any], source: Run, folder: Path, **more: Any) -> Any:
    settings = {"teacher": {"run": str(source.path)}, "methods": ["dskd"], **more}
    student = settings.pop("student", SMALL)
    return config(text, folder, student={**student, "lora": {**LORA, **settings.pop("lora", {})}}, **settings)


@pytest.fixture(scope="module")
def run(text: dict[str, Any], teacher: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return execute(lora_run(text, teacher, tmp_path_factory.mktemp("lora") / "run"))


def test_only_matrices_and_projectors_are_kept(run: Run) -> None:
    rows = run.metrics("train")
    assert rows[-1]["loss"] < rows[0]["loss"]
    state = load(run.path / "checkpoints" / "last.pt")["players"]["student"]["module"]
    assert state
    assert all(".lora_" in name or name.startswith("methods.") for name in state)
    assert any(name.startswith("methods.") for name in state)
    assert not (run.path / "best_adapter.safetensors").exists()
    cost = run.results["cost"]
    assert 0 < cost["trained_parameters"] < cost["parameters"]
    assert cost["parameters"] == sum(p.numel() for p in run.student().parameters())


def test_the_saved_student_is_plain(run: Run) -> None:
    for which in ("last", "best"):
        student = run.student(which)  # type: ignore[arg-type]
        assert not adapted(student)
        found = score(run, "test", which)  # type: ignore[arg-type]
        assert found == pytest.approx(run.results[which]["test"], rel=1e-4)


def test_the_adapter_is_peft_s(run: Run, tmp_path: Path) -> None:
    from peft import PeftModel

    torch.manual_seed(0)
    base = execute_base(run)
    base.save_pretrained(tmp_path / "base")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = PeftModel.from_pretrained(again, str(run.path / "adapter")).eval()
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(model(ids).logits, run.student()(ids).logits)


def execute_base(run: Run) -> Any:
    """The network that the run began with."""
    from limbeck.seeds import derive
    from limbeck.training.networks import make

    config, card = run.config, run.card()
    plain = config.student.model_copy(update={"lora": None})
    return make(plain, classes=len(card["classes"]), inputs=run.inputs(), seed=derive(config.seed, "student"))


def test_resume(run: Run, text: dict[str, Any], teacher: Run, tmp_path: Path, monkeypatch: Any) -> None:
    settings = lora_run(text, teacher, tmp_path / "stopped")

    def stopped(self: Trainer) -> None:
        if self.step == 14:
            self._save()
            raise RunInterrupted("stopped", fix="go on", number=15)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_stop_if_asked", stopped)
        with pytest.raises(RunInterrupted):
            execute(settings)
    with monkeypatch.context() as patch:
        patch.setattr("limbeck.training.language.base_fingerprint", lambda model: "another")
        with pytest.raises(CheckpointError, match="base of the student"):
            execute(settings, resume=True)
    again = execute(settings, resume=True)
    assert_same(again, run)
    mine, theirs = (load_file(r.path / "adapter" / "adapter_model.safetensors") for r in (again, run))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("method", ["dskd", "token_kd"])
def test_a_head_with_matrices(method: str, text: dict[str, Any], teacher: Run, tmp_path: Path) -> None:
    """Losses read the head through its matrices, and the best epoch differs from the last."""
    targets = ["lm_head", "q_proj"]
    student = {"name": "causal:llama", "options": OPEN}
    more = {"lora": {"targets": targets}, "methods": [method], "student": student}
    found = execute(lora_run(text, teacher, tmp_path / "run", **more))
    names = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in trained(_adapted_again(found))}
    assert names == set(targets)
    assert score(found, "test")["nll"] == pytest.approx(found.results["last"]["test"]["nll"], rel=1e-4)
    weights = load_file(found.path / "student.safetensors")
    base = execute_base(found).state_dict()
    assert not torch.equal(weights["lm_head.weight"], base["lm_head.weight"])
    assert torch.equal(weights["model.embed_tokens.weight"], base["model.embed_tokens.weight"])


def _adapted_again(run: Run) -> Any:
    from limbeck.training.networks import make

    return make(run.config.student, classes=len(run.card()["classes"]), inputs=run.inputs())


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_head_is_the_model_s(kind: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = (
        {"n_embd": 8, "n_layer": 1, "n_head": 2, "tie_word_embeddings": False} if kind == "gpt2" else OPEN
    )
    model = build(f"causal:{kind}", classes=17, channels=0, size=(0, 0), **options)
    attach(model.eval(), LoraConfig(rank=3, targets=("lm_head", "c_attn" if kind == "gpt2" else "v_proj")))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    batch = Batch(torch.randint(0, 17, (2, 4)), torch.randint(0, 17, (2, 4)), torch.arange(2))
    task = LanguageModelling(classes=17)
    got = task.signals(task.call(model, batch)).logits
    torch.testing.assert_close(got, model(batch.inputs).logits.flatten(0, 1))
    head_of(model).weight.square().sum().backward()
    assert model.lm_head.lora_B["default"].weight.grad is not None
    plain = build(f"causal:{kind}", classes=17, channels=0, size=(0, 0), **options)
    plain.eval().load_state_dict(merged(model))
    torch.testing.assert_close(plain(batch.inputs).logits, model(batch.inputs).logits)


@pytest.mark.parametrize(
    ("student", "lora", "message"),
    [
        (SMALL, {"targets": ["q_proj"]}, "c_attn|targets does not fit"),
        (SMALL, {"targets": ["lm_head"]}, "one tensor"),
        (SMALL, {"targets": ["wte"]}, "one tensor"),
        ({"name": "causal:llama", "options": OPEN}, {"targets": ["lm_head"], "dropout": 0.1}, "dropout"),
    ],
)
def test_wrong_targets(
    student: Any,
    lora: Any,
    message: str,
    text: dict[str, Any],
    teacher: Run,
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError, match=message):
        execute(lora_run(text, teacher, tmp_path / "run", student=student, lora=lora))


def test_where_lora_is_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"student\.lora is for runs on text"):
        execute(parse({"student": {"name": "cnn", "lora": {}}, "output": str(tmp_path)}))
    with pytest.raises(ConfigError, match=r"leave teacher\.model\.lora out"):
        parse({"student": "cnn", "teacher": {"model": {"name": "cnn", "weights": "w", "lora": {}}}})
