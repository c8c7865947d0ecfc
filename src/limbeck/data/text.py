"""Text to learn from: prompts with responses, as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import DataError, DependencyError
from ..shapes import IGNORE
from ..signals import Batch
from .config import Data, DataConfig
from .loader import Loader
from .packing import packed
from .rows import SPLITS, drawn, read_rows, splits_of
from .streams import generator

if TYPE_CHECKING:
    from .bilingual import Reader

ENDS = ("<eos>", "</s>", "<|endoftext|>", "<|im_end|>", "<end_of_turn>")
"""Tokens taken for the end where a tokenizer does not name one."""


@dataclass(frozen=True)
class TextData(Data):
    """Token splits, and the tokenizer that made them. ``classes`` are the entries of the vocabulary by id.

    Attributes:
        tokenizer: a fast tokenizer of transformers.
    """

    tokenizer: Any = None


class TokenSplit:
    """Samples of unlike lengths: inputs, and labels already shifted.

    Args:
        samples: ``(ids, labels)`` of each, one number longer than what a model is fed: position i of the inputs
            is labelled with the token at i + 1. Labels of the prompt are -100.
        name: what messages call it.
        texts: prompt and response of each, for generation.
        raw: the lines that they are from, which another tokenizer may write in another way.

    Raises:
        DataError: no sample.
    """

    def __init__(
        self,
        samples: Sequence[tuple[Tensor, Tensor]],
        name: str,
        texts: Sequence[tuple[str, str]] = (),
        raw: Sequence[Any] = (),
    ) -> None:
        if not samples:
            raise DataError(f"the {name} split is empty", expected="at least one sample with a response")
        for ids, labels in samples:
            assert len(ids) == len(labels) > 1
        self.name, self.texts, self.raw = name, tuple(texts), tuple(raw)
        self.inputs = [ids[:-1] for ids, _ in samples]
        self.targets = [labels[1:] for _, labels in samples]
        self.counts = torch.tensor([int((t != IGNORE).sum()) for t in self.targets])

    @property
    def labels(self) -> Tensor:
        """The labels of all tokens, one sample after another."""
        return torch.cat(self.targets)

    def __len__(self) -> int:
        return len(self.inputs)

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels ``(b, L)``, padded on the right with token 0 and label -100."""
        if not len(ids):
            return torch.zeros(0, 1, dtype=torch.long), torch.zeros(0, 1, dtype=torch.long)
        chosen = ids.tolist()
        return (
            pad_sequence([self.inputs[i] for i in chosen], batch_first=True),
            pad_sequence([self.targets[i] for i in chosen], batch_first=True, padding_value=IGNORE),
        )

    def subset(self, ids: Tensor) -> TokenSplit:
        """The split of these samples only."""
        found = object.__new__(TokenSplit)
        found.name, chosen = self.name, ids.tolist()
        found.inputs, found.targets = [self.inputs[i] for i in chosen], [self.targets[i] for i in chosen]
        found.texts = tuple(self.texts[i] for i in chosen) if self.texts else ()
        found.raw = tuple(self.raw[i] for i in chosen) if self.raw else ()
        found.counts = self.counts[ids]
        return found

    def pair(self, i: int, tokenizer: Any) -> tuple[str, str]:
        """Prompt and response of a sample as another tokenizer's chat template writes them."""
        return _pair(self.raw[i], tokenizer, f"sample {i} of {self.name}") if self.raw else self.texts[i]

    def relabelled(self, labels: Tensor) -> TokenSplit:
        """Refused: tokens are their own labels."""
        raise DataError("text has no class labels to change", fix="leave noise out")


class TokenViews:
    """The samples of a split as batches; text is not augmented.

    Args:
        split: the samples.
        reader: reads them with the teacher's tokenizer, where that is another one.
        room: tokens of a row that training samples share; None: a row for each.
    """

    def __init__(self, split: TokenSplit, reader: Reader | None = None, room: int | None = None) -> None:
        self.split, self.reader, self.room = split, reader, room

    def batch(self, ids: Tensor, epoch: int) -> Batch:
        """Samples by id."""
        if self.room is not None and len(ids):
            inputs, targets = ([x[i] for i in ids.tolist()] for x in (self.split.inputs, self.split.targets))
            return packed(inputs, targets, ids, epoch, self.room)
        return self._each(ids, epoch)

    def _each(self, ids: Tensor, epoch: int) -> Batch:
        inputs, labels = self.split.fetch(ids)
        reading = None if self.reader is None else self.reader.batch(self.split, ids)
        return Batch(inputs, labels, ids, epoch, reading=reading)

    def plain(self, ids: Tensor) -> Batch:
        """The same for evaluation."""
        return self._each(ids, 0)

    def plan(self, epoch: int) -> None:
        """Nothing is drawn."""


class TokenLoader(Loader):
    """A loader whose batches know how many supervised tokens all processes see in a step, per process."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        split: Any = self.views.split
        plans = self.batches(epoch)[start:]
        for batch, whole in zip(super().epoch(epoch, start), plans, strict=True):
            batch.items = max(float(split.counts[whole].sum()), 1.0) / self.world
            yield batch


def text(config: DataConfig) -> TextData:
    """Rows of ``{"prompt", "response"}``, ``{"messages"}`` or ``{"text"}`` from files, and a tokenizer.

    Where rows may come from says ``limbeck.data.rows.read_rows``. Loss is on responses and their end token only, or
    on all of a ``text``. Of ``messages``, the loss is on the last one, which must be the assistant's.

    Raises:
        DataError: files or fields are missing, or nothing is left to learn from.
        DependencyError: transformers is not installed.
    """
    if config.path is None or config.tokenizer is None:
        raise DataError(
            "data.name=text needs data.path and data.tokenizer",
            expected="JSON lines, and a tokenizer: a folder, a tokenizer.json, or a name on the hub",
        )
    tokenizer = read_tokenizer(config.tokenizer)
    return _tokenised(read_rows(config), config, tokenizer, Path(config.path).stem)


def text_from(data: Any, config: DataConfig) -> TextData:
    """The same from a ``datasets.Dataset`` or ``DatasetDict`` at hand; missing splits are drawn from the training rows.

    Args:
        data: columns ``prompt`` and ``response``, ``messages``, or ``text``.
        config: tokenizer, length, shares of the draws; its path is not looked at.

    Raises:
        DataError: no tokenizer, no training rows, or columns are missing.
    """
    if config.tokenizer is None:
        raise DataError(
            "text needs data.tokenizer", expected="a folder, a tokenizer.json, or a name on the hub"
        )
    if not hasattr(data, "column_names"):
        raise DataError(
            "this is no text", got=type(data).__name__, expected="a datasets.Dataset or DatasetDict"
        )
    return _tokenised(drawn(splits_of(data), config), config, read_tokenizer(config.tokenizer), "text")


def _tokenised(rows: dict[str, list[Any]], config: DataConfig, tokenizer: Any, title: str) -> TextData:
    dropped = dict.fromkeys(rows, 0)
    splits = {}
    for name, found in rows.items():
        wanted = config.train_size if name == "train" else None
        if wanted is not None and wanted < len(found):  # drawn here, so that the rest need not be tokenised
            order = generator("train_size", config.split_seed).permutation(len(found))
            found = [found[i] for i in sorted(order[:wanted])]
        pairs = [_pair(row, tokenizer, f"line {i + 1} of {name}") for i, row in enumerate(found)]
        samples = encode_all(tokenizer, pairs, config.length)
        kept = [i for i, sample in enumerate(samples) if sample is not None]
        dropped[name] = len(samples) - len(kept)
        splits[name] = TokenSplit(
            [s for s in samples if s is not None], name, [pairs[i] for i in kept], [found[i] for i in kept]
        )
    entries = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    classes = ["<unused>"] * (entries[-1][1] + 1)
    for token, i in entries:
        classes[i] = token
    changes = {"left_out_without_response": dropped} if any(dropped.values()) else {}
    train, validation, test = (splits[name] for name in SPLITS)
    return TextData(
        title, train, validation, test, tuple(classes), 0, (0, 0), (), (), changes, tokenizer
    )  # fmt: skip


def read_tokenizer(name: str) -> Any:
    """A fast tokenizer from a ``tokenizer.json``, a folder, or a name on the hub.

    Raises:
        DependencyError: transformers is not installed.
        DataError: it cannot be read, or has no end token.
    """
    try:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast
    except ImportError:
        raise DependencyError("text needs transformers", fix="pip install 'limbeck[llm]'") from None
    tokenizer: Any
    if name.endswith(".json") and not Path(name).is_file():
        raise DataError(f"no tokenizer file {name}", fix="check data.tokenizer")
    try:
        if name.endswith(".json"):
            fast: Any = PreTrainedTokenizerFast
            tokenizer = fast(tokenizer_file=name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise DataError(
            f"cannot read the tokenizer {name}",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            fix="check data.tokenizer",
        ) from None
    if tokenizer.eos_token_id is None:
        for token in ENDS:
            if token in tokenizer.get_vocab():
                tokenizer.eos_token = token
                return tokenizer
        raise DataError(
            f"the tokenizer {name} has no end token",
            expected=f"one of {', '.join(ENDS)}",
            fix="save it as a folder whose tokenizer_config.json names eos_token",
        )
    return tokenizer


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a prompt, after the tokenizer's start token if it has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [*start, *(tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else [])]


def encode(tokenizer: Any, prompt: str, response: str, length: int) -> tuple[Tensor, Tensor] | None:
    """Token ids and labels of a sample, cut to ``length``; None where no token of the response is left.

    Prompt and response are tokenised apart, so that the border is the same however the response begins.
    """
    return encode_all(tokenizer, [(prompt, response)], length)[0]


def encode_all(
    tokenizer: Any, pairs: Sequence[tuple[str, str]], length: int
) -> list[tuple[Tensor, Tensor] | None]:
    """``encode`` of many pairs of prompt and response, several times faster than one by one."""
    if not pairs:
        return []
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    prompts, responses = (
        tokenizer([pair[i] for pair in pairs], add_special_tokens=False)["input_ids"] for i in (0, 1)
    )
    return [
        _sample([*start, *before], [*after, tokenizer.eos_token_id], length)
        for before, after in zip(prompts, responses, strict=True)
    ]


def _sample(before: list[int], after: list[int], length: int) -> tuple[Tensor, Tensor] | None:
    ids = torch.tensor([*before, *after][: length + 1])
    labels = ids.clone()
    labels[: len(before)] = IGNORE
    return None if len(ids) < 2 or not bool((labels[1:] != IGNORE).any()) else (ids, labels)


def _pair(row: Any, tokenizer: Any, where: str) -> tuple[str, str]:
    """Prompt and response of a row."""
    keys = set(row) if isinstance(row, dict) else set()
    if {"prompt", "response"} <= keys and all(isinstance(row[k], str) for k in ("prompt", "response")):
        return row["prompt"], row["response"]
    if "text" in keys and isinstance(row["text"], str):
        return "", row["text"]
    if "messages" in keys and row["messages"] and row["messages"][-1].get("role") == "assistant":
        *before, last = row["messages"]
        try:
            prompt = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        except Exception as error:
            raise DataError(
                f"{where}: the tokenizer cannot write messages as text", got=str(error).splitlines()[0],
                fix="take a tokenizer with a chat template, or give prompt and response",
            ) from None  # fmt: skip
        return prompt, last["content"]
    raise DataError(
        f"{where} is no sample",
        got=", ".join(sorted(keys)) or type(row).__name__,
        expected="prompt and response, text, or messages whose last one is the assistant's",
    )
