"""Bayesian teachers of other packages, by what they give."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .base import Posterior

Gives = Literal["logits", "probabilities"]


class Foreign(Posterior):
    """Any object whose answer holds several predictions for each input.

    Read by what the object does, without importing its package:

    - it has ``predictive_samples(x, n_samples=S)`` (laplace-torch): probabilities ``(S, B, K)``;
    - it gives ``(S, B, K)``;
    - it gives ``(S B, K)``, samples stacked on the batch axis, the first B rows those of the first sample
      (torch-uncertainty in evaluation mode);
    - it gives ``(B, K)``: called once for each sample, with a random stream of its own.

    Args:
        source: a module, or another callable.
        gives: what its answer is; of ``predictive_samples`` always probabilities.
        samples: how many are averaged; of objects that give a fixed number, at most.

    Raises:
        ModelError: at the first call, where the answer has none of these shapes.

    Example:
        >>> class Two(nn.Module):
        ...     def forward(self, x):
        ...         return torch.cat([x, 2 * x])
        >>> Foreign(Two(), samples=2).sample_proba(torch.eye(3), 2).shape
        torch.Size([2, 3, 3])
    """

    def __init__(self, source: Any, *, gives: Gives = "logits", samples: int = 16) -> None:
        inner = source if isinstance(source, nn.Module) else getattr(source, "model", None)
        super().__init__(inner if isinstance(inner, nn.Module) else nn.Identity(), samples)
        self.source = [source]  # no submodule: its weights may be no module's
        self.gives = gives

    def sample_log_proba(self, x: Tensor, samples: int, temperature: float = 1.0) -> Tensor:
        if samples == 0:
            raise ModelError("a teacher of another package has no mean network", fix="set samples above 0")
        source, probabilities = self.source[0], self.gives == "probabilities"
        with self._stream(0):
            if sampler := getattr(source, "predictive_samples", None):
                found, probabilities = sampler(x, n_samples=samples), True
            else:
                found = source(x)
        if not isinstance(found, Tensor) or found.dim() not in (2, 3):
            raise ModelError(
                "the teacher gives no predictions",
                got=tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__,
                expected="(S, B, K), (S B, K) or (B, K)",
            )
        if found.dim() == 2 and len(found) == len(x):
            again = [found]
            for number in range(1, samples):
                with self._stream(number):
                    again.append(source(x))
            found = torch.stack(again)
        elif found.dim() == 2:
            if len(found) % len(x):
                raise ModelError(
                    "the teacher's rows are no multiple of the batch",
                    got=len(found),
                    expected=f"S x {len(x)}",
                )
            found = found.view(-1, len(x), found.shape[1])
        elif found.shape[1] != len(x):
            raise ModelError(
                "the teacher's samples stand on another axis", got=tuple(found.shape), expected="(S, B, K)"
            )
        found = found[:samples].float()
        if probabilities:
            found = found.clamp(min=torch.finfo(found.dtype).tiny).log()
        return (found / temperature).log_softmax(2)

    def learn(self, x: Tensor) -> Tensor:
        raise ModelError("a teacher of another package is not trained here")
