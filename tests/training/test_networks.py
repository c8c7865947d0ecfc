"""Networks by name, by weights and by the user's own code; what is wrong with them is said in one message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.config import ModelConfig
from limbeck.errors import ModelError
from limbeck.teachers import Inputs
from limbeck.training.checkpoint import save_weights
from limbeck.training.networks import make, named

INPUTS = Inputs(1, (8, 8), (0.5,), (0.5,))
CODE = """
from torch import nn
def net(classes, channels, size, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], width), nn.Linear(width, classes))
def text(**shape): return "no network"
def strict(classes): return nn.Linear(1, classes)
def broken(**shape): return 1 / 0
class Net(nn.Linear):
    def __init__(self, classes, channels, size): super().__init__(64, classes)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_networks.py").write_text(CODE)
    (tmp_path / "my_typo.py").write_text("def net(:\n")
    (tmp_path / "my_fault.py").write_text("import torch\n\nraise RuntimeError('not today')\n")
    return tmp_path


def own(name: str, *, allowed: bool = True, **options: object) -> nn.Module:
    config = ModelConfig(name=name, options=options)
    return make(config, classes=3, inputs=INPUTS, allow_code=[name] if allowed else [])


def test_a_seed_decides_the_weights_and_none_leaves_the_generator_alone() -> None:
    config = ModelConfig(name="cnn", options={"widths": [4]})
    first, second, third = (make(config, classes=3, inputs=INPUTS, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_weights_fill_it(tmp_path: Path) -> None:
    network = make(ModelConfig(name="mlp", options={"widths": [5]}), classes=3, inputs=INPUTS, seed=1)
    save_weights(tmp_path / "w.safetensors", network.state_dict())
    config = ModelConfig(name="mlp", options={"widths": [5]}, weights=str(tmp_path / "w.safetensors"))
    again = make(config, classes=3, inputs=INPUTS, seed=2).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("option", ["classes", "channels", "size", "name"])
def test_what_the_data_decide_is_no_option(option: str) -> None:
    with pytest.raises(ModelError, match=f"{option} of the network cnn is not an option"):
        make(ModelConfig(name="cnn", options={option: 3}), classes=3, inputs=INPUTS)


def test_own_code_and_classes(place: Path) -> None:
    network = own("my_networks:net", width=7)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert isinstance(own("my_networks:Net"), nn.Linear)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_networks:nothing", "cannot import my_networks:nothing"),
        ("no_such_module:net", "cannot import no_such_module:net: No module named 'no_such_module'"),
        ("my_networks:text", "returned no network; got str"),
        ("my_networks:strict", "could not be called.*takes classes, channels, size"),
        ("my_networks:broken", r"fails: ZeroDivisionError: division by zero \(.*my_networks.py, line 7\)"),
        ("my_typo:net", "my_typo:net fails on import: SyntaxError"),
        ("my_fault:net", r"RuntimeError: not today \(.*my_fault.py, line 3\)"),
        (":net", "names no code; expected module:callable"),
        ("my_networks:", "names no code; expected module:callable"),
    ],
)
def test_faults_of_own_code(name: str, says: str, place: Path) -> None:
    with pytest.raises(ModelError, match=says):
        own(name)


def test_code_that_nobody_allowed_is_not_even_imported(place: Path) -> None:
    (place / "my_trap.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    with pytest.raises(ModelError, match="--allow-code my_trap:net"):
        own("my_trap:net", allowed=False)
    with pytest.raises(ModelError, match="--allow-code my_trap:net"):
        make(
            ModelConfig(name="my_trap:net"), classes=3, inputs=INPUTS, allow_code=["my_trap", "my_trap:other"]
        )
    assert not (place / "ran").exists()


def test_a_network_from_python_is_marked() -> None:
    config = named(nn.Linear(2, 2))
    assert config.name == "object:Linear"
    with pytest.raises(ModelError, match="network Linear was handed over in Python"):
        make(config, classes=3, inputs=INPUTS)
