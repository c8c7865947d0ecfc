"""The one tree of errors that a user can cause."""

from __future__ import annotations


class LimbeckError(Exception):
    """An error a user can cause and mend.

    Says what is wrong, what was got, what was expected and what to do; the command line prints it as one
    message and exits with code 2.

    Args:
        what: the thing that is wrong, in one sentence without a full stop.
        got: what was found.
        expected: what would have been right.
        fix: what to do about it.

    Example:
        >>> print(LimbeckError("unknown model 'resnet9'", expected="resnet8 or resnet20", fix="correct student.name"))
        unknown model 'resnet9'; expected resnet8 or resnet20. Fix: correct student.name
    """

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, fix: str | None = None
    ) -> None:
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        text = what
        if got is not None:
            text += f"; got {got}"
        if expected is not None:
            text += f"; expected {expected}"
        if fix is not None:
            text += f". Fix: {fix}"
        super().__init__(text)


class ConfigError(LimbeckError):
    """A configuration key or value is wrong."""


class DataError(LimbeckError):
    """A data set cannot be found, read or used."""


class ModelError(LimbeckError):
    """A network cannot be built, loaded or called."""


class ShapeError(LimbeckError):
    """Tensors do not have the shapes that a loss or a method needs."""


class CheckpointError(LimbeckError):
    """A checkpoint or a weights file cannot be written, read or used."""


class RunError(LimbeckError):
    """A run folder is missing, damaged, finished or in use."""


class GuardError(LimbeckError):
    """A start-up guard found a fault that would have spoiled the run silently."""


class BudgetError(LimbeckError):
    """A teacher was to be asked about more samples than it may be."""


class DependencyError(LimbeckError):
    """An optional package is needed and not installed."""


def suggest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Name the nearest valid choice, and list all of them when they are few.

    Example:
        >>> suggest("bicdk", ["kd", "dist", "bickd"])
        "'bickd' (all: bickd, dist, kd)"
    """
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    everything = ", ".join(sorted(known))
    if near and len(known) <= 30:
        return f"{near[0]!r} (all: {everything})"
    if near:
        return repr(near[0])
    return f"one of {everything}" if len(known) <= 60 else f"one of {len(known)}, such as {known[0]!r}"
