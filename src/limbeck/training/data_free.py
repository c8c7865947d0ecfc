"""The parts of a run without data."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig, RunConfig
from ..data import MASKED, MODAL, Data, Split, load
from ..data_free.config import DataFreeConfig
from ..data_free.pictures import Pictures
from ..data_free.players import Adapter, ContrastHead, Pixels, Synthesiser
from ..data_free.statistics import BatchStatistics
from ..data_free.steps import Steps, Unseen
from ..data_free.terms import SyntheticTerms, generator_terms
from ..errors import ConfigError, ModelError
from ..files import write_arrays
from ..methods.base import Method
from ..models.generators import GENERATORS, build_generator
from ..procedures.data_free import EMBEDDINGS, STATISTICS, DataFree, embedding_taps
from ..seeds import derive
from ..signals import Batch
from ..taps import Layout, layout
from ..teachers import LiveTeacher
from .checkpoint import fill, load_weights, save_weights
from .gather import world
from .guards import Guard, inspect
from .learner import Learner
from .networks import make
from .parts import GUARDED, Findings, Parts

FINAL = 1024
"""Images whose requested classes are compared with the teacher's answers at the end."""


class DataFreeParts(Parts):
    """No training images: the data set names shape, classes, normalisation and the test split.

    Real images are looked at by the teacher alone before the run (the guard that it is trained) and, with
    ``data_free.watch=validation``, by the student when it is measured. Nothing is selected: the last step counts.

    Raises:
        ConfigError: a setting that a run without data does not have.
        ModelError: a generator that makes other images than the networks read, or networks that a term cannot use.
    """

    def __init__(self, config: RunConfig, *, data: Data | None = None, **given: Any) -> None:
        assert config.data_free is not None
        self.settings: DataFreeConfig = config.data_free
        self.config = config
        self._possible()
        found = load(config.data) if data is None else data
        super().__init__(config, data=replace(found, train=Unseen(), changes={}), **given)
        if world() > 1:
            raise ConfigError("a data-free run is one process", got=f"{world()} processes")
        self.player = self._player(given.get("allow_code", ()))
        self._running: DataFree | None = None

    def _possible(self) -> None:
        config = self.config
        cache = config.teacher is not None and (
            config.teacher.cache != "none" or config.teacher.budget is not None
        )
        data = config.data
        for wrong, what in (
            (data.name in {"text", *MASKED, *MODAL}, f"data.name={data.name}"),
            (config.augment != type(config.augment)(), "augment"),
            (config.sampling is not None, "sampling"),
            (cache, "teacher.cache or teacher.budget"),
            (config.train.accumulate > 1, "train.accumulate"),
            (config.train.early_stop is not None, "train.early_stop"),
            (
                bool(data.noise or data.imbalance or data.per_class),
                "data.noise, data.imbalance or data.per_class",
            ),
            (config.label_weight is not None and not config.methods, "label_weight without methods"),
        ):
            if wrong:
                raise ConfigError(f"a data-free run has no {what}", fix=f"leave {what} out")
        if not config.methods and not self.settings.of_student:
            raise ConfigError(
                "the student has nothing to learn from", fix="set data_free.student_terms, or name methods"
            )

    def _learner(
        self, student: nn.Module | None, methods: Collection[Method], allow_code: Collection[str]
    ) -> Learner:
        if methods or self.config.methods:
            learner = super()._learner(student, methods, allow_code)
            if wanting := [m.name for m in learner._methods() if m.tuples or "exact_views" in m.needs]:
                raise ConfigError(
                    f"{', '.join(wanting)} makes batches or views of its own, which a data-free run does not have"
                )
            return learner
        return super()._learner(student, [SyntheticTerms(self.settings)], allow_code)

    def _teacher(self, model: nn.Module | LiveTeacher | None, allow_code: Collection[str]) -> Any:
        found = super()._teacher(model, allow_code)
        if not isinstance(found, LiveTeacher):
            raise ConfigError(
                "a data-free run needs a teacher", fix="set teacher.run to the folder of a trained teacher"
            )
        self.hints = (self._layout(self.learner.student), self._layout(found.model))
        return found

    def _layout(self, model: nn.Module) -> Layout:
        device = self.accelerator.device
        return layout(model.to(device), self._blank(2).to(device))

    def _blank(self, count: int) -> Tensor:
        stream = torch.Generator().manual_seed(0)
        return torch.randn(count, self.data.channels, *self.data.size, generator=stream)

    def _loader(self, split: Split, *, train: bool) -> Any:
        if train:
            return Steps(self.config.train.batch_size, self.settings.iterations)
        return super()._loader(split, train=False)

    def _example(self) -> Tensor:
        return self._blank(2)

    # --------------------------------------------------------------------------------------- the player

    def _player(self, allow_code: Collection[str]) -> Synthesiser | None:
        source, wanted = self.settings.generator, self.settings.of_generator.keys()
        if not source.learns:
            return None
        torch.manual_seed(derive(self.config.seed, "generator"))
        batch, shape = self.config.train.batch_size, (self.data.channels, *self.data.size)
        teacher = self.live
        assert teacher is not None
        if wanted & STATISTICS:
            BatchStatistics(teacher.model)
        generator = Pixels((batch, *shape)) if source.name == "pixels" else self._generator(allow_code)
        noise = (batch, source.latent) if source.drawn and self.settings.rebuild_every else None
        adapter = head = None
        if wanted & EMBEDDINGS:
            mine, theirs = (self._width(hint, who) for hint, who in zip(self.hints, ("student", "teacher")))
            if "scl" in wanted:
                adapter = Adapter(mine, theirs, released=self.settings.adapter == "released")
        if "contrast" in wanted:
            head = ContrastHead(sum(layer.num_features for layer in BatchStatistics(teacher.model).layers))
        player = Synthesiser(generator, noise=noise, adapter=adapter, head=head)
        self._fits(player)
        return player.to(self.accelerator.device)

    def _generator(self, allow_code: Collection[str]) -> nn.Module:
        source = self.settings.generator
        if ":" in source.name:
            own = ModelConfig(name=source.name, options={**source.options, "latent": source.latent})
            generator = make(own, classes=self.task.classes, inputs=self.inputs, allow_code=allow_code)
        else:
            if source.name not in GENERATORS:
                names = ", ".join([*GENERATORS, "pixels", "noise", "module:callable"])
                raise ModelError(f"unknown generator {source.name!r}", expected=names)
            generator = build_generator(
                source.name,
                classes=self.task.classes,
                channels=self.data.channels,
                size=self.data.size,
                latent=source.latent,
                **source.options,
            )
        if source.weights is not None:
            fill(generator, load_weights(Path(source.weights)), source.weights)
        return generator

    def _fits(self, player: Synthesiser) -> None:
        """Refuse a generator that makes other images than the networks read."""
        with torch.no_grad():
            z = torch.zeros(2, self.settings.generator.latent)
            made = copy.deepcopy(player.generator).eval()(z, torch.zeros(2, dtype=torch.int64))
        want = (self.data.channels, *self.data.size)
        if tuple(made.shape[1:]) != want:
            raise ModelError(
                "the generator makes images of another size",
                got="x".join(map(str, made.shape[1:])),
                expected=f"{'x'.join(map(str, want))}, as the networks read",
                fix="build it for the size and channels of the data",
            )

    def _width(self, hint: Layout, who: str) -> int:
        if hint.embedding is None or hint.classifier is None:
            raise ModelError(
                f"the {who} ends in no linear layer, so it has no embedding",
                fix="set data_free.generator_terms.scl=0 and activation=0, or take another network",
            )
        return hint.embedding[0]

    # ------------------------------------------------------------------------------------------ the run

    def procedure(self) -> DataFree:
        teacher = self.live
        assert teacher is not None
        wanted = self.settings.of_generator.keys()
        names = [hint.classifier if wanted & EMBEDDINGS else None for hint in self.hints]
        self._running = DataFree(
            self.learner,
            teacher,
            self.player,
            self.settings,
            shape=(self.data.channels, *self.data.size),
            taps=(embedding_taps(names[0] if "scl" in wanted else None), embedding_taps(names[1])),
            batch_size=self.config.train.batch_size,
            seed=derive(self.config.seed, "synthesis"),
            autocast=self.accelerator.autocast,
            calls=self.calls,
            device=self.accelerator.device,
            pictures=Pictures(
                self.settings.iterations * self.config.train.epochs, self.data.mean, self.data.std
            ),
        )
        return self._running

    @property
    def label(self) -> str:
        return self.config.label

    @property
    def metric(self) -> str | None:
        """None: a choice by real images would be a look at data."""
        return None

    def watch(self, model: nn.Module) -> dict[str, float]:
        """Agreement with the teacher on new synthetic images, or the metrics on the validation split."""
        if self.settings.watch == "validation":
            return self.scores(model, "validation")
        assert self._running is not None
        return self._running.agreement(model, FINAL)

    def examine(self, student: nn.Module) -> Findings:
        found = super().examine(student)
        assert self._running is not None
        rate = self._running.hit_rate(FINAL)
        return found if rate is None else found._replace(student={**found.student, "hit_rate": rate})

    def accompany(self, folder: Path) -> None:
        """The generator's weights and the pictures through training."""
        assert self._running is not None
        if self.player is not None and self.settings.generator.drawn:
            save_weights(folder / "generator.safetensors", self.player.generator.state_dict())
        write_arrays(folder / "synthetic.npz", self._running.pictures.arrays(self._running.examples()))

    def inspect(self) -> list[Guard]:
        """The guards on noise and, for the teacher alone, on held-out images; and the generator's terms."""
        device, teacher = self.accelerator.device, self.live
        assert teacher is not None
        random = torch.get_rng_state()
        count = self.config.train.batch_size
        y = torch.randint(self.task.classes, (count,), generator=torch.Generator().manual_seed(0))
        batch = Batch(self._blank(count), y, torch.arange(count)).to(device, self.memory_format)
        ids = torch.randperm(len(self.data.validation), generator=torch.Generator().manual_seed(0))[:GUARDED]
        held_out = super()._loader(self.data.validation, train=False).views.plain(ids)
        held_out = held_out.to(device, self.memory_format)
        self.learner.to(device)
        with self.accelerator.autocast():
            found = inspect(self.learner, teacher, self.task, batch, held_out, self.inputs)
        self.calls.guards = len(held_out) + count
        if self.player is not None and all(guard.ok is not False for guard in found):
            found.append(self._generator_guard())
        torch.set_rng_state(random)
        return found

    def _generator_guard(self) -> Guard:
        """Each term of the generator is finite and reaches it."""
        player = copy.deepcopy(self.player)
        calls = self.calls.training
        trial = self.procedure()
        assert player is not None
        trial.player, trial.players = player.train(), {**trial.players, "generator": player}
        z, y = trial.draw("guard")
        terms = generator_terms(trial._judged(z, y), self.settings)
        own = [p for p in player.parameters() if p.requires_grad]
        self._running, self.calls.training = None, calls
        shown = ", ".join(f"{name} {float(term.value.detach()):.4g}" for name, term in terms.items())
        for name, term in terms.items():
            if not bool(torch.isfinite(term.value)):
                return Guard(
                    "generator's terms", False, f"{name} is not finite", "look at teacher and generator"
                )
            if name == "kl" and self.settings.decision:  # 0 where no image is answered alike yet
                continue
            gradients = torch.autograd.grad(term.value, own, retain_graph=True, allow_unused=True)
            if not any(g is not None and bool(g.any()) for g in gradients):
                return Guard("generator's terms", False, f"no gradient from {name}", f"leave {name} out")
        return Guard("generator's terms", True, shown)
