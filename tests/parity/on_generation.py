"""Adapters of what is sampled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limbeck.generation import Sampler, accept, accepted_prefix

Tensors = dict[str, Tensor]


def _accept(inputs: Tensors, params: Tensors, hyper: dict[str, Any]) -> Tensors:
    """One block of SKD.

    Their student's logits are one-hot, so that the fresh draw that they test is the drafted token. The teacher's
    first token has all of the mass, so its draw is that token. Where the draft has ended and is accepted as a
    whole, they take one off the count of matches and return the whole draft nevertheless.
    """
    gamma = hyper["gamma"]
    drafts, logits = inputs["candidate_input_ids"][:, -gamma:], inputs["teacher_logits"][:, :gamma]
    rule = {"top_k": hyper["teacher_k"]} if hyper["teacher_k"] else {"top_p": hyper["teacher_p"]}
    kept = int(accepted_prefix(accept(drafts, logits, **rule)))
    text = drafts[:, :kept]
    if kept < gamma:
        replacement = Sampler().draw(logits[:, kept], torch.Generator().manual_seed(0))
        text = torch.cat([text, replacement[:, None]], 1)
    ended = hyper["is_done_candidate"] and kept == gamma
    return {"valid_tokens": text, "n_matches": torch.tensor(kept - ended)}


SAMPLED = {"skd.accept": _accept}
