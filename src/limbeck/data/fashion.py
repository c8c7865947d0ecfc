"""Fashion-MNIST from its four IDX files."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from .assembly import assemble
from .config import Data, DataConfig
from .download import cache_folder, download
from .idx import read_idx
from .splits import TensorSplit

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MEAN, STD = (0.2860,), (0.3530,)
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
ADDRESS = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
"""The published files and their published checksums."""


def fashion_mnist(config: DataConfig) -> Data:
    """60,000 + 10,000 grey 28×28 images of clothes in 10 classes.

    Looked for in ``data.path``; else in the folder of Debian's package ``dataset-fashion-mnist``; else in the
    cache folder; else, with ``data.download=true``, fetched from the authors' repository with checksums.
    The published test split is the test split. Normalisation: the published mean 0.2860 and std 0.3530.

    Raises:
        DataError: not found, or a file that is truncated, wrong or does not match the others.

    Source: Xiao et al., arXiv:1708.07747 (MIT licence).
    """
    folder = _folder(config)

    def split(part: str, name: str) -> TensorSplit:
        images = read_idx(_file(folder, f"{part}-images-idx3-ubyte"), 3)
        labels = read_idx(_file(folder, f"{part}-labels-idx1-ubyte"), 1)
        return TensorSplit(images[:, None], labels, f"{name} of Fashion-MNIST")

    return assemble(
        "fashion-mnist",
        split("train", "train"),
        split("t10k", "test"),
        classes=CLASSES,
        share=config.validation,
        train_size=config.train_size,
        split_seed=config.split_seed,
        changes=config,
        mean=MEAN,
        std=STD,
    )


def _folder(config: DataConfig) -> Path:
    if config.path is not None:
        return Path(config.path).expanduser()
    cache = cache_folder() / "fashion-mnist"
    for folder in (SYSTEM_FOLDER, cache):
        if all((folder / name).is_file() for name in FILES):
            return folder
    if not config.download:
        raise DataError(
            "Fashion-MNIST is not on this machine",
            got=f"no IDX files in {SYSTEM_FOLDER} or {cache}",
            fix="install Debian's package dataset-fashion-mnist, or set data.path to a folder that holds "
            "the four *-ubyte.gz files, or set data.download=true (31 MB)",
        )
    for name, checksum in FILES.items():
        download(ADDRESS + name, cache / name, checksum)
    return cache


def _file(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{folder} lacks a file of Fashion-MNIST",
        expected=f"{name}.gz or {name}",
        fix="correct data.path, or remove it to look in the usual places",
    )
