"""Interleaved sampling of SKD: blocks against one pass of the teacher per token, and a batch against its rows.

    python benchmarks/speculative_sampling.py [--quick] [--threads N]

All ratios are of tokens per second (better: higher), of processor time:

- ``blocks``: drafts of 5 against drafts of 1, which is the paper's algorithm as it stands: the teacher is asked after
  every token. Both sides write the same text, since the random numbers belong to positions, and it is compared.
- ``teacher``: drafts of 5 against a text of the teacher alone with as many tokens, the cost of supervised KD on the
  teacher's texts.
- ``batch_8``: 8 prompts of unlike length at once against one after another, the same texts again.

The pair is made, not trained: the teacher is a random Llama of 24 layers and 81 million weights, the student its first
layer with the same embedding and head (7 million). The branches of the teacher's other layers are scaled down until
more than 0.7 of the student's tokens are accepted, which is asserted; the rate that was reached is printed. So the
figures tell the speed at that rate and this ratio of sizes, and nothing of how often a trained student is accepted.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from _pairs import Figure, arguments, compare, finish

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from torch import Tensor, nn

from limbeck.generation import Generated, Interleaved, generate, interleave
from limbeck.generation.speculative import TEACHER

GAMMA, TOP_K, TOKENS, ACCEPTED = 5, 25, 48, 0.7
LAYERS, KEPT, SHARE = 24, 1, 0.045
"""Layers of the teacher, of them the student's, and the factor on the branches of the others."""


def pair() -> tuple[nn.Module, nn.Module]:
    """Student and teacher."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8, "vocab_size": 4096}
    torch.manual_seed(0)
    student, teacher = (LlamaForCausalLM(LlamaConfig(num_hidden_layers=n, **sizes)) for n in (KEPT, LAYERS))
    with torch.no_grad():
        teacher.lm_head.weight *= 5
        for index, layer in enumerate(teacher.model.layers):
            for branch in (layer.self_attn.o_proj, layer.mlp.down_proj):
                branch.weight *= 8 * (1.0 if index < KEPT else SHARE)
    student.load_state_dict({k: v for k, v in teacher.state_dict().items() if k in student.state_dict()})
    return student.eval(), teacher.eval()


def prompts(rows: int) -> tuple[Tensor, Tensor]:
    """Left-padded prompts of 9 to 16 tokens, and their mask."""
    tokens = torch.randint(3, 4096, (rows, 16), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(16) >= (torch.arange(rows) % 8)[:, None]
    return tokens * mask, mask.long()


def figures(quick: bool) -> list[Figure]:
    """The three ratios."""
    student, teacher = pair()
    tokens, mask = prompts(8)

    def interleaved(gamma: int, draws: torch.Generator, rows: slice = slice(0, 1)) -> Interleaved:
        options = {"max_new_tokens": TOKENS, "generator": draws, "top_k": TOP_K, "gamma": gamma}
        return interleave(student, teacher, tokens[rows], mask[rows], **options)

    def blocks() -> Interleaved:
        return interleaved(GAMMA, seeded())

    def every_token() -> Interleaved:
        return interleaved(1, seeded())

    def taught() -> Generated:
        options = {"max_new_tokens": TOKENS, "generator": seeded(), "sampler": TEACHER}
        return generate(teacher, tokens[:1], mask[:1], **options)

    def batch() -> Interleaved:
        return interleaved(GAMMA, seeded(), slice(0, 8))

    def one_by_one() -> list[Interleaved]:
        draws = seeded()
        return [interleaved(GAMMA, draws, slice(row, row + 1)) for row in range(8)]

    for name, found in (("one row", blocks()), ("8 rows", batch())):
        print(name, {key: round(value, 3) for key, value in found.statistics.as_dict().items()})
        assert found.statistics.acceptance_rate >= ACCEPTED
    assert torch.equal(blocks().tokens, every_token().tokens)
    assert torch.equal(batch().tokens, torch.cat([found.tokens for found in one_by_one()]))
    measured = partial(compare, better="higher", warmup=0, budget=6 if quick else 30)
    return [
        measured("speculative_sampling/blocks", blocks, every_token, goal=2.0, pairs=8),
        measured("speculative_sampling/teacher", blocks, taught, goal=2.0, pairs=8),
        measured("speculative_sampling/batch_8", batch, one_by_one, goal=3.0, pairs=4),
    ]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


if __name__ == "__main__":
    finish(figures(arguments(__doc__).quick))
