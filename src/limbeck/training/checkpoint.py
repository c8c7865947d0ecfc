"""Saving and reading weights and checkpoints: atomic, and never a pickle."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ModelError
from ..files import write_atomic
from ..models.lora import put_back, trained


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors, numbers, strings, lists and dictionaries atomically.

    Raises:
        RunError: the disk is full, or the folder may not be written. The old checkpoint is left as it was.
    """

    def write(file: IO[bytes]) -> None:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch hides a failed write behind an error about positions
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    write_atomic(path, write)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code in it.

    Raises:
        CheckpointError: missing, truncated, or holding anything but tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}", fix="check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"{broken} has a wrong checksum")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols than its own
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, and was not opened",
            expected="a file that limbeck wrote",
            fix="never load checkpoints of unknown origin",
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # damaged bytes can end the reader in any way
        raise CheckpointError(
            f"{path} is truncated or damaged ({error})",
            fix="restore it from a copy, or start the run anew in another folder",
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint", got=type(state).__name__, expected="a mapping")
    return state


def save_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Write weights as safetensors, atomically."""
    from safetensors.torch import save as encode

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    write_atomic(path, lambda file: file.write(encode(tensors)))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: missing, truncated, or another format, such as a pickle.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as decode

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read weights {path}: {error.strerror or error}") from None
    try:
        return decode(data)
    except SafetensorError as error:
        pickled = data[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        raise CheckpointError(
            f"{path} is not a whole safetensors file",
            got="a pickle or a torch.save archive, which may run code" if pickled else str(error),
            expected="a .safetensors file",
            fix="convert it with safetensors.torch.save_file where you trust it, or restore it from a copy",
        ) from None


def fill(model: nn.Module, state: dict[str, Tensor], source: object) -> None:
    """Load weights into a network, exactly; of one with LoRA, those that are trained.

    Raises:
        ModelError: names the tensors that are missing, left over or of another shape.
    """
    own = trained(model)
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"left over {name}" for name in state if name not in own]
    problems += [
        f"{name} is {tuple(state[name].shape)}, the network has {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ModelError(
            f"the weights of {source} do not fit the network",
            got="; ".join(problems[:4]) + more,
            fix="name the network, its options and the classes that the weights were trained with",
        )
    put_back(model, state)
