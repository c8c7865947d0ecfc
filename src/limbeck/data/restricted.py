"""Reads the batch files of the CIFAR archives without running anything that they say.

The archives were published as Python pickles. A pickle is a small program that may call any function, so this
reader gives it none: the only names it may mention are NumPy's array, its type and its reconstructor, and each
is answered by an inert stand-in below that just keeps what it is given. Everything else is refused. No code of
NumPy or of any other package is called while reading; arrays are then rebuilt here from the raw bytes, and
only those of unsigned bytes.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from ..errors import DataError


class _Inert:
    """Keeps its arguments and its state."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Inert):
    __slots__ = ()


class _Type(_Inert):
    __slots__ = ()


class _Kind(_Inert):
    __slots__ = ()


_STAND_INS: dict[tuple[str, str], type[_Inert]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Type,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise DataError(f"it asks for {module}.{name}")
        return stand_in


def read_batch(content: bytes, what: str) -> dict[str, Any]:
    """The dictionary in one file of a CIFAR archive, arrays as uint8 ``np.ndarray``, text as ``str``.

    Args:
        content: the whole file.
        what: its name, for messages.

    Raises:
        DataError: anything but a dictionary of byte arrays, lists, numbers and text.
    """
    try:
        value = _Reader(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(value, dict):
            raise DataError(f"it holds a {type(value).__name__}")
        return {_plain(key): _plain(item) for key, item in value.items()}
    except DataError as error:
        reason: object = error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    raise DataError(
        f"{what} is damaged, or is not a file of the CIFAR python archives, and was refused",
        got=reason,
        expected="a dictionary of byte arrays, lists and names, and nothing else",
        fix="get the archive anew from its publisher",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, _Array):
        return _array(value)
    if isinstance(value, (str, int)):
        return value
    raise DataError(f"it holds a {type(value).__name__}")


def _array(value: _Array) -> np.ndarray:
    _, shape, kind, fortran, content = value.state
    if not (isinstance(kind, _Type) and kind.arguments[0] in (b"u1", "u1")):
        raise DataError("it holds an array that is not of unsigned bytes")
    if not isinstance(content, bytes) or fortran not in (False, 0, True, 1):
        raise DataError("it holds an array without its bytes")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


_NUMBERS = frozenset({"f8", "f4", "i8", "i4", "i2", "i1", "u1"})


class _Wide(_Reader):
    """Admits the bytes of arrays as text too, which is how old protocols wrote them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Bytes
        return super().find_class(module, name)


class _Bytes(_Inert):
    """Text that stands for bytes, and how."""

    __slots__ = ()


def read_object(content: bytes, what: str) -> dict[str, Any]:
    """The dictionary of arrays, lists and names in a pickle that a ``.npy`` file of one object holds.

    As ``read_batch``: nothing that the pickle names is called; arrays are rebuilt here from their bytes.

    Args:
        content: the pickle.
        what: its name, for messages.

    Raises:
        DataError: anything but a dictionary of arrays of numbers or text, lists, numbers and text.
    """
    try:
        value = _known(_Wide(io.BytesIO(content), encoding="latin1").load())
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, dict):
            raise DataError(f"it holds a {type(value).__name__}")
        return value
    except DataError as error:
        reason: object = error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    raise DataError(
        f"{what} is damaged, or is not the published file, and was refused",
        got=reason,
        expected="a dictionary of arrays of numbers, lists and names, and nothing else",
        fix="get the package anew from its publisher",
    )


def _known(value: Any) -> Any:
    """Plain values from stand-ins."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in value]
    if isinstance(value, dict):
        return {str(_known(key)): _known(item) for key, item in value.items()}
    if not isinstance(value, _Array):
        raise DataError(f"it holds a {type(value).__name__}")
    _, shape, kind, fortran, content = value.state
    name = str(_known(kind.arguments[0])) if isinstance(kind, _Type) else ""
    if name.startswith("O") and isinstance(content, list):
        return [_known(item) for item in content]
    if isinstance(content, _Bytes) and content.arguments[1] == "latin1":
        content = content.arguments[0].encode("latin1")
    order = str(kind.state[1]) if isinstance(kind, _Type) and kind.state else "<"
    text = name[:1] in "US" and name[1:].isdigit()
    if not isinstance(content, bytes) or not (name in _NUMBERS or text) or order not in "<|=>":
        raise DataError(f"it holds an array of type {name!r}")
    if any(not isinstance(side, int) for side in shape):
        raise DataError("it holds an array of unknown shape")
    array = np.frombuffer(content, np.dtype(order.replace("|", "") + name)).reshape(
        shape, order="F" if fortran else "C"
    )
    return array.tolist() if text else array
