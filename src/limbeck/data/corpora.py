"""Text corpora on disk: three splits as JSON lines, tokenizers of their own, and a hash of it all."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, DependencyError
from ..files import write_json, write_text

Row = dict[str, str]
END = "<eos>"
"""The only special token of tokenizers made here."""


class Corpus(NamedTuple):
    """Rows of three splits, as ``limbeck.data.text`` reads them.

    Attributes:
        train, validation, test: rows, in an order that a hash of their keys decides.
    """

    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    test: tuple[Row, ...]

    @property
    def content(self) -> str:
        """SHA-256 of all rows in their order."""
        found = hashlib.sha256()
        for name, rows in self._asdict().items():
            found.update(name.encode() + _lines(rows).encode())
        return found.hexdigest()


def split(rows: Mapping[str, Row], *, held_out: int, train: int | None = None) -> Corpus:
    """Cut rows in the order of the MD5 of their keys: the first ``held_out`` are test, as many validation.

    The order is as good as random and the same everywhere, and the first n rows of train are a fair sample of it.

    Args:
        rows: row by key; what must not stand in two splits has one key.
        held_out: rows of test, and of validation.
        train: most rows of train.

    Raises:
        DataError: too few rows.

    Example:
        >>> made = split({word: {"text": word} for word in "abcdef"}, held_out=1)
        >>> len(made.train), len(made.validation), len(made.test)
        (4, 1, 1)
    """
    order = sorted(rows, key=lambda key: (hashlib.md5(key.encode()).digest(), key))
    if len(order) < 2 * held_out + 1:
        raise DataError(
            "too few samples for three splits", got=len(order), expected=f"more than {2 * held_out}",
            fix="lower --held-out, or check the source",
        )  # fmt: skip
    kept = [rows[key] for key in order]
    end = None if train is None else 2 * held_out + train
    return Corpus(
        tuple(kept[2 * held_out : end]), tuple(kept[held_out : 2 * held_out]), tuple(kept[:held_out])
    )


def save(corpus: Corpus, folder: Path) -> None:
    """Write ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in corpus._asdict().items():
        write_text(folder / f"{name}.jsonl", _lines(rows))


def manifest(folder: Path, **facts: Any) -> None:
    """Write where a corpus is from and what it holds as ``corpus.json``."""
    write_json(folder / "corpus.json", facts)


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def texts(corpus: Corpus, rows: int) -> list[str]:
    """Every field of the first training rows, to train tokenizers on."""
    return [text for row in corpus.train[:rows] for text in row.values()]


def byte_bpe(lines: Iterable[str], size: int) -> Any:
    """A byte-level BPE, cut at words, in the manner of GPT-2; it can spell anything.

    Raises:
        DependencyError: tokenizers is not installed.
    """
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def unigram(lines: Iterable[str], size: int, *, spanning: bool = False) -> Any:
    """A unigram model in the manner of SentencePiece; ``▁`` is a space.

    Characters that ``lines`` lack cannot be spelled.

    Args:
        lines: texts to train on.
        size: entries of the vocabulary.
        spanning: pieces may span words, which makes training slow: a few thousand short lines will do.

    Raises:
        DependencyError: tokenizers is not installed.
    """
    library = _library()
    tokenizer = library.Tokenizer(library.models.Unigram())
    tokenizer.pre_tokenizer = library.pre_tokenizers.Metaspace(prepend_scheme="never", split=not spanning)
    tokenizer.decoder = library.decoders.Metaspace(prepend_scheme="never", split=not spanning)
    trainer = library.trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=[END, "<unk>"],
        unk_token="<unk>",
        max_piece_length=12,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DependencyError("corpora need tokenizers", fix="pip install 'limbeck[llm]'") from None
    return tokenizers


def source_text(path: Path, inside: str) -> str:
    """A text file, or the text file at ``inside`` in a zip archive such as a wheel.

    Raises:
        DataError: there is none.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.read(inside).decode("utf-8")
        return path.read_text(encoding="utf-8")
    except KeyError:
        raise DataError(f"{path} holds no {inside}", fix="give the right archive") from None
    except (OSError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}", fix="check the path") from None


def printable(text: str) -> bool:
    """Whether all characters are printable ASCII or line ends."""
    return re.fullmatch(r"[ -~\n]*", text) is not None
