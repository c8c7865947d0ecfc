"""What each token of a tokenizer stands for: its exact bytes and its role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from ._styles import Style, byte_of, literal, parts, piece, style_of

Ids = Sequence[int] | NDArray[np.int64] | Tensor
"""Ids of the tokens of one sequence, ``(T,)``; a tensor is on the CPU."""


class Role(IntEnum):
    """What a token is for; only ``TEXT`` spells something."""

    TEXT = 0
    BOS = 1
    EOS = 2
    PAD = 3
    UNK = 4
    SPECIAL = 5


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of one tokenizer by id, as :func:`read` finds them.

    Attributes:
        name: name or path of the tokenizer.
        style: how its tokens spell text.
        tokens: the raw token strings; ids that no token has are empty.
        pieces: the bytes of each token in running text, spaces included. ``b""`` for control tokens.
        roles: :class:`Role` of each id, ``(V,)``.
        added: which ids were added to the model's own vocabulary or belong to no token, ``(V,)``.
        fallback: which ids are raw bytes ``<0xAB>``, ``(V,)``.
        bos: id of the token that begins a text.
        eos: id of the token that ends a text.
        pad: id of the token that fills a batch.
        unk: id of the token for what the vocabulary cannot spell.
        prepends: the tokenizer puts a space before every text.
        tokenizer: the tokenizer itself.
    """

    name: str
    style: Style
    tokens: tuple[str, ...]
    pieces: tuple[bytes, ...]
    roles: NDArray[np.int8]
    added: NDArray[np.bool_]
    fallback: NDArray[np.bool_]
    bos: int | None
    eos: int | None
    pad: int | None
    unk: int | None
    prepends: bool
    tokenizer: Any = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    def bytes_of(self, ids: Ids) -> list[bytes]:
        """The bytes of each token."""
        return [self.pieces[i] for i in np.asarray(ids, np.int64).tolist()]

    def __str__(self) -> str:
        return f"{self.name!r} ({self.style.replace('_', '-')}, {len(self):,} tokens)"


def read(tokenizer: Any, *, name: str | None = None) -> Vocabulary:
    r"""Find the bytes and the role of every token of a fast tokenizer.

    ============ =========================================================== ============================
    ``byte_level`` GPT-2, Qwen, Llama-3: each byte is written as a character ``Ġthe`` is ``b" the"``
    ``metaspace``  SentencePiece: Llama-2, Mistral, Gemma, T5                ``▁the`` is ``b" the"``,
                                                                             ``<0xE2>`` is ``b"\xe2"``
    ``wordpiece``  BERT: no spaces; a token that begins a word gets one      ``the`` is ``b" the"``,
                                                                             ``##s`` is ``b"s"``
    ``plain``      anything else: the token as it is written
    ============ =========================================================== ============================

    Args:
        tokenizer: a fast tokenizer of transformers, or a ``tokenizers.Tokenizer`` (which knows no roles but
            special or not).
        name: what to call it in messages; by default ``tokenizer.name_or_path``.

    Raises:
        ConfigError: the tokenizer is not a fast one.

    Source:
        The decoders of the tokenizers library. Reading tokens as bytes mends two faults of published token
        alignments: token strings of unlike styles never match outside ASCII, and stripped space markers let
        ``a b`` match ``ab``.

    Example:
        >>> from tokenizers import Tokenizer, decoders, models
        >>> tokenizer = Tokenizer(models.BPE({"Ġthe": 0, "Ã©": 1}, []))
        >>> tokenizer.decoder = decoders.ByteLevel()
        >>> read(tokenizer).pieces
        (b' the', b'\xc3\xa9')
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "get_added_tokens_decoder"):
        raise ConfigError(
            "the bytes of tokens can only be read from a fast tokenizer",
            got=type(tokenizer).__name__,
            fix="load it with AutoTokenizer.from_pretrained(..., use_fast=True)",
        )
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = [""] * (max(vocabulary.values(), default=-1) + 1)
    for token, i in vocabulary.items():
        tokens[i] = token
    style, bytewise = style_of(backend)
    prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    suffix = getattr(backend.model, "end_of_word_suffix", None) or ""
    pieces = [piece(token, style, prefix, suffix) for token in tokens]
    roles, fallback = np.zeros(len(tokens), np.int8), np.zeros(len(tokens), np.bool_)
    added = np.array([not token for token in tokens], np.bool_)
    if bytewise:
        for i, token in enumerate(tokens):
            if (byte := byte_of(token)) is not None:
                pieces[i], fallback[i] = byte, True
    for i, extra in backend.get_added_tokens_decoder().items():
        added[i] = True
        if fallback[i]:
            continue
        pieces[i] = b"" if extra.special else literal(extra.content, style)
        roles[i] = Role.SPECIAL if extra.special else Role.TEXT
    known = {word: getattr(tokenizer, f"{word}_token_id", None) for word in ("unk", "pad", "bos", "eos")}
    if known["unk"] is None:
        unk = getattr(backend.model, "unk_token", None)
        known["unk"] = vocabulary.get(unk) if unk else getattr(backend.model, "unk_id", None)
    for word, i in known.items():
        if i is not None and i < len(tokens):
            pieces[i], roles[i] = b"", Role[word.upper()]
    return Vocabulary(
        name=name or getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__,
        style=style,
        tokens=tuple(tokens),
        pieces=tuple(pieces),
        roles=roles,
        added=added,
        fallback=fallback,
        prepends=any(part["type"] == "Prepend" for part in parts(backend.normalizer)),
        tokenizer=tokenizer,
        **known,
    )
