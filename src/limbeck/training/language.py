"""The parts of a run on text."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import OBJECT, PRETRAINED, RunConfig
from ..data import TextData
from ..data.bilingual import Languages, Reader
from ..data.splits import Split
from ..data.text import TokenLoader, TokenViews
from ..errors import ConfigError
from ..evaluation.language import Sums
from ..evaluation.responses import respond, response_metrics
from ..files import write_json
from ..methods import METHODS
from ..methods.base import Method, Setting
from ..models.causal import head_of
from ..models.lora import adapted, base_fingerprint
from ..procedures import Procedure
from ..procedures.adaptive import AdaptiveDistillation
from ..procedures.sampled import SampledDistillation
from ..seeds import derive
from ..sharding import cut_frozen, is_cut, whole
from ..signals import Batch, Signals
from ..taps import Layout
from ..tasks import LanguageModelling
from ..teachers import LiveTeacher, Teacher
from ..teachers.foreign import ForeignTeacher, read_by_teacher
from ..vocabulary import require_same
from .economy import recompute, require_packing
from .gather import rank, world
from .learner import Learner
from .parts import Findings, Parts

BEFORE, EXAMPLES = "before.json", 50
"""What a student wrote to the first test prompts before it learned, and to how many at most."""
A_TOKEN = Batch(torch.zeros(1, 1).long(), torch.zeros(1, 1).long(), torch.zeros(1).long())
"""What a process asks the teacher about when it has no samples and others need its shards."""
NOTHING = Layout((), (), None, None)
"""Language models are not tapped: methods read hidden states and heads."""


class LanguageParts(Parts):
    """Text instead of images: token loaders, and numbers summed up batch by batch.

    Raises:
        ConfigError: a setting that text does not have.
    """

    data: TextData
    textual = True
    languages: Languages | None = None
    reader: Reader | None = None

    def _possible(self) -> None:
        config = self.config
        for wrong, what in (
            (config.augment != type(config.augment)(), "augment"),
            (config.teacher is not None and config.teacher.cache != "none", "teacher.cache"),
            (config.train.compile, "train.compile"),
        ):
            if wrong:
                raise ConfigError(f"text has no {what} yet", fix=f"leave {what} out")
        if config.sampling is not None and config.data.packing:
            raise ConfigError(
                "texts that models write are not packed", fix="leave data.packing or sampling out"
            )
        if config.sampling is not None and config.sampling.adaptive and world() > 1:
            raise ConfigError(
                "sampling.adaptive keeps texts in one process",
                fix="train in one process, or set sampling.share",
            )
        if config.train.shard is not None:
            _may_shard(config)
        if config.sampling is not None and not config.methods:
            raise ConfigError(
                "sampled texts need a method", fix="set methods and a teacher, or leave sampling out"
            )

    def procedure(self) -> Procedure:
        if self.config.train.shard == "both" and self.live is not None:
            cut_frozen(self.live.model, self.accelerator.device)
        sampling = self.config.sampling
        if sampling is None:
            return super().procedure()
        kind = AdaptiveDistillation if sampling.adaptive else SampledDistillation
        return kind(
            *self._step(),
            sampling=sampling,
            eos=self.data.tokenizer.eos_token_id,
            seed=derive(self.config.seed, "sampling"),
            reader=self.reader,
        )

    def _learner(
        self, student: nn.Module | None, methods: Collection[Method], allow_code: Collection[str]
    ) -> Learner:
        learner = super()._learner(student, methods, allow_code)
        if self.config.train.gradient_checkpointing:
            recompute(learner.student)
        return learner

    def _teacher(self, model: nn.Module | LiveTeacher | None, allow_code: Collection[str]) -> Teacher | None:
        """A teacher with another tokenizer reads the samples for itself."""
        teacher = super()._teacher(model, allow_code)
        if isinstance(teacher, ForeignTeacher):
            self.languages = teacher.languages
            self._refuse(self.languages)
            if self.config.sampling is not None and self.config.sampling.adaptive:
                raise ConfigError(
                    "sampling.adaptive keeps texts of one tokenizer, and the teacher has another",
                    fix="set sampling.share instead",
                )
            self.reader = Reader(self.languages, 2 * self.config.data.length)
        return teacher

    def _refuse(self, languages: Languages) -> None:
        """One vocabulary where a method needs one.

        Raises:
            ConfigError: lists the methods that work.
        """
        if self.config.data.packing:
            raise ConfigError(
                "a teacher with another tokenizer reads samples row by row", fix="leave data.packing out"
            )
        able = sorted(name for name, method in METHODS.items() if method.across_tokenizers)
        for method in self.learner._methods():
            if method.needs and not method.across_tokenizers:
                require_same(languages.relation, method=method.name, alternatives=able)
        sampling = self.config.sampling
        if sampling is not None and sampling.by == "both":
            raise ConfigError(
                "student and teacher cannot write one text token by token: they have two tokenizers",
                got=str(languages.relation),
                fix="set sampling.by to student or teacher",
            )

    def _setting(self, allow_code: Collection[str]) -> Setting:
        return super()._setting(allow_code)._replace(languages=self.languages)

    def _task(self) -> LanguageModelling:
        return LanguageModelling(len(self.data.classes))

    def _loader(self, split: Any, *, train: bool) -> Any:
        config = self.config.train
        if train and (wanted := [m.name for m in self.learner._methods() if m.tuples]):
            raise ConfigError(f"{', '.join(wanted)} makes batches of tuples, which text does not have")
        return TokenLoader(
            TokenViews(
                split, self.reader, self.config.data.length if train and self.config.data.packing else None
            ),
            config.batch_size,
            seed=derive(self.config.seed, "order"),
            shuffle=train,
            train=train,
            rank=rank(),
            world=world(),
            drop_last=train and config.drop_last,
        )

    def _fit_taps(self, allow_code: Collection[str]) -> None:
        wanting = [m.name for m in self.learner._methods() if m.needs & {"features", "exact_views"} or m.head]
        if wanting:
            raise ConfigError(
                f"{', '.join(wanting)} looks into layers, which language models do not show yet",
                fix="take a method that compares logits or tokens",
            )
        gathering = [m.name for m in self.learner._methods() if m.across_batch]
        if gathering and world() > 1:
            raise ConfigError(
                f"{', '.join(gathering)} compares tokens with each other, and processes have unlike numbers of them",
                fix="train in one process",
            )
        for model in (self.learner.student, *([] if self.live is None else [self.live.model])):
            if self.config.data.packing:
                require_packing(model, self.task)
        torch.manual_seed(derive(self.config.seed, "helpers"))
        self.learner.prepare(NOTHING, NOTHING, self._setting(allow_code))

    @torch.no_grad()
    def _sums(self, model: nn.Module, split: Split) -> Sums:
        """A network on a split, beside the teacher where there is one."""
        model.eval()
        sums, live, device = Sums(), self.live, self.accelerator.device
        itself = live is not None and live.model is model
        # two vocabularies have nothing to agree on
        alone = live is None or itself or self.languages is not None

        def ask(batch: Batch) -> tuple[Signals, Batch, Tensor | None]:
            if itself and self.languages is not None:
                read = read_by_teacher(batch)
                task = LanguageModelling(self.languages.classes[1])
                return task.signals(task.call(model, read)), read, None
            theirs = None if alone or live is None else live.signals(batch).logits
            return self.task.signals(self.task.call(model, batch)), batch, theirs

        with whole(self.learner):
            for batch in self._loader(split, train=False).epoch(0):
                if len(batch):
                    with self.accelerator.autocast():
                        mine, read, theirs = ask(batch.to(device))
                    sums.add(mine.logits, self.task.rows(read).labels, theirs)
                elif live is not None and is_cut(live.model) and (itself or not alone):
                    self.task.call(live.model, A_TOKEN.to(device))
        if live is not None:
            self.calls.saw(split.name, len(split))
        if world() > 1:
            from accelerate.utils import gather_object

            sums.merge(gather_object([(sums.tokens, sums.sums)]))
        return sums

    def scores(self, model: nn.Module, name: str) -> dict[str, float]:
        return self._sums(model, getattr(self.data, name)).metrics()

    def final(self, model: nn.Module, name: str) -> dict[str, float]:
        """Scores, and how near responses to the first prompts come."""
        return self.scores(model, name) | self._answers(model, name)[1]

    def _answers(
        self, model: nn.Module, name: str, count: int | None = None
    ) -> tuple[list[str], dict[str, float]]:
        """What a network writes after the first prompts of a split, and how near it comes."""
        data = self.config.data
        split: Any = getattr(self.data, name)
        pairs = split.texts[: data.responses if count is None else count]
        if not pairs:
            return [], {}
        tokenizer, live = self.data.tokenizer, self.live
        if self.languages is not None and live is not None and live.model is model:
            tokenizer = self.languages.teacher.tokenizer
        prompts = [split.pair(i, tokenizer)[0] for i in range(len(pairs))]
        with whole(self.learner, None if live is None else live.model):
            written = respond(model, tokenizer, prompts, new_tokens=data.new_tokens)
        return written, response_metrics(written, [reference for _, reference in pairs])

    def begin(self, folder: Path) -> None:
        student = self.learner.student
        if count := min(self.config.data.responses, EXAMPLES):
            training = student.training
            texts = self._answers(student.eval(), "test", count)[0]
            student.train(training)
            write_json(folder / BEFORE, texts)

    def examine(self, student: nn.Module) -> Findings:
        """Both models token by token on the test split, and the responses that were asked for."""

        def whole(model: nn.Module) -> tuple[dict[str, float], list[str]]:
            written, near = self._answers(model, "test")
            return self._sums(model, self.data.test).metrics() | near, written

        split: Any = self.data.test
        found, live = {"student": whole(student)}, self.live
        if live is not None:  # runs that share a teacher ask it once
            key = (split, "whole", self.accelerator.mixed_precision, self.config.data.responses)
            found["teacher"] = live.remember((*key, self.config.data.new_tokens), lambda: whole(live.model))
        rows = [
            {"prompt": pair[0], "reference": pair[1], **dict(zip(found, texts, strict=True))}
            for pair, *texts in zip(split.texts, *(written for _, written in found.values()), strict=False)
        ]
        if self.folder is not None and (self.folder / BEFORE).is_file():
            for row, text in zip(rows, json.loads((self.folder / BEFORE).read_text()), strict=False):
                row["before"] = text
        scores = {name: metrics for name, (metrics, _) in found.items()}
        return Findings(scores["student"], scores.get("teacher"), {}, tuple(rows))

    def identity(self) -> dict[str, str]:
        student = self.learner.student
        if not adapted(student):
            return super().identity()
        return {**super().identity(), "base of the student": base_fingerprint(student)}

    def accompany(self, folder: Path) -> None:
        self.data.tokenizer.save_pretrained(str(folder / "tokenizer"))

    def card(self) -> dict[str, Any]:
        """How many rows the head has, where they are not the tokenizer's: heads of published models are padded."""
        student, rows = self.config.student, len(head_of(self.learner.student).weight)
        if rows == self.task.classes or student.name.startswith(OBJECT):
            return {}
        options = {key: value for key, value in student.options.items() if key != PRETRAINED}
        return {"model": {"name": student.name, "options": {**options, "vocab_size": rows}}}

    def cost(self, model: nn.Module) -> dict[str, Any]:
        """Parameters of the network as it is used, and how many of them LoRA trained."""
        extra = sum(p.numel() for n, p in model.named_parameters() if ".lora_" in n)
        trained = {"trained_parameters": extra} if extra else {}
        return {"parameters": sum(p.numel() for p in model.parameters()) - extra, **trained}


def _may_shard(config: RunConfig) -> None:
    """Refuse what shards do not go with.

    Raises:
        ConfigError: one process, or a setting that reads whole networks.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise ConfigError(
            "train.shard shares networks out to processes, and there is one",
            fix="launch with torchrun --nproc_per_node=N -m limbeck, or leave train.shard out",
        )
    for wrong, what in (
        (config.student.lora is not None, "student.lora"),
        (config.train.ema is not None, "train.ema"),
        (config.train.precision == "fp16", "train.precision=fp16"),
    ):
        if wrong:
            raise ConfigError(f"{what} does not go with train.shard", fix="leave one of them out")
