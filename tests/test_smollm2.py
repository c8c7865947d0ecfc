"""The example with a pretrained teacher, on a tiny GGUF file that is written here: the real weights are 93 MB."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limbeck.data import corpora
from tests.running import ROOT

pytest.importorskip("gguf", reason="needs gguf, of limbeck[llm]")

TEXT = " ".join(topics["lists"].split())
WIDTH, INNER, HEADS, GROUPS, LAYERS = 32, 64, 4, 2, 2


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("smollm2", ROOT / "examples" / "smollm2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return corpora.byte_bpe([TEXT], 300)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    """A Llama with grouped heads and tied embeddings, as SmolLM2 is, that has read one text."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=WIDTH, intermediate_size=INNER, tie_word_embeddings=True,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=GROUPS,
        rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 1e5},
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.tensor([tokenizer.encode(TEXT).ids])
    for _ in range(30):
        optimiser.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def gguf_file(model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights in the layout of SmolLM2's file, whose rotary pairs are interleaved."""
    import gguf

    path: Path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    entries = json.loads(tokenizer.to_str())["model"]
    tokens = ["<|endoftext|>", *sorted(entries["vocab"], key=entries["vocab"].get)[1:]]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(1e5)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(tokens) - 1)])
    writer.add_token_merges([" ".join(pair) for pair in entries["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}

    def interleaved(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
        return rows.reshape(heads, 2, -1, WIDTH).swapaxes(1, 2).reshape(rows.shape)

    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    for i in range(LAYERS):
        layer = {k.split(f"layers.{i}.")[1]: v for k, v in weights.items() if f"layers.{i}." in k}
        layer["self_attn.q_proj.weight"] = interleaved(layer["self_attn.q_proj.weight"], HEADS)
        layer["self_attn.k_proj.weight"] = interleaved(layer["self_attn.k_proj.weight"], GROUPS)
        for theirs, ours in {
            "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
            "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        }.items():  # fmt: skip
            writer.add_tensor(f"blk.{i}.{theirs}.weight", np.ascontiguousarray(layer[f"{ours}.weight"]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.slow
def test_a_gguf_file_becomes_a_folder_that_says_the_same(
    example: Any, model: Any, tokenizer: Any, gguf_file: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    example.plain(gguf_file, tmp_path / "plain")
    saved: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    reads: Any = AutoTokenizer.from_pretrained(tmp_path / "plain")
    for text in ("The capital of France is Paris.", "A list is changed in place.", "del s[i:j]"):
        ids = reads(text, return_tensors="pt").input_ids
        assert ids.tolist() == [tokenizer.encode(text).ids]
        assert reads.decode(ids[0]) == text
        with torch.no_grad():
            torch.testing.assert_close(saved(ids).logits, model(ids).logits, rtol=0, atol=1e-5)
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())


@pytest.mark.slow
def test_the_example_runs_to_its_verdict(
    example: Any, gguf_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--texts", "32", "--epochs", "1", "--threads", "1"]
    example.main([str(gguf_file), "--out", str(tmp_path / "run"), *few])
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert last.startswith(("dskd helped", "dskd hurt", "dskd no evidence"))
    lines = (tmp_path / "run" / "dskd-0" / "metrics.jsonl").read_text().splitlines()
    aligned = [json.loads(line)["dskd.aligned"] for line in lines if "dskd.aligned" in line]
    assert aligned
    assert 0 < aligned[0] <= 1
