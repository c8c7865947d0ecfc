"""The IDX format of MNIST and its kin: a big-endian header, then bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file of unsigned bytes, gzipped or plain.

    The header is 0, 0, 8 (unsigned byte), the number of dimensions, then each length as 4 bytes.

    Args:
        path: the file; gzipped if its name ends in ``.gz``.
        dimensions: how many it must have (3 for grey images, 1 for labels).

    Raises:
        DataError: unreadable, another format, shorter or longer than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot read {path}", got=error, expected="a whole gzip or IDX file", fix="get the file anew"
        ) from error
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic or len(content) < header:
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes with {dimensions} dimensions",
            got=f"first bytes {content[:4].hex() or 'none'}",
            expected=magic.hex(),
            fix="check that images and labels are not exchanged",
        )
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} does not have the length that its header says",
            got=f"{len(content) - header:,} bytes of data",
            expected=f"{math.prod(shape):,} for shape {tuple(shape)}",
            fix="get the file anew",
        )
    data = np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    return torch.from_numpy(data.copy())
