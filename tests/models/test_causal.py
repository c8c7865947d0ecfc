"""Heads of causal language models: hidden states and head are the model's own logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models import build
from limbeck.models.causal import head_of
from limbeck.signals import Batch
from limbeck.tasks import LanguageModelling

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": SMALL,
    "qwen2": SMALL,
    "mistral": SMALL,
    "gemma2": {**SMALL, "head_dim": 8, "final_logit_softcapping": 0.1},
    "cohere": {**SMALL, "logit_scale": 0.25},
    "granite": {**SMALL, "logits_scaling": 3.0},
    "phi": SMALL,  # its head has a bias
    "opt": {
        "hidden_size": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 8,
    },
}


def model(kind: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network = build(
        f"causal:{kind}", classes=23, channels=0, size=(0, 0), **{**KINDS[kind], **options}
    ).eval()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.02)  # biases that start at 0 count too
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padded", [0, 9])
def test_states_and_head_are_the_logits(kind: str, padded: int) -> None:
    network = model(kind, vocab_size=23 + padded)
    batch = Batch(torch.randint(0, 23, (2, 5)), torch.randint(0, 23, (2, 5)), torch.arange(2))
    batch.labels[0, :2] = -100
    task = LanguageModelling(classes=23)
    with torch.no_grad():
        got = task.signals(task.call(network, batch)).logits
        whole = network(batch.inputs).logits[..., :23]
    torch.testing.assert_close(got, whole[batch.labels != -100])


def test_a_head_that_does_more_is_refused() -> None:
    network = model("llama")

    class Sharper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.config = network, network.config

        def get_output_embeddings(self) -> nn.Module:
            return self.inside.get_output_embeddings()  # type: ignore[operator, no-any-return]

        def forward(self, **inputs: Any) -> Any:
            found = self.inside(**inputs)
            found.logits = found.logits * 3
            return found

    batch = Batch(torch.zeros(1, 3).long(), torch.zeros(1, 3).long(), torch.arange(1))
    with pytest.raises(ModelError, match="makes its logits in another way"):
        LanguageModelling(classes=23).call(Sharper(), batch)


def test_no_head() -> None:
    with pytest.raises(ModelError, match="no linear head"):
        head_of(nn.Linear(2, 3))
    with pytest.raises(ModelError, match="causal language model"):
        LanguageModelling(classes=3).call(
            _Words(), Batch(torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), torch.arange(1))
        )


class _Words(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x
