"""Distillation without data: a generator's phase, then the student's, on images that nobody ever took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..config import PlayerOptimizer, ScheduleConfig
from ..data_free.config import ADVERSARIAL, DataFreeConfig
from ..data_free.memory import ImageMemory
from ..data_free.pictures import CLASSES, PER_CLASS, Pictures, by_class
from ..data_free.players import Synthesiser, crops, shifted
from ..data_free.statistics import BatchStatistics, Normalised
from ..data_free.terms import Seen, generator_terms
from ..seeds import derive
from ..signals import Batch, Signals
from ..taps import EMBEDDING, Taps
from ..teachers import Calls, LiveTeacher
from ..training.learner import Learner
from .base import Update

STUDENT, GENERATOR = "student", "generator"
EMBEDDINGS = frozenset({"activation", "scl"})
STATISTICS = frozenset({"bn", "contrast"})
TOGETHER, SORTED = 256, 1024
"""Images that a network sees at once, and that are sorted by class for a picture."""


class DataFree:
    """CPSC-DFKD and its family: two players, and no data.

    A step is ``generator_steps`` updates of the generator on ``sum of weight * term``, then ``student_steps``
    updates of the student on new images, or on images from the memory. With ``rebuild_every`` a generator (or
    the pixels) begins anew, makes one batch in ``generator_steps`` updates, and the iterate of least loss is
    remembered. Gradients of the generator's phase flow through both networks to the images and stop there.

    Noise and classes follow from seed and step, so a resumed run makes the same images.

    Args:
        learner: the student with what it learns from.
        teacher: who teaches; the only source of knowledge about images.
        player: the generator with its helpers, or None for noise.
        config: the run's section.
        shape: of an image ``(C, H, W)``.
        taps: of the student's and of the teacher's embedding.
        batch_size: images of an update.
        seed: of noise and classes.
        autocast: context in which networks run.
        calls: where samples that the teacher is asked about are counted.
        device: where images are made.
        pictures: where snapshots of images go.

    Source: Shao et al. 2023, arXiv:2510.03375 and its released code; the other presets' papers are named with
    their terms.
    """

    def __init__(
        self,
        learner: Learner,
        teacher: LiveTeacher,
        player: Synthesiser | None,
        config: DataFreeConfig,
        *,
        shape: tuple[int, int, int],
        taps: tuple[Taps, Taps],
        batch_size: int,
        seed: int,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        calls: Calls | None = None,
        device: torch.device | str = "cpu",
        pictures: Pictures | None = None,
    ) -> None:
        self.players: dict[str, nn.Module] = {STUDENT: learner}
        self.optimizers: dict[str, PlayerOptimizer] = {}
        self.learner, self.teacher, self.player, self.config = learner, teacher, player, config
        if player is not None:
            self.players[GENERATOR] = player
            source = config.generator
            self.optimizers[GENERATOR] = PlayerOptimizer(
                name="adam",
                learning_rate=source.learning_rate,
                betas=source.betas,
                weight_decay=0.0,
                schedule=ScheduleConfig(name=source.schedule),
            )
        self.shape, self.taps, self.batch_size, self.seed = shape, taps, batch_size, seed
        self.autocast, self.calls, self.device = autocast, Calls() if calls is None else calls, device
        wanted = config.of_generator.keys()
        self.statistics = BatchStatistics(teacher.model) if wanted & STATISTICS else None
        self.asks_student = bool(wanted & ADVERSARIAL)
        self.memory = ImageMemory(config.memory) if config.memory else None
        self.pictures = pictures or Pictures(0, [0.0] * shape[0], [1.0] * shape[0])
        self.hits, self.made = 0, 0

    @property
    def classes(self) -> int:
        """K."""
        return self.learner.task.classes

    # ------------------------------------------------------------------------------------------ the step

    def step(self, batch: Batch) -> Iterator[Update]:
        """The generator's phase, then the student's."""
        index = batch.epoch * self.config.iterations + int(batch.ids[0]) // self.batch_size
        if self.pictures.due(index):
            self.pictures.keep(index, self.examples())
        if self.player is not None:
            every = self.config.rebuild_every
            if every is None:
                for i in range(self.config.generator_steps):
                    z, y = self.draw(index, f"generator {i}")
                    yield Update(GENERATOR, generator_terms(self._judged(z, y), self.config), self._fresh)
            elif index % every == 0:
                yield from self._synthesis(index)
        for i in range(self.config.student_steps):
            images, labels = self._lesson(index, i)
            with self.autocast():
                self.calls.spend(len(images))
                lesson = Batch(images, labels, torch.arange(len(images), device=images.device), batch.epoch)
                signals = self.teacher.signals(lesson)
            if not self.conditional:
                lesson.labels = signals.logits.argmax(1)
            yield Update(STUDENT, self.players[STUDENT](lesson, signals))

    @property
    def conditional(self) -> bool:
        """Whether images are made of requested classes."""
        name = self.config.generator.name
        return name not in ("unconditional", "noise") or "ce" in self.config.of_generator

    @property
    def _fresh(self) -> bool:
        return self.config.fresh_optimizer

    def _synthesis(self, index: int) -> Iterator[Update]:
        """One batch from a new generator; the iterate of least loss is remembered."""
        assert self.player is not None
        assert self.memory is not None
        self.player.rebuild()
        z, y = self.draw(index, "synthesis")
        least, kept = float("inf"), None
        for i in range(self.config.generator_steps):
            seen = self._judged(z, y)
            terms = generator_terms(seen, self.config)
            total = sum(float(term.value.detach()) * term.weight for term in terms.values())
            if total < least or kept is None:
                least, kept = total, seen.images.detach().clone()
            yield Update(GENERATOR, terms, fresh=self._fresh or i == 0)
        assert kept is not None
        self.memory.add(kept, y)

    def _lesson(self, index: int, number: int) -> tuple[Tensor, Tensor]:
        """Images and labels of one update of the student."""
        if self.memory is not None and len(self.memory):
            images, labels = self.memory.draw(self.batch_size, self._stream(index, f"memory {number}"))
            return images.to(self.device), labels.to(self.device)
        z, y = self.draw(index, f"student {number}")
        images = self.make(z, y)
        if self.memory is not None and self.config.rebuild_every is None:
            self.memory.add(images, y)
        return images, y

    @torch.no_grad()
    def make(self, z: Tensor, y: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` of noise and classes, without gradients; noise itself where nothing is learnt."""
        if self.player is None:
            return z.reshape(-1, *self.shape)
        images: Tensor = self.players[GENERATOR](z, y)
        return images

    def draw(self, *place: object, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Noise ``(B, latent)`` and classes ``(B,)`` of one place in the run."""
        stream, count = self._stream(*place), count or self.batch_size
        width = (
            self.config.generator.latent
            if self.player is not None
            else self.shape[0] * self.shape[1] * self.shape[2]
        )
        z = torch.randn(count, width, generator=stream)
        y = torch.randint(self.classes, (count,), generator=stream)
        return z.to(self.device), y.to(self.device)

    def _stream(self, *place: object) -> torch.Generator:
        return torch.Generator().manual_seed(derive(self.seed, *place))

    # ----------------------------------------------------------------------------------- judging images

    def _judged(self, z: Tensor, y: Tensor) -> Seen:
        """Images with what both networks say about them, differentiable to the generator."""
        assert self.player is not None
        images: Tensor = self.players[GENERATOR](z, y)
        looked = shifted(images, self.config.jitter)
        batch = Batch(looked, y, torch.arange(len(y), device=y.device))
        self.calls.spend(len(y))
        theirs, normalised = self._ask_teacher(batch)
        mine = self._ask_student(batch) if self.asks_student else None
        answers = theirs.logits.detach().argmax(1)
        self.hits, self.made = self.hits + int((answers == y).sum()), self.made + len(y)
        return Seen(looked, y, theirs, mine, normalised, self.player, lambda: self._contrast(looked))

    def _ask_teacher(self, batch: Batch) -> tuple[Signals, Normalised]:
        watching = nullcontext(Normalised()) if self.statistics is None else self.statistics.record()
        with self.autocast(), watching as seen, self.taps[1].record(self.teacher.model) as features:
            signals = self.teacher.differentiable(batch)
        signals.features = features
        return signals, seen

    def _ask_student(self, batch: Batch) -> Signals:
        student = self.learner.student
        training, task = self.config.student_mode == "train", self.learner.task
        with _frozen(student, training), self.autocast(), self.taps[0].record(student) as features:
            signals = task.signals(task.call(student, batch))
        signals.features = features
        return signals

    def _contrast(self, images: Tensor) -> Tensor:
        """CMI's contrast: local crops against whole views, of these images and of as many remembered ones."""
        assert self.player is not None
        assert self.player.head is not None
        assert self.memory is not None
        every = images
        if len(self.memory):
            stream = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            remembered, _ = self.memory.draw(min(len(images), len(self.memory)), stream)
            every = torch.cat([images, remembered.to(images.device)])
        means = []
        for view in (crops(every, 0.25), crops(every, 0.8)):
            blank = torch.zeros(len(view), dtype=torch.int64, device=view.device)
            means.append(self._ask_teacher(Batch(view, blank, blank))[1].means())
        return self.player.head.contrast(means[0], means[1], len(images), self.config.contrast_temperature)

    # -------------------------------------------------------------------------------------- what it tells

    def figures(self) -> dict[str, float]:
        """Share of the generator's images since the last call that the teacher takes for what was requested."""
        hits, made, self.hits, self.made = self.hits, self.made, 0, 0
        return {"hit_rate": hits / made} if made else {}

    @torch.no_grad()
    def samples(self, count: int, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images and requested classes, the same at every call.

        They are the memory's last ones, or new ones of a generator in evaluation mode.

        Args:
            count: of images.
            wanted: classes to request of a generator, in place of drawn ones.
        """
        if self.memory is not None and len(self.memory):
            return self.memory.images[-count:].to(self.device), self.memory.labels[-count:].to(self.device)
        z, y = self.draw("samples", count=count if wanted is None else len(wanted))
        if wanted is not None:
            y = wanted.to(self.device)
        if self.player is None:
            return self.make(z, y), y
        if self.config.rebuild_every is not None:  # a generator of one batch has made none yet
            z, y = self.draw("samples")
            images: Tensor = self.player(z, y)
            return images, y
        was = self.player.training
        self.player.eval()
        pairs = zip(torch.split(z, TOGETHER), torch.split(y, TOGETHER), strict=True)
        images = torch.cat([self.player(*pair) for pair in pairs])
        self.player.train(was)
        return images, y

    @torch.no_grad()
    def answers(self, model: nn.Module, images: Tensor) -> Tensor:
        """Predicted classes ``(B,)`` of a network in the mode it is in."""
        blank = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        with self.autocast():
            task = self.learner.task
            parts = [
                task.signals(task.call(model, Batch(x, b, b))).logits.argmax(1)
                for x, b in zip(torch.split(images, TOGETHER), torch.split(blank, TOGETHER), strict=True)
            ]
        return torch.cat(parts)

    def hit_rate(self, count: int) -> float | None:
        """Share of images that the teacher takes for the requested class; None where none was requested."""
        if not self.conditional:
            return None
        images, labels = self.samples(count)
        return float((self.answers(self.teacher.model, images) == labels).float().mean())

    def agreement(self, model: nn.Module, count: int) -> dict[str, float]:
        """Share of synthetic images on which a network answers as the teacher does."""
        images, labels = self.samples(count)
        theirs, mine = self.answers(self.teacher.model, images), self.answers(model.eval(), images)
        found = {"synthetic_agreement": float((theirs == mine).float().mean())}
        if self.conditional:
            found["hit_rate"] = float((theirs == labels).float().mean())
        return found

    def examples(self) -> Tensor:
        """Images by class ``(K, 4, C, H, W)``: by the requested one, or by the teacher's answer."""
        asked = torch.arange(min(self.classes, CLASSES)).repeat_interleave(PER_CLASS)
        images, labels = self.samples(SORTED, asked if self.conditional else None)
        if not self.conditional:
            labels = self.answers(self.teacher.model, images)
        return by_class(images, labels, self.classes)

    def state_dict(self) -> dict[str, Any]:
        """The memory, and how often the teacher was asked; players have their own state."""
        return {
            "calls": self.calls.state(),
            "memory": None if self.memory is None else self.memory.state_dict(),
            "hits": self.hits,
            "made": self.made,
            "pictures": self.pictures.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.calls.restore(state["calls"])
        self.hits, self.made = state["hits"], state["made"]
        self.pictures.load_state_dict(state["pictures"])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])


@contextmanager
def _frozen(model: nn.Module, training: bool) -> Iterator[None]:
    """The network gives gradients to its inputs only; modes and flags are put back."""
    modes = {module: module.training for module in model.modules()}
    wanted = [p for p in model.parameters() if p.requires_grad]
    model.train(training)
    try:
        for p in wanted:
            p.requires_grad_(False)
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)
        for module, mode in modes.items():
            module.training = mode


def embedding_taps(name: str | None) -> Taps:
    """A tap on what the classifier reads."""
    return Taps([EMBEDDING] if name is not None else [], name)
