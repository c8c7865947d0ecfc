"""Descriptions of Debian's packages: a corpus for language models, and long texts with their synopses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from . import corpora
from .corpora import Corpus, Row

SIZES = {"bpe": 2048, "unigram": 4096}
"""Entries of the two tokenizers."""
TOKENIZED = 8000
"""Training texts that the tokenizers are trained on."""
ASK = "\nSynopsis: "
"""Stands between a long text and its synopsis."""


def entries(index: Path) -> Iterator[tuple[str, list[str]]]:
    """Synopsis and paragraphs of every description of a ``Translation-en`` index.

    Raises:
        DataError: it cannot be read.
    """
    try:
        text = index.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {index}: {error}",
            expected="a Translation-en index as plain text",
            fix="unpack it: /usr/lib/apt/apt-helper cat-file INDEX.lz4 > Translation-en",
        ) from None
    for entry in text.split("\n\n"):
        _, found, description = entry.partition("\nDescription-en: ")
        if not found:
            continue
        synopsis, _, long = description.partition("\n")
        long = re.split(r"\n(?! )", long)[0]
        parts = [" ".join(part.split()) for part in re.split(r"\n \.(?=\n|$)", "\n" + long)]
        yield synopsis.strip(), [part for part in parts if part]


def read(index: Path, *, characters: int) -> tuple[dict[str, Row], dict[str, Row]]:
    """Pairs (``prompt``, ``response``) and texts (``text``) by their first paragraph.

    Packages that share a first paragraph (a library, its documentation, its symbols) are one entry, the first of the
    index, so that no text of train comes back in test. Descriptions with other than printable ASCII are left out.

    Args:
        index: as ``entries``.
        characters: of the longest long text of a pair; longer ones are cut between words.

    Raises:
        DataError: it cannot be read, or holds no description.
    """
    pairs: dict[str, Row] = {}
    whole: dict[str, Row] = {}
    for synopsis, paragraphs in entries(index):
        if not synopsis or not paragraphs or paragraphs[0] in whole:
            continue
        long = " ".join(paragraphs)
        if not corpora.printable(synopsis + long):
            continue
        whole[paragraphs[0]] = {"text": long}
        if len(long) > characters:
            long = long[: characters + 1].rpartition(" ")[0] or long[:characters]
        pairs[paragraphs[0]] = {"prompt": long + ASK, "response": synopsis}
    if not whole:
        raise DataError(
            f"{index} holds no description", expected="entries with Description-en", fix="check --index"
        )
    return pairs, whole


def build(index: Path, folder: Path, *, held_out: int = 500, characters: int = 160) -> tuple[Corpus, Corpus]:
    """Write ``synopsis/`` and ``text/`` with the same packages in each split, and the tokenizers of both.

    Args:
        index: as ``entries``.
        folder: where it goes.
        held_out: packages of test, and of validation.
        characters: as ``read``.

    Raises:
        DataError: as ``read``, or too few descriptions.
        DependencyError: tokenizers is not installed.
    """
    pairs, whole = (corpora.split(rows, held_out=held_out) for rows in read(index, characters=characters))
    lines = [line for corpus in (pairs, whole) for line in corpora.texts(corpus, TOKENIZED)]
    for name, corpus in (("synopsis", pairs), ("text", whole)):
        corpora.save(corpus, folder / name)
    corpora.byte_bpe(lines, SIZES["bpe"]).save(str(folder / "bpe.json"))
    corpora.unigram(lines, SIZES["unigram"]).save(str(folder / "unigram.json"))
    corpora.manifest(
        folder,
        name="debian",
        source_sha256=hashlib.sha256(index.read_bytes()).hexdigest(),
        content_sha256={"synopsis": pairs.content, "text": whole.content},
        samples={name: len(rows) for name, rows in pairs._asdict().items()},
        characters=characters,
        tokenizers=SIZES,
    )
    return pairs, whole
