"""Glyph-100 from the fonts that matplotlib brings; needs FriBidi (Debian: libfribidi0), as .ci/run installs it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont, features

from limbeck.cli.data import glyph100 as command
from limbeck.data import Data, DataConfig, load
from limbeck.data.glyph100 import CHARACTERS, Glyphs, _usable, build, save
from limbeck.errors import DataError

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
NEEDED = ("DejaVuSans.ttf", "DejaVuSerif-Bold.ttf", "STIXGeneral.ttf", "STIXGeneralItalic.ttf", "cmr10.ttf",
          "cmtt10.ttf", "cmss10.ttf")  # fmt: skip


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fonts")
    for name in NEEDED:
        shutil.copy(FONTS / name, folder)
    (folder / "broken.ttf").write_bytes(b"no font")
    return folder


@pytest.fixture(scope="module")
def made(fonts: Path) -> Glyphs:
    assert features.check("raqm"), "install libfribidi0: without it Pillow cannot draw this data set"
    return build(fonts)


def test_families_are_split_by_their_hash_and_never_on_both_sides(made: Glyphs) -> None:
    assert set(made.families) == {"DejaVu", "STIXGeneral", "cmr10", "cmss10", "cmtt10"}
    for index, family in enumerate(made.families):
        tested = int(hashlib.md5(family.encode()).hexdigest(), 16) % 5 == 0
        assert (made.test[made.family == index] == tested).all()
    assert made.faces == 7
    assert not set(made.family[made.test]) & set(made.family[~made.test])
    assert [Path(file).name for file in made.unreadable] == ["broken.ttf"]


def test_pictures_are_those_that_pillow_draws(made: Glyphs) -> None:
    """An independent drawing: the glyph's mask pasted at the place where its anchor says."""
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 100
    font = ImageFont.truetype(str(FONTS / "DejaVuSans.ttf"), 24)
    for character in "A_gß":
        expected = Image.new("L", (32, 32))
        ImageDraw.Draw(expected).text((16, 22), character, 255, font, anchor="ms")
        same = (made.x == np.asarray(expected)).all((1, 2)) & (made.y == CHARACTERS.index(character))
        assert same.sum() == 1
    ink = np.asarray([made.x[made.y == CHARACTERS.index(c)].max(0).any(1).nonzero()[0] for c in "x"])
    assert ink.max() <= 22  # an x stands on its baseline


def test_placeholders_and_empty_pictures_are_left_out(made: Glyphs) -> None:
    assert ((made.x > 64).sum((1, 2)) >= 6).all()
    for family in ("cmr10", "cmtt10", "cmss10"):  # one face each
        pictures = made.x[made.family == made.families.index(family)]
        assert np.unique(pictures, axis=0, return_counts=True)[1].max() < 3
    assert (np.bincount(made.y, minlength=100)[:94] >= 5).all()


def test_a_face_must_draw_most_of_ascii() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (100, 32, 32), dtype=np.uint8)
    missing = pictures[99].copy()
    pictures[:14] = 0
    pictures[20:23], pictures[30:32] = pictures[20], pictures[30]
    kept = _usable(pictures, missing).tolist()
    assert kept == [*range(14, 20), *range(23, 99)]  # empty, used for three, and missing are left out
    pictures[14] = 64
    assert not len(_usable(pictures, missing))  # 79 of 94


def test_the_content_depends_on_the_fonts_alone(made: Glyphs, fonts: Path, tmp_path: Path) -> None:
    (tmp_path / "z").mkdir()
    (tmp_path / "a").mkdir()
    for index, name in enumerate(reversed(NEEDED)):
        shutil.copy(fonts / name, tmp_path / ("z" if index % 2 else "a") / name)
    shutil.copy(fonts / "cmr10.ttf", tmp_path / "again.TTF")  # the same face twice counts once
    again = build(tmp_path)
    assert again.content == made.content
    (tmp_path / "a" / NEEDED[-2]).unlink(missing_ok=True)
    (tmp_path / "z" / NEEDED[-2]).unlink(missing_ok=True)
    assert build(tmp_path).content != made.content


def test_the_command_writes_a_file_that_loads(
    made: Glyphs, fonts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "glyphs.npz"
    command(fonts, out)
    printed = capsys.readouterr().out
    assert f"sha256 {made.content}" in printed
    assert f"images: {len(made.y)} = {int((~made.test).sum())} train" in printed
    with np.load(out) as file:
        assert str(file["sha256"]) == made.content
        assert "FreeType" in str(file["made_with"])
    first = out.read_bytes()
    save(made, out)
    assert out.read_bytes() == first
    data = load(DataConfig(name="glyph100", path=str(out), validation=0.35))
    assert (data.name, data.size, data.channels, data.classes) == ("glyph100", (32, 32), 1, tuple(CHARACTERS))
    assert len(data.test) == made.test.sum()
    train = np.unique(made.family[~made.test])
    whole = [
        family
        for family in train
        if np.array_equal(made.x[made.family == family], data.validation.images[:, 0])  # type: ignore[attr-defined]
    ]
    assert len(whole) == 1
    rest = ~made.test & (made.family != whole[0])
    assert np.array_equal(made.x[rest], data.train.images[:, 0])  # type: ignore[attr-defined]
    assert np.array_equal(made.y[rest], data.train.labels)


def test_a_file_without_families_holds_single_pictures_out(made: Glyphs, tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", X=made.x, Y=made.y, te=made.test)

    def read(seed: int) -> Data:
        return load(DataConfig(name="glyph100", path=str(tmp_path / "old.npz"), split_seed=seed))

    assert len(read(0).validation) == round(0.1 * (~made.test).sum())
    assert not torch.equal(read(0).validation.images, read(1).validation.images)  # type: ignore[attr-defined]
    assert read(0).classes == tuple(CHARACTERS)


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"there is no file .*limbeck data glyph100 --fonts"):
        load(DataConfig(name="glyph100", path=str(tmp_path / "none.npz")))
    with pytest.raises(DataError, match="there is no folder"):
        build(tmp_path / "none")
    with pytest.raises(DataError, match="holds no usable font"):
        build(tmp_path)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(DataError, match="libfribidi0"):
        build(tmp_path)
