"""Small tokenizers of every style, trained on text that a package ships."""

from __future__ import annotations

import json
from functools import cache

import sklearn.datasets
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from limbeck.vocabulary import Vocabulary, read

TEXTS = [
    "a plain sentence of the data",
    "two  spaces,   three, and a tab\there\nand a line",
    "\n\n\tstarts with white space and ends with it \n ",
    "Ünïcödé naïve café déjà vu — “quotes” … €5",
    "emoji 😀 family 👩‍👩‍👧‍👦 flags 🇩🇪🇫🇷!",
    "中文分词 and English, 日本語 と 한국어",
    "cafe\u0301 is not caf\u00e9 in bytes",
    "def f(x):\n    return {'a b': [1, 22, 333]}\n",
    " ",
    "",
    "ab a b  ab",
    "x" * 70 + "ß" * 3,
]


@cache
def corpus() -> tuple[str, ...]:
    loaders = (
        sklearn.datasets.load_iris,
        sklearn.datasets.load_wine,
        sklearn.datasets.load_breast_cancer,
        sklearn.datasets.load_diabetes,
        sklearn.datasets.load_digits,
        sklearn.datasets.load_linnerud,
    )
    lines = [line for load in loaders for line in load().DESCR.splitlines(keepends=True)]
    return (*lines, *(TEXTS * 3))


def wrapped(tokenizer: Tokenizer, name: str, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, name_or_path=name, **special)


def byte_level(
    size: int, *, prefix: bool = False, normalizer: str = "", eos: str = "<|endoftext|>"
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer == "NFC":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[eos, "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def llama_like(size: int) -> Tokenizer:
    """BPE with a dummy prefix, byte fallback and BOS, as Llama-2."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    controls = ["<unk>", "<s>", "</s>"]
    raw = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=controls + raw, show_progress=False, limit_alphabet=90
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = state["added_tokens"][:3]
    state["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def gemma_like(size: int) -> Tokenizer:
    """Unigram with byte fallback and without dummy prefix."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    state = json.loads(tokenizer.to_str())
    pieces = state["model"]["vocab"]
    pieces = [p for p in pieces if len(p[0]) != 1 or p[0].isascii() or p[0] == "▁"]
    state["model"]["vocab"] = pieces + [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    state["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def t5_like(size: int) -> Tokenizer:
    """Unigram that normalises, joins spaces and knows nothing of bytes."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus()[:-20], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def bert_like(size: int, *, lowercase: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


BUILDERS = {
    "gpt2": lambda: wrapped(byte_level(500), "gpt2", eos_token="<|endoftext|>", pad_token="<|pad|>"),
    "qwen": lambda: wrapped(
        byte_level(900, normalizer="NFC", eos="<|im_end|>"), "qwen", eos_token="<|im_end|>"
    ),
    "roberta": lambda: wrapped(byte_level(700, prefix=True, eos="</s>"), "roberta", eos_token="</s>"),
    "llama": lambda: wrapped(llama_like(800), "llama", bos_token="<s>", eos_token="</s>", unk_token="<unk>"),
    "gemma": lambda: wrapped(
        gemma_like(700), "gemma", bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    ),
    "t5": lambda: wrapped(t5_like(400), "t5", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"),
    "bert": lambda: wrapped(
        bert_like(600), "bert", bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    ),
}
"""One tokenizer of each style."""

LOSSLESS = ("gpt2", "llama", "gemma")
"""Those whose tokens spell any text byte by byte (llama and gemma after a dummy prefix or none)."""


@cache
def vocabulary(name: str) -> Vocabulary:
    return read(BUILDERS[name]())
