"""Presets of published language-model settings run as written, with tiny networks of the same kinds."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from tests.running import ROOT
from tests.vocabulary.trained import BUILDERS
from transformers import AutoConfig, AutoModelForCausalLM

from limbeck.config import read
from limbeck.training.session import execute

pytestmark = pytest.mark.slow
PRESETS = sorted((ROOT / "presets" / "language").glob("*.yaml"))
SHORT = [
    "data.length=96",
    "data.responses=2",
    "data.new_tokens=4",
    "train.epochs=1",
    "train.batch_size=4",
    "train.log_every=1",
    "train.guards=warn",  # these teachers have learned nothing
]
KINDS = {"qwen2": "qwen", "gemma": "llama", "gpt2": "gpt2", "mistral": "llama", "llama": "gpt2"}
"""Kind of network -> style of its tokenizer; a tokenizer of another style than the teacher's makes two vocabularies."""


def kind(name: str) -> str:
    """Which kind of network a preset's name is of."""
    return next(k for k in ("tinyllama", *KINDS) if k in name.lower()).replace("tiny", "")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks with random weights, each with a tokenizer."""
    folder = tmp_path_factory.mktemp("networks")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 96}  # fmt: skip
    for name, style in KINDS.items():
        tokenizer = BUILDERS[style]()
        own = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 96} if name == "gpt2" else sizes
        ids = {
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": None,
        }
        config = AutoConfig.for_model(name, **own, **ids, vocab_size=len(tokenizer) + 8)
        AutoModelForCausalLM.from_config(config).save_pretrained(str(folder / name))
        tokenizer.save_pretrained(str(folder / name))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    for name, count in (("train", 12), ("validation", 4), ("test", 4)):
        rows = [{"prompt": f"What is {i} and {i}? ", "response": f"It is {2 * i}."} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_the_teachers_command_and_the_preset_run(
    preset: Path, networks: Path, data: Path, tmp_path: Path
) -> None:
    command = next(line for line in preset.read_text().splitlines() if line.startswith("# limbeck train "))
    words = shlex.split(command)[4:]

    def tiny(overrides: list[str]) -> list[str]:
        """The preset with these overrides, networks and tokenizers replaced by tiny ones, everything else as it is."""
        config = read(preset, overrides)
        found = [f"student.name=causal:{networks / kind(config.student.name)}"]
        assert config.data.tokenizer is not None
        found += [f"data.tokenizer={networks / kind(config.data.tokenizer)}", f"data.path={data}"]
        return [*overrides, *found, *SHORT, *(["sampling.new_tokens=4"] if config.sampling else [])]

    taught = execute(read(preset, [*tiny(words), f"output={tmp_path / 'teacher'}"]))
    assert taught.status == "finished"
    run = execute(read(preset, [*tiny([]), f"teacher.run={taught.path}", f"output={tmp_path / 'student'}"]))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {m.name for m in run.config.methods} <= {term for term in lines[0]["terms"] if "." not in term} | {
        term.partition(".")[0] for term in lines[0]["terms"]
    }
    speculative = run.config.sampling is not None and run.config.sampling.by == "both"
    assert ("acceptance_rate" in run.info["learned"]) == speculative
    assert (run.path / "adapter").is_dir() == (run.config.student.lora is not None)
