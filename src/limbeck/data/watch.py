"""Shoulder exercises recorded by a watch: accelerometer and gyroscope of ten people."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from ..errors import DataError
from .config import DataConfig
from .modal import ModalData, assemble_modal
from .restricted import read_object
from .streams import permutation
from .wheels import read_packaged

FILE = "seglearn/data/watch_dataset.npy"
WINDOW = 100
"""Samples of a window: two seconds at 50 Hz."""

SENSORS = {"accelerometer": (0, 1, 2), "gyroscope": (3, 4, 5)}
MAGNITUDES = 8
"""Lowest frequencies that a window keeps the magnitude of."""


def watch(config: DataConfig) -> ModalData:
    """Seven exercises from windows of two seconds that do not overlap, split by person.

    The modalities are ``accelerometer`` and ``gyroscope``: for each of the three axes mean, standard deviation,
    minimum, maximum, median, and the magnitudes of the eight lowest frequencies above 0, 39 numbers each. Test is
    one person, ``data.split_seed`` modulo ten, validation another, and ``data.labelled_subjects`` others keep their
    labels.

    Raises:
        DataError: the wheel of seglearn 1.2.5 is not here or not as published.
    """
    content = read_packaged("seglearn", "1.2.5", [FILE], config.path, config.name)[FILE]
    held = _recordings(content)
    rows: dict[str, list[np.ndarray]] = {sensor: [] for sensor in SENSORS}
    labels, people = [], []
    for series, label, person in zip(held["X"], held["y"], held["subject"], strict=True):
        windows = len(series) // WINDOW
        cut = np.asarray(series[: windows * WINDOW], dtype=np.float64).reshape(windows, WINDOW, -1)
        for sensor, axes in SENSORS.items():
            rows[sensor].append(_statistics(cut[:, :, list(axes)]))
        labels += [int(label)] * windows
        people += [int(person)] * windows
    subjects = np.array(people)
    arrays = {sensor: np.concatenate(parts).astype(np.float32) for sensor, parts in rows.items()}
    order = np.unique(subjects)[permutation("test", 0, 0, len(np.unique(subjects)))]
    fold = config.split_seed % len(order)
    test, validation = order[fold], order[(fold + 1) % len(order)]
    parts = {
        "train": np.flatnonzero((subjects != test) & (subjects != validation)),
        "validation": np.flatnonzero(subjects == validation),
        "test": np.flatnonzero(subjects == test),
    }
    classes = tuple(str(name) for name in held["y_labels"])
    return assemble_modal(
        "watch", arrays, np.array(labels), parts, config, classes=classes, subjects=subjects
    )


def _statistics(windows: np.ndarray) -> np.ndarray:
    """``(w, length, axes)`` -> ``(w, numbers)``."""
    spectrum = np.abs(np.fft.rfft(windows - windows.mean(1, keepdims=True), axis=1))[:, 1 : MAGNITUDES + 1]
    found = [windows.mean(1), windows.std(1), windows.min(1), windows.max(1), np.median(windows, axis=1)]
    return np.concatenate([*found, np.log1p(spectrum).reshape(len(windows), -1)], 1)


def _recordings(content: bytes) -> dict[str, Any]:
    """The dictionary behind the header of a ``.npy`` file that holds one object."""
    what = "watch_dataset.npy"
    if content[:6] != b"\x93NUMPY" or content[6] != 1:
        raise DataError(f"{what} is no .npy file", fix="get the wheel of seglearn 1.2.5 anew")
    end = 10 + int.from_bytes(content[8:10], "little")
    try:
        header = ast.literal_eval(content[10:end].decode("latin1").strip())
    except (ValueError, SyntaxError):
        header = {}
    if header.get("shape") != () or "O" not in str(header.get("descr")):
        raise DataError(f"{what} does not hold one object", got=header)
    held = read_object(content[end:], what)
    lengths = {key: len(held.get(key, ())) for key in ("X", "y", "subject")}
    if len(set(lengths.values())) != 1 or not lengths["X"] or "y_labels" not in held:
        raise DataError(f"{what} is not as published", got=f"{sorted(held)}, {lengths}")
    return held


__all__ = ["watch"]
