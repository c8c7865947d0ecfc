"""What happened while a text was interleaved."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """Counts over the rows of a batch; they add up over batches.

    Attributes:
        drafted: tokens of the student that the teacher could have accepted (a draft ends with an
            end-of-text token and with the length limit).
        accepted: drafted tokens that are part of the text.
        replaced: tokens of the teacher.
        passes: rows that the teacher scored, summed over its calls: as many as it would be asked one row
            at a time. Reading the prompt does not count.

    Example:
        >>> both = Statistics(drafted=10, accepted=7, replaced=1, passes=2) + Statistics(5, 5, 0, 1)
        >>> both.tokens, both.acceptance_rate
        (13, 0.8)
        >>> both.as_dict()["tokens_per_pass"]
        4.333333333333333
    """

    drafted: int = 0
    accepted: int = 0
    replaced: int = 0
    passes: int = 0

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.drafted + other.drafted,
            self.accepted + other.accepted,
            self.replaced + other.replaced,
            self.passes + other.passes,
        )

    @property
    def tokens(self) -> int:
        """Tokens of the responses."""
        return self.accepted + self.replaced

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of the drafted tokens, those discarded after a rejected one included."""
        return self.accepted / max(self.drafted, 1)

    @property
    def replaced_fraction(self) -> float:
        """The teacher's share of the responses."""
        return self.replaced / max(self.tokens, 1)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens for one pass of the teacher, at most ``gamma``; without any pass, the tokens."""
        return self.tokens / max(self.passes, 1)

    def as_dict(self) -> dict[str, float]:
        """Rates for a log."""
        return {
            "acceptance_rate": self.acceptance_rate,
            "replaced_fraction": self.replaced_fraction,
            "tokens_per_pass": self.tokens_per_pass,
        }
