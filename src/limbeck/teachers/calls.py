"""How often a teacher is asked, and how often it may be."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..errors import BudgetError


@dataclass
class Calls:
    """Samples that a run asked its teacher about, by what for; a sample asked about twice counts twice.

    Attributes:
        budget: training samples that it may be asked about, or None for any number.
        training: training samples; a live teacher is asked anew in every epoch, a remembered one once.
        validation, test: samples of these splits, for agreement with the teacher; no part of the budget.
        guards: samples looked at before the first step; no part of the budget.

    Example:
        >>> calls = Calls(budget=500)
        >>> calls.spend(500)
        >>> calls.spend(1)
        Traceback (most recent call last):
        limbeck.errors.BudgetError: the teacher may be asked about 500 training samples (teacher.budget); ...
    """

    budget: int | None = None
    training: int = 0
    validation: int = 0
    test: int = 0
    guards: int = 0

    def spend(self, samples: int) -> None:
        """Count training samples before the teacher is asked about them.

        Raises:
            BudgetError: more than the budget.
        """
        if self.budget is not None and self.training + samples > self.budget:
            raise BudgetError(
                f"the teacher may be asked about {self.budget} training samples (teacher.budget)",
                got=f"{samples} more after {self.training}",
                fix="raise the budget, or train on fewer samples: data.train_size, or teacher.rest",
            )
        self.training += samples

    def saw(self, split: str, samples: int) -> None:
        """Count a whole split, once however often it is asked for.

        Raises:
            BudgetError: it is the training split, and larger than the budget.
        """
        if split != "train":
            setattr(self, split, samples)
        elif not self.training:
            self.spend(samples)

    def restore(self, state: dict[str, int]) -> None:
        """Go on counting where an earlier process stopped."""
        for name in ("training", "validation", "test", "guards"):
            setattr(self, name, max(getattr(self, name), state.get(name, 0)))

    def state(self) -> dict[str, int]:
        """The counts, for the checkpoint."""
        return {name: count for name, count in asdict(self).items() if name != "budget"}
