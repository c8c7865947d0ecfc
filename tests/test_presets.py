"""The presets of the published tables train, shortened, on generated files in CIFAR's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck import models
from limbeck.config import read
from limbeck.errors import LimbeckError
from limbeck.methods import METHODS
from limbeck.study.config import StudyConfig, narrow, read_study
from limbeck.study.grid import Grid
from limbeck.training.checkpoint import save_weights
from limbeck.training.session import execute
from tests.data.test_cifar import archive, cifar100_files
from tests.running import ROOT

pytestmark = pytest.mark.slow

SHORT = [
    "base.train.epochs=1",
    "base.train.batch_size=8",
    "base.train.guards=warn",  # these teachers have learned nothing
    "base.train.log_every=1",
    "base.train.clip=1.0",  # what teachers that have learned nothing ask for knows no bound
    "base.latency=false",
    "base.data.train_size=16",
    "seeds=[0]",
]
"""What is left of a preset: two steps, on everything else as it is."""

SAME, CROSS, VIEWS = "cifar100-same", "cifar100-cross", "cifar100-mlkd"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar")
    archive(folder / "cifar-100-python.tar.gz", "cifar-100-python", cifar100_files(50, 8, present=4))
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that a teacher is trained once."""
    return tmp_path_factory.mktemp("studies")


def shortened(preset: str, output: Path) -> StudyConfig:
    study = read_study(preset, [*SHORT, f"output={output / preset}"])
    short = study.model_dump(mode="json")
    for pair in short["pairs"].values():
        pair["student"]["set"].pop("train.epochs", None)
    short["teacher"]["set"].pop("train.epochs", None)
    for name, entry in short["methods"].items():
        for i, method in enumerate(entry["methods"]):
            kind = method if isinstance(method, str) else method["name"]
            if "initial_epochs" in METHODS[kind].Options.model_fields:
                named = {"name": kind} if isinstance(method, str) else method
                short["methods"][name]["methods"][i] = {**named, "initial_epochs": 1}
    return StudyConfig.model_validate(short)


def train(study: StudyConfig) -> None:
    grid = Grid(study)
    for cell in grid.all():
        if not (cell.folder / "results.json").is_file():
            run = execute(cell.config)
            assert run.status == "finished"
            assert len(run.metrics("train")) == 2 * (1 + (cell.method in ("ab", "fsp", "ft")))


@pytest.fixture(autouse=True)
def place(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(files))


def methods(preset: str) -> list[str]:
    return list(read_study(preset).methods)


def pairs(preset: str) -> list[str]:
    return list(read_study(preset).pairs)


@pytest.mark.parametrize("method", methods(SAME))
def test_each_method_of_the_same_family_table(method: str, output: Path) -> None:
    train(narrow(shortened(SAME, output), ["resnet56-resnet20"], [method]))


@pytest.mark.parametrize("method", methods(CROSS))
def test_each_method_of_the_cross_family_table(method: str, output: Path) -> None:
    train(narrow(shortened(CROSS, output), ["vgg13-MobileNetV2"], [method]))


@pytest.mark.parametrize("method", methods(VIEWS))
def test_two_views(method: str, output: Path) -> None:
    train(narrow(shortened(VIEWS, output), ["wrn_40_2-wrn_40_1"], [method]))


@pytest.mark.parametrize(("preset", "pair"), [(p, pair) for p in (SAME, CROSS) for pair in pairs(p)])
def test_each_pair(preset: str, pair: str, output: Path) -> None:
    train(narrow(shortened(preset, output), [pair], ["kd"]))


@pytest.mark.parametrize("preset", [SAME, CROSS, VIEWS])
def test_the_protocol(preset: str) -> None:
    study = read_study(preset)
    for cell in Grid(study).all():
        train, small = (
            cell.config.train,
            cell.config.student.name in ("MobileNetV2", "ShuffleV1", "ShuffleV2"),
        )
        slow = preset == VIEWS and cell.kind == "student"
        rate = 0.01 if small else 0.025 if slow else 0.05
        assert train.optimizer.learning_rate == rate, cell.key
        assert train.epochs == ((960 if cell.pair.endswith("ShuffleV2") else 480) if slow else 240)
        assert train.schedule.milestones == (150, 180, 210)
        assert (train.batch_size, train.optimizer.weight_decay, train.precision) == (64, 5e-4, "fp32")
        assert train.drop_last == (cell.method == "dist")
        assert (cell.config.augment.flip, cell.config.augment.crop_padding) == (True, 4)


def test_published_options_by_pair() -> None:
    cells = {(c.pair, c.method): c.config for p in (SAME, CROSS) for c in Grid(read_study(p)).all()}

    def option(pair: str, method: str, name: str) -> object:
        return cells[pair, method].methods[0].options[name]

    def default(pair: str, method: str, name: str) -> object:
        return cells[pair, method].methods[0].options.get(name, METHODS[method]().options.model_dump()[name])

    assert option("resnet56-resnet20", "dkd", "beta") == 2
    assert option("vgg13-vgg8", "dkd", "beta") == option("vgg13-MobileNetV2", "dkd", "beta") == 6
    assert default("resnet32x4-resnet8x4", "dkd", "beta") == 8
    assert cells["resnet56-resnet20", "reviewkd"].methods[0].weight == 0.6
    assert cells["resnet32x4-ShuffleV2", "reviewkd"].methods[0].weight == 8
    for (pair, method), config in cells.items():
        if method == "dkd+ls":
            plain = default(pair, "dkd", "beta")
            assert config.methods[0].options["beta"] == 9 * plain  # type: ignore[operator]


def test_widths_that_fsp_cannot_compare_were_not_published(output: Path) -> None:
    study = shortened(SAME, output).model_dump()
    study["methods"]["fsp"]["pairs"] = {}
    with pytest.raises(LimbeckError, match="connectors"):
        train(narrow(StudyConfig.model_validate(study), ["wrn_40_2-wrn_40_1"], ["fsp"]))


def test_imagenet(tmp_path: Path) -> None:
    """The preset on small pictures of unequal sizes, with smaller networks and a teacher from a file."""
    for part, count in (("train", 16), ("test", 2)):
        for name in ("n01440764", "n01443537", "n01484850"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = np.random.default_rng(k).integers(0, 256, (40 + k, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}_{k}.JPEG")
    weights = tmp_path / "resnet14.safetensors"
    save_weights(weights, models.build("resnet14", classes=3, channels=3, size=(32, 32)).state_dict())
    preset = ROOT / "presets" / "imagenet-resnet34-resnet18.yaml"
    whole = read(preset)
    assert whole.student.name == "timm:resnet18"
    assert whole.teacher is not None
    assert whole.teacher.model is not None
    assert whole.teacher.model.options == {"pretrained": True}
    small = [f"data.path={tmp_path / 'images'}", "data.size=32", "data.validation=6", "student=resnet8"]
    short = ["train.epochs=1", "train.batch_size=21", "train.guards=warn", "train.workers=2", "latency=false"]
    teacher = f"teacher.model={{name: resnet14, weights: {weights}}}"
    run = execute(read(preset, [*small, *short, teacher, f"output={tmp_path / 'run'}"]))
    assert run.status == "finished"
    assert len(run.metrics("train")) == 1
    assert set(run.metrics("train")[0]["terms"]) == {"cross_entropy", "dist.inter", "dist.intra"}
