"""Bytes and roles of tokens, and where they lie in a text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vocabulary.trained import BUILDERS, LOSSLESS, TEXTS, byte_level, vocabulary, wrapped
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from limbeck.errors import ConfigError, DataError
from limbeck.vocabulary import Role, encode, locate, read, spell

texts = st.one_of(
    st.text(max_size=40),
    st.text("ab \n\té中😀e\u0301ﬁ", max_size=30),
    st.lists(st.sampled_from(TEXTS), max_size=3).map(" ".join),
)
every = pytest.mark.parametrize("name", BUILDERS)


def contiguous(spans, size):
    """Each token begins where the one before ended."""
    ends = np.concatenate([[0], spans.bounds[:, 1]])
    assert (spans.bounds[:, 0] == ends[:-1]).all()
    assert (np.diff(ends) >= 0).all()
    assert ends[-1] <= size


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=60)
@given(text=texts)
def test_offsets_partition_the_bytes(name, text):
    data = text.encode()
    known = vocabulary(name)
    ids, spans = encode(known, text)
    contiguous(spans, len(data))
    assert len(spans) == len(ids)
    if len(ids) and (known.unk is None or known.unk not in ids):
        assert spans.bounds[-1, 1] == len(data)
        first = True
        for (a, b), piece, role in zip(spans.bounds, known.bytes_of(ids), spans.roles):
            if role != Role.TEXT:
                assert a == b
            elif first and known.prepends:
                assert b" " + data[a:b] == piece
                first = False
            else:
                assert data[a:b] == piece


@every
@settings(max_examples=40)
@given(text=texts)
def test_offsets_are_contiguous_whatever_the_tokenizer_does(name, text):
    ids, spans = encode(vocabulary(name), text)
    assert len(ids) == len(spans)
    contiguous(spans, len(text.encode()))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma", "roberta"])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_what_the_tokenizer_decodes(name, text):
    known = vocabulary(name)
    ids = known.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    data, spans = spell(known, ids)
    expected = (b" " if known.prepends and text else b"") + text.encode()
    assert data == expected or (name == "roberta" and data == b" " + text.encode())
    contiguous(spans, len(data))
    assert b"".join(data[a:b] for a, b in spans.bounds) == data


@every
def test_character_offsets_lead_to_the_same_place_as_lengths(name):
    known = vocabulary(name)
    for text in TEXTS:
        ids, spans = encode(known, text)
        found = known.tokenizer(text, return_offsets_mapping=True)
        again = locate(known, text, ids, characters=found["offset_mapping"])
        assert (again.bounds == spans.bounds).all()


@pytest.mark.parametrize(
    ("name", "token", "piece"),
    [
        ("gpt2", "Ġthe", b" the"),
        ("gpt2", "ĉ", b"\t"),
        ("gpt2", "Ã©", "é".encode()),
        ("gpt2", "ð", b"\xf0"),
        ("llama", "▁the", b" the"),
        ("llama", "<0xF0>", b"\xf0"),
        ("llama", "▁", b" "),
        ("gemma", "<0x0A>", b"\n"),
        ("bert", "the", b" the"),
        ("bert", "##s", b"s"),
        ("bert", ",", b","),
        ("bert", "中", "中".encode()),
        ("llama", "<s>", b""),
        ("bert", "[SEP]", b""),
    ],
)
def test_bytes_of_a_token(name, token, piece):
    known = vocabulary(name)
    assert known.pieces[known.tokens.index(token)] == piece


def test_roles():
    llama, bert = vocabulary("llama"), vocabulary("bert")
    assert [llama.roles[i] for i in (llama.bos, llama.eos, llama.unk)] == [Role.BOS, Role.EOS, Role.UNK]
    assert [bert.roles[i] for i in (bert.pad, bert.eos)] == [Role.PAD, Role.EOS]
    assert llama.pad is None
    assert (vocabulary("gpt2").roles != Role.TEXT).sum() == 2


def test_one_token_in_several_roles_is_the_end():
    known = read(
        wrapped(
            byte_level(300), "x", **dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
        )
    )
    assert known.bos == known.eos == known.pad == 0
    assert known.roles[0] == Role.EOS


def test_dummy_prefix_takes_no_byte():
    known = vocabulary("llama")
    _, spans = encode(known, "the data", special_tokens=False)
    assert spans.bounds[:, 0].min() == 0
    assert spans.bounds[-1, 1] == 8
    for text in (" the", "  the", "the"):
        _, spans = encode(known, text, special_tokens=False)
        assert spans.bounds[0, 0] == 0
        assert spans.bounds[-1, 1] == len(text)


def test_a_truncated_text_and_a_second_prefix():
    known = vocabulary("llama")
    text = "the  data</s>of the 😀"
    ids, spans = encode(known, text)
    data = text.encode()
    place = ids.tolist().index(known.eos)
    assert data[slice(*spans.bounds[place])] == b"</s>"
    assert spans.bounds[-1, 1] == len(data)
    for size in range(len(ids)):
        assert (locate(known, text, ids[:size]).bounds == spans.bounds[:size]).all()


def test_earlier_truncation_and_padding_do_not_matter():
    tokenizer = BUILDERS["gpt2"]()
    tokenizer("the data of the", truncation=True, max_length=2, padding="max_length")
    ids, _ = encode(read(tokenizer), "the data of the data")
    assert ids.tolist() == vocabulary("gpt2").tokenizer("the data of the data")["input_ids"]


def test_normalised_characters_keep_their_place():
    text = "cafe\u0301 café"
    _, spans = encode(vocabulary("qwen"), text)
    assert spans.bounds[-1, 1] == len(text.encode())
    _, spans = encode(vocabulary("bert"), text)
    assert [text.encode()[a:b].decode() for a, b in spans.bounds if b > a] == ["cafe", "\u0301 café"]


def test_unknown_characters_are_located():
    known = read(wrapped(_words(), "words", unk_token="[UNK]"))
    _, spans = encode(known, "the 中文 data")
    assert spans.roles.tolist() == [Role.TEXT, Role.UNK, Role.TEXT]
    assert spans.bounds.tolist() == [[0, 3], [3, 10], [10, 15]]


def _words():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "data": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_added_tokens_are_text_unless_special():
    tokenizer = BUILDERS["gpt2"]()
    tokenizer.add_tokens([AddedToken("<tööl>", special=False), AddedToken("<|call|>", special=True)])
    known = read(tokenizer)
    assert known.pieces[-2:] == ("<tööl>".encode(), b"")
    assert known.roles[-2:].tolist() == [Role.TEXT, Role.SPECIAL]
    assert known.added.sum() == 4
    text = "a<tööl>b<|call|>"
    ids, spans = encode(known, text)
    data = text.encode()
    assert [data[a:b].decode() for a, b in spans.bounds] == ["a", "<tööl>", "b", "<|call|>"]
    assert spell(known, ids)[0] == "a<tööl>b".encode()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma", "qwen", "roberta"])
def test_text_that_looks_like_tokens(name):
    """SentencePiece reads ``▁`` as a space; the token still lies where the character is."""
    text = "a ▁ of ▁▁the <unk> and </s>, <0x41> or ##s Ġthe"
    known, data = vocabulary(name), text.encode()
    ids, spans = encode(known, text)
    contiguous(spans, len(data))
    assert spans.bounds[-1, 1] == len(data)
    cut = [data[a:b] for a, b in spans.bounds]
    assert b"".join(cut) == data
    if name in ("llama", "gemma"):
        marked = [piece for piece, found in zip(known.bytes_of(ids), cut) if "▁".encode() in found]
        assert marked
        assert all(b" " in piece for piece in marked)


def test_special_tokens_may_take_the_space_before_them():
    tokenizer = BUILDERS["roberta"]()
    tokenizer.add_tokens([AddedToken("<mask>", special=True, lstrip=True)])
    _, spans = encode(read(tokenizer), "the  <mask> data")
    assert spans.bounds[-2:].tolist() == [[3, 11], [11, 16]]


def test_words_with_an_end():
    """CLIP and GPT-1 mark the end of a word, not its beginning."""
    tokens = {"t": 0, "h": 1, "e</w>": 2, "th": 3, "the</w>": 4, "!</w>": 5}
    model = models.BPE(tokens, [("t", "h"), ("th", "e</w>")], end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    known = read(tokenizer)
    assert known.style == "plain"
    assert known.pieces[4] == b"the"
    assert encode(known, "the the !")[1].bounds.tolist() == [[0, 3], [3, 7], [7, 9]]


def test_styles_are_found_inside_sequences():
    tokenizer = byte_level(300)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.ByteLevel(use_regex=False)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Fuse()])
    assert read(tokenizer).style == "byte_level"


def test_a_bare_tokenizer_of_the_tokenizers_library():
    known = read(byte_level(300), name="mine")
    _, spans = encode(known, "the 中")
    assert known.name == "mine"
    assert spans.bounds[-1, 1] == 7
    assert len(known) == 300
    assert known.eos is None


def test_tokens_of_another_text_are_refused():
    known = vocabulary("gpt2")
    ids, _ = encode(known, "the data")
    with pytest.raises(DataError, match="do not spell the text"):
        locate(known, "another", ids)


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="fast tokenizer; got object"):
        read(object())


def test_no_text():
    ids, spans = encode(vocabulary("gpt2"), "")
    assert len(ids) == len(spans) == 0
    assert spell(vocabulary("gpt2"), ids)[0] == b""
