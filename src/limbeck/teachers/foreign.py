"""A language model that reads the samples with a tokenizer of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from ..data.bilingual import Languages
from ..errors import ConfigError
from ..models.causal import embedded
from ..signals import Batch, Signals
from ..tasks import LanguageModelling
from .live import LiveTeacher


class ForeignTeacher(LiveTeacher):
    """Answers about ``batch.reading``: its signals have a row for each of *its* supervised tokens.

    ``extra["embedded"]`` are its embeddings of what it was fed and of what it should predict there, both
    ``(N_t, D)``, for methods that look for the tokens that belong together.

    Args:
        model: a causal language model of transformers.
        languages: the student's vocabulary and its own.
        given: as for ``LiveTeacher``.
    """

    def __init__(self, model: nn.Module, languages: Languages, **given: Any) -> None:
        super().__init__(model, LanguageModelling(languages.classes[1]), **given)
        self.languages = languages

    def _answer(self, batch: Batch) -> Signals:
        own = read_by_teacher(batch)
        signals = super()._answer(own)
        signals.extra["embedded"] = embedded(self.model, own)
        return signals


def read_by_teacher(batch: Batch) -> Batch:
    """The batch as the teacher reads it.

    Raises:
        ConfigError: nobody read it with the teacher's tokenizer.
    """
    if batch.reading is None:
        raise ConfigError(
            "the teacher has another tokenizer, and the batch was not read with it",
            fix="train through limbeck.distill, or set Batch.reading",
        )
    return replace(batch, inputs=batch.reading.inputs, labels=batch.reading.labels, items=None, reading=None)


__all__ = ["ForeignTeacher", "read_by_teacher"]
