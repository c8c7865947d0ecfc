"""How tokens of each style are written."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Literal

Style = Literal["byte_level", "metaspace", "wordpiece", "plain"]

MARKER = "▁"
"""Stands for a space in SentencePiece vocabularies."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def parts(component: Any) -> list[dict[str, Any]]:
    """The settings of a normaliser, pre-tokeniser or decoder, sequences unfolded."""
    if component is None:
        return []
    whole = json.loads(component.__getstate__())
    found = []
    stack = [whole]
    while stack:
        part = stack.pop()
        inner = [x for key in ("normalizers", "pretokenizers", "decoders") for x in part.get(key, [])]
        stack.extend(inner)
        if not inner:
            found.append(part)
    return found


def style_of(backend: Any) -> tuple[Style, bool]:
    """How the tokens are written, and whether ``<0xAB>`` are bytes."""
    decoder, normalizer = parts(backend.decoder), parts(backend.normalizer)
    all_parts = decoder + parts(backend.pre_tokenizer) + normalizer
    types = {part["type"] for part in all_parts}
    bytewise = "ByteFallback" in types or bool(getattr(backend.model, "byte_fallback", False))
    if "ByteLevel" in types:
        return "byte_level", bytewise
    if "WordPiece" in types or type(backend.model).__name__ == "WordPiece":
        return "wordpiece", bytewise
    replaces = [part for part in all_parts if part["type"] == "Replace"]
    marked = any(MARKER in (part["content"], part["pattern"].get("String")) for part in replaces)
    return ("metaspace" if marked or "Metaspace" in types else "plain"), bytewise


def byte_of(token: str) -> bytes | None:
    """The byte that a byte-fallback token ``<0xAB>`` is."""
    found = _BYTE.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else None


def _table() -> dict[int, int]:
    """From the characters of byte-level tokens to bytes: printable ones are themselves, the rest from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: b for b in printable} | {256 + k: b for k, b in enumerate(others)}


_FROM_CHARACTER = _table()


def piece(token: str, style: Style, prefix: str, suffix: str) -> bytes:
    """The bytes of an ordinary token."""
    if suffix:
        token = token.removesuffix(suffix)
    if style == "byte_level":
        try:
            return bytes([_FROM_CHARACTER[ord(c)] for c in token])
        except KeyError:
            return token.encode()
    if style == "wordpiece":
        if prefix and token.startswith(prefix):
            return token[len(prefix) :].encode()
        return token.encode() if _stands_alone(token) else b" " + token.encode()
    return literal(token, style)


def literal(token: str, style: Style) -> bytes:
    """The bytes of a token that is written as it is."""
    return (token.replace(MARKER, " ") if style == "metaspace" else token).encode()


def _stands_alone(token: str) -> bool:
    """Whether a WordPiece pre-tokeniser cuts this out of a word: punctuation, ideographs."""
    if len(token) != 1:
        return False
    ascii_symbol = token.isascii() and not token.isalnum()
    return ascii_symbol or unicodedata.category(token)[0] == "P" or "CJK" in unicodedata.name(token, "")
