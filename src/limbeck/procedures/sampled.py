"""Distillation on texts that the models write during training: on-policy, and interleaved (SKD)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.utils.rnn import pad_sequence

from ..config import SamplingConfig
from ..data.bilingual import Reader
from ..generation import Generated, Interleaved, Sampler, Statistics, generate, interleave
from ..reading import Reading
from ..seeds import derive
from ..shapes import IGNORE
from ..sharding import whole
from ..signals import Batch
from ..teachers.foreign import read_by_teacher
from ..training.gather import total_per_process, world
from .base import Update
from .distillation import Distillation


class SampledDistillation(Distillation):
    """Some batches keep their prompts and get new responses; then a step as ever.

    A share of the batches, drawn anew in every epoch, is answered by the student (``by: student``, on-policy KD,
    GKD), by the teacher (``by: teacher``, sequence-level KD drawn as it goes), or by the student with the
    teacher's corrections (``by: both``, speculative KD). No gradient flows through what is drawn, and labels of
    such a batch are what was written: the task's own loss leaves it out.

    Which batches, and every random number, follow from seed, epoch and samples: a resumed run writes the same.

    Args:
        sampling: who writes, how often, and how.
        eos: id of the token that ends a response.
        seed: of the draws.
        reader: reads samples with the teacher's tokenizer, where that is another one.
        given: as for ``Distillation``.
    """

    def __init__(
        self, *given: Any, sampling: SamplingConfig, eos: int, seed: int, reader: Reader | None = None
    ) -> None:
        super().__init__(*given)
        self.sampling, self.eos, self.seed, self.reader = sampling, eos, seed, reader
        self.seen = self.total = Statistics()

    def step(self, batch: Batch) -> Iterator[Update]:
        """Write new responses where it is their turn, then the ordinary step."""
        if self._turn(batch):
            batch = self._written(batch)
        yield from super().step(batch)

    def figures(self) -> dict[str, float]:
        """Acceptance since the last call."""
        seen, self.seen = self.seen, Statistics()
        return {**super().figures(), **(seen.as_dict() if seen.tokens else {})}

    def learned(self) -> dict[str, float]:
        """Supervised tokens, and acceptance over the whole run where there is one."""
        return super().learned() | (self.total.as_dict() if self.total.tokens else {})

    def state_dict(self) -> dict[str, Any]:
        """As the ordinary step's, and what was drafted and accepted."""
        return {**super().state_dict(), "drafts": asdict(self.total)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        super().load_state_dict(state)
        self.total = Statistics(**state.get("drafts", {}))

    def _turn(self, batch: Batch) -> bool:
        """The same answer on every process, so that none waits for another."""
        first = batch.ids[:1].clone()
        if world() > 1:
            dist.broadcast(first, 0)
        if batch.epoch < self.sampling.after:
            return False
        drawn = derive(self.seed, "turn", batch.epoch, int(first)) / 2**63
        return drawn < self.sampling.share

    def _written(self, batch: Batch) -> Batch:
        """The batch's prompts with new responses."""
        o, teacher = self.sampling, getattr(self.teacher, "model", None)
        if self.reader is not None:
            return self._told(batch, self.reader)
        prompts, mask = _prompts(batch)
        draws = torch.Generator().manual_seed(derive(self.seed, "text", batch.epoch, batch.ids.tolist()))
        mine, theirs = (Sampler(**s.model_dump()) for s in (o.student, o.teacher))
        common: dict[str, Any] = {"max_new_tokens": o.new_tokens, "generator": draws, "eos": self.eos}
        found: Generated
        with self.autocast(), self._whole():
            if o.by == "both":
                assert teacher is not None
                found = interleave(
                    self.learner.student, teacher, prompts, mask, top_k=o.top_k, gamma=o.gamma,
                    student_sampler=mine, teacher_sampler=theirs, **common,
                )  # fmt: skip
            else:
                model, sampler = (self.learner.student, mine) if o.by == "student" else (teacher, theirs)
                assert model is not None
                found = generate(model, prompts, mask, sampler=sampler, **common)
        if isinstance(found, Interleaved):
            self.seen += found.statistics
            self.total += found.statistics
        inputs, labels = _samples(found)
        count = (labels != IGNORE).sum().to(torch.float32)
        return replace(
            batch, inputs=inputs, labels=labels, items=float(total_per_process(count)), sampled=True
        )

    def _whole(self) -> AbstractContextManager[None]:
        """Who writes with all weights at hand: processes write texts of unlike length."""
        by = self.sampling.by
        teacher = getattr(self.teacher, "model", None)
        return whole(None if by == "teacher" else self.learner, None if by == "student" else teacher)

    def _told(self, batch: Batch, reader: Reader) -> Batch:
        """The batch's prompts with responses of one model, which the other reads with its own tokenizer."""
        o, known, of_student = self.sampling, reader.languages, self.sampling.by == "student"
        own, other = batch, read_by_teacher(batch)
        model: Any = self.learner.student if of_student else getattr(self.teacher, "model", None)
        writer, hearer = (known.student, known.teacher) if of_student else (known.teacher, known.student)
        draws = torch.Generator().manual_seed(derive(self.seed, "text", batch.epoch, batch.ids.tolist()))
        with self.autocast(), self._whole():
            found = generate(
                model, *_prompts(own if of_student else other), max_new_tokens=o.new_tokens, generator=draws,
                eos=writer.eos, sampler=Sampler(**(o.student if of_student else o.teacher).model_dump()),
            )  # fmt: skip
        samples, ids, labels = [], [], []
        for tokens, response, mine, theirs in zip(
            found.tokens.cpu(), found.response.cpu(), _before(own), _before(other), strict=True
        ):
            written = tokens[response]
            ended = len(written) > 0 and int(written[-1]) == writer.eos
            text = writer.tokenizer.decode(written[: len(written) - ended].tolist(), skip_special_tokens=True)
            heard = hearer.tokenizer(text, add_special_tokens=False)["input_ids"]
            again = torch.tensor([*heard, *([hearer.eos] if ended else [])], dtype=torch.long)
            sides = (written, again) if of_student else (again, written)
            first, second = _after(mine.cpu(), sides[0])
            ids.append(first[:-1])
            labels.append(second[1:])
            samples.append(reader.joined(*_after(theirs.cpu(), sides[1]), text, sides[0]))
        device = batch.inputs.device
        targets = pad_sequence(labels, batch_first=True, padding_value=IGNORE).to(device)
        count = (targets != IGNORE).sum().to(torch.float32)
        return replace(
            batch,
            inputs=pad_sequence(ids, batch_first=True).to(device),
            labels=targets,
            items=float(total_per_process(count)),
            sampled=True,
            reading=Reading.of(samples).to(device),
        )


def _after(prompt: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
    """Ids of both, and labels of the response alone."""
    ids = torch.cat([prompt, response])
    return ids, ids.where(torch.arange(len(ids), device=ids.device) >= len(prompt), IGNORE)


def _before(batch: Batch) -> list[Tensor]:
    """What stands before the first label of each sample."""
    first = (batch.labels != IGNORE).int().argmax(1)
    return [row[: int(end) + 1] for row, end in zip(batch.inputs, first, strict=True)]


def _prompts(batch: Batch) -> tuple[Tensor, Tensor]:
    """The same, padded on the left."""
    rows = [row.flip(0) for row in _before(batch)]
    ids = pad_sequence(rows, batch_first=True).flip(1)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).flip(1)
    return ids, mask


def _samples(found: Generated) -> tuple[Tensor, Tensor]:
    """Inputs and labels, already shifted, padded on the right."""
    rows = [(t[m], r[m]) for t, m, r in zip(found.tokens, found.mask, found.response, strict=True)]
    labels = [tokens.where(response, IGNORE)[1:] for tokens, response in rows]
    return (
        pad_sequence([tokens[:-1] for tokens, _ in rows], batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=IGNORE),
    )
