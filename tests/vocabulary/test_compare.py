"""How two vocabularies relate."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tests.running import environment
from tests.vocabulary.trained import BUILDERS, byte_level, vocabulary, wrapped

from limbeck.errors import ConfigError
from limbeck.vocabulary import Role, compare, read, require_same

everyone = pytest.mark.parametrize("teacher", BUILDERS)


@pytest.mark.parametrize("name", BUILDERS)
def test_itself(name):
    known = vocabulary(name)
    relation = compare(known, known)
    assert relation.kind == "same"
    assert relation.prefix == len(known)
    assert torch.equal(relation.student_ids, relation.teacher_ids)
    assert relation.student_fraction == relation.teacher_fraction == 1
    assert require_same(relation, method="kd", alternatives=["uld"]) == len(known)
    assert "share their first" in str(relation)


def test_padded_heads_share_a_prefix():
    student, teacher = vocabulary("gpt2"), read(BUILDERS["gpt2"]())
    relation = compare(student, teacher, student_head=512, teacher_head=640)
    assert (relation.kind, relation.prefix) == ("same", 500)
    assert compare(student, teacher, student_head=450).prefix == 450


def test_added_tokens_at_the_end_are_named():
    tokenizer = BUILDERS["gpt2"]()
    tokenizer.add_tokens(["<tool>", "</tool>"])
    relation = compare(vocabulary("gpt2"), read(tokenizer), student_head=512, teacher_head=512)
    assert (relation.kind, relation.prefix) == ("same", 500)
    assert relation.only_teacher == ("<tool>", "</tool>")
    assert relation.only_student == ()
    assert compare(read(tokenizer), vocabulary("gpt2")).only_student == ("<tool>", "</tool>")


def test_a_longer_vocabulary_that_begins_alike_is_another():
    short, long = (
        read(wrapped(byte_level(size), str(size), eos_token="<|endoftext|>")) for size in (300, 400)
    )
    assert short.tokens == long.tokens[:300]
    relation = compare(short, long)
    assert relation.kind == "different"
    assert relation.prefix == 300
    assert relation.student_fraction == 1
    assert relation.teacher_fraction == 0.75


@pytest.mark.parametrize("student", BUILDERS)
@everyone
def test_shared_entries_are_the_same_bytes(student, teacher):
    s, t = vocabulary(student), vocabulary(teacher)
    relation = compare(s, t)
    assert relation.kind == ("same" if student == teacher else "different")
    for i, j in zip(relation.student_ids.tolist(), relation.teacher_ids.tolist()):
        assert s.pieces[i] == t.pieces[j]
        if s.roles[i] == Role.TEXT:
            assert s.pieces[i]
    assert relation.student_ids.unique().tolist() == relation.student_ids.tolist()
    assert len(relation.teacher_ids.unique()) == len(relation.teacher_ids)
    assert relation.student_fraction == pytest.approx(len(relation.student_ids) / len(s))
    pairs = set(zip(relation.student_ids.tolist(), relation.teacher_ids.tolist()))
    for role in ("eos", "bos", "pad"):
        a, b = getattr(s, role), getattr(t, role)
        assert a is None or b is None or (a, b) in pairs
    if student == teacher:
        return
    every = {p for k, p in enumerate(s.pieces) if s.roles[k] == Role.TEXT} & set(t.pieces) - {b""}
    assert sum(s.roles[i] == Role.TEXT for i in relation.student_ids) == len(every)
    backward = compare(t, s)
    assert set(zip(backward.teacher_ids.tolist(), backward.student_ids.tolist())) == pairs


def test_words_that_begin_with_a_space_are_shared():
    """Raw strings share none of them, so published token maps drop most predictions that begin a word."""
    s, t = vocabulary("gpt2"), vocabulary("llama")
    relation = compare(s, t)
    to_student = relation.to_student(len(t))
    at = t.tokens.index("▁the")
    assert s.tokens[to_student[at]] == "Ġthe"
    assert "Ġthe" not in t.tokens
    assert s.tokens[to_student[t.tokens.index("é")]] == "Ã©"
    assert to_student[t.eos] == s.eos
    assert to_student[t.unk] == -1
    assert len(relation.to_student(10)) == 10


def test_an_ordinary_token_goes_before_its_byte():
    s, t = vocabulary("gpt2"), vocabulary("llama")
    to_student = compare(s, t).to_student(len(t))
    assert s.tokens[to_student[t.tokens.index("a")]] == "a"
    assert to_student[t.tokens.index("<0x61>")] == -1
    assert to_student[t.tokens.index("<0xF0>")] >= 0


def test_entries_beyond_a_head_are_not_shared():
    relation = compare(vocabulary("gpt2"), vocabulary("llama"), student_head=300, teacher_head=290)
    assert relation.student_ids.max() < 300
    assert relation.teacher_ids.max() < 290


def test_one_refusal_says_all():
    relation = compare(vocabulary("gpt2"), vocabulary("llama"))
    with pytest.raises(ConfigError) as refusal:
        require_same(relation, method="gkd", alternatives=["uld", "dskd"])
    text = str(refusal.value)
    for words in (
        "gkd needs one vocabulary",
        "'gpt2' (byte-level, 500 tokens)",
        "'llama' (metaspace, 800 tokens)",
    ):
        assert words in text
    assert "id 0 is '<|endoftext|>' and '<unk>'" in text
    assert "entries are shared" in text
    assert text.endswith("Fix: use a method for two vocabularies: uld, dskd")
    assert "they share" in str(relation)


def test_a_head_without_columns_is_refused():
    with pytest.raises(ConfigError, match="student_head is not valid; got 0"):
        compare(vocabulary("gpt2"), vocabulary("gpt2"), student_head=0)


def test_importing_asks_for_no_tokenizer_library():
    code = (
        "import sys, limbeck, limbeck.vocabulary as v; "
        "print(sorted({'transformers', 'tokenizers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
