"""CIFAR-10 and CIFAR-100 from the published python archives."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import DataError
from .assembly import assemble
from .config import Data, DataConfig
from .download import cache_folder, download
from .restricted import read_batch
from .splits import TensorSplit


class Archive(NamedTuple):
    """What is known of one archive."""

    file: str
    checksum: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    names_key: str
    labels_key: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


ADDRESS = "https://www.cs.toronto.edu/~kriz/"
ARCHIVES = {
    "cifar10": Archive(
        file="cifar-10-python.tar.gz",
        checksum="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{k}" for k in range(1, 6)),
        test="test_batch",
        names="batches.meta",
        names_key="label_names",
        labels_key="labels",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Archive(
        file="cifar-100-python.tar.gz",
        checksum="sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        names="meta",
        names_key="fine_label_names",
        labels_key="fine_labels",
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
    ),
}


def cifar(config: DataConfig) -> Data:
    """50,000 + 10,000 colour 32×32 images in 10 or 100 (fine) classes.

    ``data.path`` may be the archive, its extracted folder, or a folder that holds either; without it the
    cache folder is looked into, and with ``data.download=true`` the archive is fetched there with its
    checksum. The archive holds pickles: they are read by ``limbeck.data.restricted``, which runs nothing.
    The published test split is the test split. Normalisation: the published per-channel constants
    (CIFAR-10: the standard deviation over all pixels; CIFAR-100: those of the distillation literature).

    Raises:
        DataError: not found, damaged, or holding anything but the expected arrays and names.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    archive = ARCHIVES[config.name]
    files = _read(_locate(config, archive), archive)

    def split(names: tuple[str, ...], title: str) -> TensorSplit:
        pairs = [_images(files[name], name, archive.labels_key) for name in names]
        pixels = torch.from_numpy(np.concatenate([pixels for pixels, _ in pairs]))
        labels = torch.tensor([label for _, part in pairs for label in part])
        return TensorSplit(pixels.reshape(-1, 3, 32, 32), labels, f"{title} of {config.name}")

    classes = read_batch(files[archive.names], archive.names).get(archive.names_key)
    if not isinstance(classes, list):
        raise DataError(f"{archive.names} of {config.name} has no list {archive.names_key!r}")
    return assemble(
        config.name,
        split(archive.train, "train"),
        split((archive.test,), "test"),
        classes=[str(name) for name in classes],
        share=config.validation,
        train_size=config.train_size,
        split_seed=config.split_seed,
        changes=config,
        mean=archive.mean,
        std=archive.std,
    )


def _images(content: bytes, name: str, labels_key: str) -> tuple[np.ndarray, list[int]]:
    batch: dict[str, Any] = read_batch(content, name)
    pixels, labels = batch.get("data"), batch.get(labels_key)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise DataError(f"{name} has no array 'data' of shape (n, 3072)", fix="get the archive anew")
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise DataError(f"{name} has no list of numbers {labels_key!r}", fix="get the archive anew")
    if len(labels) != len(pixels):
        raise DataError(
            f"{name} has {len(pixels)} images but {len(labels)} labels", fix="get the archive anew"
        )
    return pixels, labels


def _locate(config: DataConfig, archive: Archive) -> Path:
    """The archive or the folder that holds its files."""
    base = Path(config.path).expanduser() if config.path is not None else cache_folder()
    if config.path is not None and base.is_file():
        return base
    for folder in (base, base / archive.folder):
        if (folder / archive.test).is_file():
            return folder
    if (base / archive.file).is_file():
        return base / archive.file
    if config.path is None and config.download:
        return download(ADDRESS + archive.file, base / archive.file, archive.checksum)
    raise DataError(
        f"{config.name} is not in {base}",
        expected=f"{archive.file} or its folder {archive.folder}",
        fix=f"put one of them there, or set data.path to it, or set data.download=true without data.path "
        f"({ADDRESS}{archive.file})",
    )


def _read(place: Path, archive: Archive) -> dict[str, bytes]:
    """Contents of the needed files by name."""
    wanted = {*archive.train, archive.test, archive.names}
    found: dict[str, bytes] = {}
    try:
        if place.is_dir():
            found = {name: (place / name).read_bytes() for name in wanted if (place / name).is_file()}
        else:
            with tarfile.open(place) as tar:
                for member in tar:
                    name = Path(member.name).name
                    if name in wanted and (file := tar.extractfile(member)) is not None:
                        found[name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(
            f"cannot read {place}", got=error, expected=f"a whole {archive.file}", fix="get the archive anew"
        ) from error
    if missing := sorted(wanted - found.keys()):
        raise DataError(f"{place} lacks {', '.join(missing)}", fix="get the archive anew")
    return found
