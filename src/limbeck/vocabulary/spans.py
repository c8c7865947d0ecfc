"""Where each token of a tokenised text lies, in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .tokens import Ids, Role, Vocabulary


@dataclass(frozen=True, eq=False)
class Spans:
    """Byte offsets and roles of the tokens of one text.

    Attributes:
        bounds: first byte and the byte after the last of each token, ``(T, 2)``, in non-decreasing order.
        roles: :class:`Role` of each token, ``(T,)``.
    """

    bounds: NDArray[np.int64]
    roles: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.bounds)

    def moved(self, by: int) -> Spans:
        """The same tokens with offsets counted from elsewhere, such as the start of the answer."""
        return Spans(self.bounds + by, self.roles)


def encode(
    vocabulary: Vocabulary, text: str, *, special_tokens: bool = True
) -> tuple[NDArray[np.int64], Spans]:
    """Tokenise a text and locate its tokens.

    Args:
        vocabulary: the tokenizer's vocabulary.
        text: any text.
        special_tokens: add what the tokenizer adds by itself, such as BOS.

    Returns:
        Ids ``(T,)`` and spans, see :func:`locate`.

    Example:
        >>> from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        >>> from limbeck.vocabulary import read
        >>> tokenizer = Tokenizer(models.BPE({"a": 0, "Ġ": 1, "b": 2, "Ġb": 3}, [("Ġ", "b")]))
        >>> tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        >>> ids, spans = encode(read(tokenizer), "a  b")
        >>> ids.tolist(), spans.bounds.tolist()
        ([0, 1, 3], [[0, 1], [1, 2], [2, 4]])
    """
    tokenizer: Any = vocabulary.tokenizer
    if hasattr(tokenizer, "backend_tokenizer"):  # calling it resets truncation and padding of earlier calls
        found = tokenizer(
            text,
            add_special_tokens=special_tokens,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        ids, characters = found["input_ids"], found["offset_mapping"]
        inserted = found["special_tokens_mask"]
    else:
        found = tokenizer.encode(text, add_special_tokens=special_tokens)
        ids, characters, inserted = found.ids, found.offsets, found.special_tokens_mask
    ids = np.asarray(ids, np.int64)
    return ids, locate(vocabulary, text, ids, characters=characters, inserted=inserted)


def spell(vocabulary: Vocabulary, ids: Ids) -> tuple[bytes, Spans]:
    """The bytes that ids stand for, and where each id lies in them: for generated text.

    Control tokens (BOS, EOS, PAD, unknown) take no bytes.

    Returns:
        The bytes and the spans.
    """
    pieces = vocabulary.bytes_of(ids)
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    starts = ends - np.array([len(piece) for piece in pieces], np.int64)
    return b"".join(pieces), Spans(np.stack([starts, ends], 1), vocabulary.roles[np.asarray(ids, np.int64)])


def locate(
    vocabulary: Vocabulary,
    text: str,
    ids: Ids,
    *,
    characters: Sequence[tuple[int, int]] | None = None,
    inserted: Sequence[int] | None = None,
) -> Spans:
    """Byte offsets of tokens in the text that they are of.

    Where the tokens spell the text byte by byte their lengths are the offsets; a space that the tokenizer put
    before the text (SentencePiece's dummy prefix) takes no byte. Where they do not (WordPiece, normalised or
    unknown characters) the tokenizer's character offsets are used: bytes between two tokens belong to the
    second, and several tokens of one character share out its bytes.

    Args:
        vocabulary: the tokenizer's vocabulary.
        text: the text, or a longer one that begins with it.
        ids: ``(T,)``.
        characters: the tokenizer's ``offset_mapping``; needed for texts that the tokens do not spell exactly.
        inserted: the tokenizer's ``special_tokens_mask``: 1 where a token is not of the text. Without it
            special tokens that do not stand in the text are taken as inserted.

    Raises:
        DataError: the tokens do not spell the text and no character offsets are given.

    Source:
        Byte offsets as GOLD of TRL uses them for alignment (1.16.0, ``_align_by_byte_offsets``).
    """
    index = np.asarray(ids, np.int64)
    data = text.encode()
    bounds = _walk(vocabulary, data, index.tolist(), inserted)
    if bounds is None:
        if characters is None:
            raise DataError(
                f"tokens of {vocabulary.name!r} do not spell the text that they are said to be of",
                fix="pass the tokenizer's offset_mapping as characters, or the text that was tokenised",
            )
        bounds = _from_characters(vocabulary, text, data, index.tolist(), characters, inserted)
    return Spans(np.array(bounds, np.int64).reshape(-1, 2), vocabulary.roles[index])


def _walk(
    vocabulary: Vocabulary, data: bytes, ids: list[int], inserted: Sequence[int] | None
) -> list[tuple[int, int]] | None:
    """Offsets from the tokens' own lengths; nothing where they do not spell the text."""
    special = vocabulary.roles[ids] != Role.TEXT if ids else np.zeros(0, np.bool_)
    bounds: list[tuple[int, int]] = []
    position, i, first = 0, 0, True
    while i < len(ids):
        if special[i]:
            content = vocabulary.tokens[ids[i]].encode()
            absent = inserted[i] if inserted is not None else not data.startswith(content, position)
            if vocabulary.roles[ids[i]] == Role.UNK and not data.startswith(content, position):
                return None
            end = position if absent else position + len(content)
            if not absent and not data.startswith(content, position):
                return None
            bounds.append((position, end))
            position, i = end, i + 1
            continue
        j = i
        while j < len(ids) and not special[j]:
            j += 1
        pieces = [vocabulary.pieces[k] for k in ids[i:j]]
        joined = b"".join(pieces)
        exact = data.startswith(joined, position)
        dummy = joined[:1] == b" " and data.startswith(joined[1:], position)
        if not exact and not dummy:
            return None
        offset = -1 if dummy and (not exact or (vocabulary.prepends and first)) else 0
        for piece in pieces:
            end = position + len(piece) + offset
            bounds.append((position, end))
            position, offset = end, offset if not piece else 0
        i, first = j, False
    return bounds


def _from_characters(
    vocabulary: Vocabulary,
    text: str,
    data: bytes,
    ids: list[int],
    characters: Sequence[tuple[int, int]],
    inserted: Sequence[int] | None,
) -> list[tuple[int, int]]:
    """Offsets from the tokenizer's character offsets."""
    sizes = [len(c.encode()) for c in text]
    byte = [0, *np.cumsum(sizes).tolist()]
    bounds: list[tuple[int, int]] = []
    cluster: list[int] = []
    begin = end = 0

    def close() -> None:
        nonlocal begin, cluster
        bounds.extend(_shared_out(data[begin:end], begin, [vocabulary.pieces[ids[k]] for k in cluster]))
        begin, cluster = end, []

    for k, (a, b) in enumerate(characters):
        absent = inserted[k] if inserted is not None else a == b and vocabulary.roles[ids[k]] != Role.TEXT
        if absent:
            close()
            bounds.append((end, end))
            continue
        if cluster and byte[a] >= end:
            close()
        cluster.append(k)
        end = max(end, byte[b])
    close()
    return bounds


def _shared_out(data: bytes, begin: int, pieces: list[bytes]) -> list[tuple[int, int]]:
    """Cut the bytes that several tokens share: by their own lengths, every token but the last leaving some."""
    lengths = [len(piece) for piece in pieces]
    joined = b"".join(pieces)
    if joined[:1] == b" " and joined[1:] == data:
        lengths[next(k for k, n in enumerate(lengths) if n)] -= 1
    bounds, position = [], 0
    for k, length in enumerate(lengths):
        left = len(pieces) - 1 - k
        end = len(data) if not left else max(position, min(position + length, len(data) - left))
        bounds.append((begin + position, begin + end))
        position = end
    return bounds
