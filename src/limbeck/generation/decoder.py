"""A causal language model with its keys and values, for several texts of unlike length."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..errors import ConfigError, ModelError

OTHER_STATES = ("conv_states", "recurrent_states", "indexer_keys")
"""Attributes of cache layers that hold what cannot be cut at a token."""


class Decoder:
    """Texts, and a model's keys and values for **all but the last token** of each.

    The cache is at rest when a text's keys fill the last columns and what is left of them is padding. A call
    of ``feed`` therefore is an ordinary left-padded batch to the model: the two-dimensional attention mask
    hides the padding, a row's own positions count from its first token, and keys lie side by side in the
    order of the text. What a row was fed beyond its end comes after its real tokens, so that causality
    hides it from them, and ``keep`` then removes it: the rejected part of a draft and the filling of short
    drafts are rolled back row by row by moving what stays to the right. Nothing is left behind in the cache.

    Args:
        model: called with ``input_ids``, ``attention_mask``, ``position_ids``, ``past_key_values`` (or
            ``cache``, where ``forward`` has that) and ``use_cache``, it gives ``logits`` and the cache by the
            same name: a causal language model of transformers, or one like it. Its cache is an object with
            ``layers`` that have ``keys`` and ``values``, or pairs of those, of shape
            ``(rows, heads, tokens, width)``.
        prompts: token ids ``(B, P)``, padded on the left.
        mask: ``(B, P)``, False where there is padding.
        room: tokens that a text may grow by.

    Raises:
        ConfigError: prompt and room exceed the model's positions.
        ModelError: the cache is of a kind that cannot be rolled back (sliding windows that dropped tokens,
            recurrent states).
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Int[Tensor, "rows prompt"],
        mask: Bool[Tensor, "rows prompt"],
        room: int,
    ) -> None:
        self.model, self.name = model, cache_name(model)
        self.cache: Any = None
        self.width = 0
        self.filled = torch.zeros(len(prompts), dtype=torch.long, device=prompts.device)
        longest = int(mask.sum(1).max())
        self.last_position = longest + room - 1
        limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        if limit is not None and longest + room > limit:
            raise ConfigError(
                "the texts would be longer than the model's positions",
                got=f"a prompt of {longest} and {room} new tokens",
                expected=f"at most {limit} together",
                fix="lower max_new_tokens, or cut the prompts",
            )
        if longest > 1:
            self.filled = mask.sum(1) - 1
            known = inspect.signature(model.forward).parameters
            few = {"logits_to_keep": 1} if "logits_to_keep" in known else {}  # none of them is looked at
            self._call(prompts[:, -longest:-1], mask[:, -longest:-1], **few)
            self.width = longest - 1

    def feed(self, tokens: Int[Tensor, "rows block"]) -> Float[Tensor, "rows block vocabulary"]:
        """Append the same number of tokens to every text; the logits of the tokens after each."""
        columns = torch.arange(self.width + tokens.shape[1], device=tokens.device)
        logits = self._call(tokens, columns >= self.width - self.filled[:, None])
        self.width += tokens.shape[1]
        self.filled = self.filled + tokens.shape[1]
        return logits

    def keep(self, rows: Int[Tensor, kept], lengths: Int[Tensor, kept]) -> None:
        """Go on with some of the rows, in this order, each cut to its first tokens.

        Args:
            rows: indices of the rows.
            lengths: tokens of each that stay in the cache, at most what it was fed.
        """
        if not len(rows):
            self.cache, self.width, self.filled = None, 0, lengths
            return
        width = int(lengths.max())
        shifts = self.width - self.filled[rows] - (width - lengths)
        in_order = torch.arange(len(self.filled), device=rows.device)
        everything = len(rows) == len(in_order) and bool((rows == in_order).all())
        first = int(shifts[0])
        together = bool((shifts == first).all())
        columns = (torch.arange(width, device=rows.device) + shifts[:, None]).clamp_(min=0)

        def moved(x: Tensor) -> Tensor:
            if together:
                x = x if everything else x[rows.to(x.device)]
                return x[:, :, first : first + width]
            return x.transpose(1, 2)[rows[:, None].to(x.device), columns.to(x.device)].transpose(1, 2)

        if not (everything and together and first == 0 and width == self.width):
            self.cache = _mapped(self.cache, moved, width)
        self.width, self.filled = width, lengths

    def _call(self, tokens: Tensor, mask: Tensor, **more: Any) -> Tensor:
        """The model on a block; checks that its cache has grown by the block."""
        block = tokens.shape[1]
        ends = mask.sum(1, keepdim=True)
        positions = ends - block + torch.arange(block, device=tokens.device)
        found = self.model(
            input_ids=tokens,
            attention_mask=mask.long(),
            position_ids=positions.clamp_(0, self.last_position),
            use_cache=True,
            **{self.name: self.cache},
            **more,
        )
        self.cache = getattr(found, self.name)
        _check(self.cache, mask.shape[1])
        return found.logits  # type: ignore[no-any-return]


def cache_name(model: nn.Module) -> str:
    """What a model calls the keys and values that it takes and gives; transformers renamed them in 5.24.

    Example:
        >>> cache_name(nn.Identity())
        'past_key_values'
    """
    inner = getattr(model, "get_base_model", lambda: model)()  # an adapter's own signature says nothing
    return "cache" if "cache" in inspect.signature(inner.forward).parameters else "past_key_values"


def vocabulary(*models: nn.Module) -> int | None:
    """The number of token ids that all of these models know, where their configurations say it.

    Networks of a family pad the same vocabulary to unlike sizes; the ids beyond the smallest are padding.

    Example:
        >>> vocabulary(nn.Identity()) is None
        True
    """
    configs = [getattr(model, "config", None) for model in models]
    sizes = [getattr(config, "vocab_size", None) for config in configs]
    return min((size for size in sizes if size is not None), default=None)


def _check(cache: Any, width: int) -> None:
    """Refuse a cache that does not hold one key per token and layer."""
    for index, layer in enumerate(getattr(cache, "layers", ())):
        others = [name for name in OTHER_STATES if getattr(layer, name, None) is not None]
        if others:
            raise _unusable(f"layer {index} with {others[0]}")
    pairs = _pairs(cache)
    if not pairs:
        raise _unusable(type(cache).__name__)
    for index, (keys, values) in enumerate(pairs):
        for x in (keys, values):
            if x.dim() != 4 or x.shape[2] != width:
                raise _unusable(f"layer {index} with shape {tuple(x.shape)} after {width} tokens")


def _unusable(what: str) -> ModelError:
    return ModelError(
        "the model's cache cannot be cut token by token",
        got=what,
        expected="keys and values of every token, (rows, heads, tokens, width)",
        fix="use a model with full attention, or texts shorter than its sliding window",
    )


def _pairs(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of all layers that have their own."""
    if isinstance(cache, (tuple, list)):
        return [(pair[0], pair[1]) for pair in cache]
    if hasattr(cache, "layers"):
        return [(x.keys, x.values) for x in cache.layers if getattr(x, "keys", None) is not None]
    if hasattr(cache, "key_cache"):
        return list(zip(cache.key_cache, cache.value_cache))
    return []


def _mapped(cache: Any, move: Any, width: int) -> Any:
    """The cache with each of its tensors moved; objects of transformers are changed in place."""
    if cache is None:
        return None
    if isinstance(cache, (tuple, list)):
        return tuple((move(keys), move(values)) for keys, values in _pairs(cache))
    if hasattr(cache, "layers"):
        for layer in cache.layers:
            if getattr(layer, "keys", None) is not None:
                layer.keys, layer.values = move(layer.keys), move(layer.values)
                if hasattr(layer, "cumulative_length"):
                    layer.cumulative_length = width
        return cache
    cache.key_cache, cache.value_cache = ([move(x) for x in side] for side in zip(*_pairs(cache)))
    if hasattr(cache, "_seen_tokens"):
        cache._seen_tokens = width
    return cache
