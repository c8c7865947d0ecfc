"""Prompts and what was written after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Generated:
    """Prompts with their responses.

    Attributes:
        tokens: ids ``(B, L)``: padding and the prompt, the response, padding. L is the prompts' width and the
            longest response.
        mask: ``(B, L)``, False where there is padding: the attention mask.
        response: ``(B, L)``, True where a token was generated (an end-of-text token is one of them).
        lengths: tokens of each response, ``(B,)``.
    """

    tokens: Int[Tensor, "rows length"]
    mask: Bool[Tensor, "rows length"]
    response: Bool[Tensor, "rows length"]
    lengths: Int[Tensor, rows]


class Texts:
    """Texts in the making: prompts that end in one column, and room for the responses.

    Args:
        prompts: ids ``(B, P)``, padded on the left, one token at least in every row.
        mask: ``(B, P)``, 0 where there is padding.
        room: tokens of the longest response.
        eos: id or ids of tokens that end a text; ``None``: only its length does.
        pad: id that fills up.

    Raises:
        ShapeError: prompts and mask do not fit, or the padding is not on the left.
        ConfigError: ``room`` is below 1.
    """

    def __init__(
        self, prompts: Tensor, mask: Tensor, *, room: int, eos: int | Sequence[int] | None, pad: int
    ) -> None:
        if room < 1:
            raise ConfigError("max_new_tokens is not valid", got=room, expected="a number of at least 1")
        self.prompts, self.mask = prompts, _left_padded(prompts, mask)
        self.room, self.start = room, prompts.shape[1]
        filling = torch.full((len(prompts), room), pad, dtype=torch.long, device=prompts.device)
        self.tokens = torch.cat([prompts.long(), filling], 1)
        self.lengths = torch.zeros(len(prompts), dtype=torch.long, device=prompts.device)
        ends = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        self.ends = torch.tensor(ends, dtype=torch.long, device=prompts.device)

    def last(self, rows: Int[Tensor, some]) -> Int[Tensor, some]:
        """The last token of each of these texts."""
        return self.tokens[rows, self.start + self.lengths[rows] - 1]

    def write(
        self, rows: Int[Tensor, some], tokens: Int[Tensor, "some block"], counts: Int[Tensor, some]
    ) -> None:
        """Append the first so many tokens of each row."""
        columns = torch.arange(tokens.shape[1], device=tokens.device)
        taken = columns < counts[:, None]
        places = self.start + self.lengths[rows][:, None] + columns
        self.tokens[rows[:, None].expand_as(taken)[taken], places[taken]] = tokens[taken]
        self.lengths[rows] += counts

    def ending(self, tokens: Int[Tensor, "*any"]) -> Bool[Tensor, "*any"]:
        """Which of these tokens end a text."""
        return torch.isin(tokens, self.ends)

    def going(self, rows: Int[Tensor, some]) -> Bool[Tensor, some]:
        """Which of these texts have not ended."""
        return (self.lengths[rows] < self.room) & ~self.ending(self.last(rows))

    def generated(self) -> Generated:
        """Everything written so far, without columns that no row needs."""
        longest = int(self.lengths.max())
        written = torch.arange(longest, device=self.tokens.device) < self.lengths[:, None]
        return Generated(
            tokens=self.tokens[:, : self.start + longest],
            mask=torch.cat([self.mask, written], 1),
            response=torch.cat([torch.zeros_like(self.mask), written], 1),
            lengths=self.lengths,
        )


def _left_padded(prompts: Tensor, mask: Tensor) -> Tensor:
    if prompts.dim() != 2 or prompts.shape != mask.shape or not prompts.numel():
        raise ShapeError(
            "prompts and their mask do not fit",
            got=f"prompts {tuple(prompts.shape)}, mask {tuple(mask.shape)}",
            expected="(B, P) for both, one token at least",
        )
    found = mask.bool()
    wrong = (~found[:, -1]) | (found[:, :-1] & ~found[:, 1:]).any(1)
    if bool(wrong.any()):
        raise ShapeError(
            "prompts are not padded on the left",
            got=f"the mask of row {int(wrong.nonzero()[0])}",
            expected="zeros, then ones up to the last column",
            fix="set tokenizer.padding_side = 'left', and leave out empty prompts",
        )
    return found
