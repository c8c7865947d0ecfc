"""One run from configuration to results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..config import OBJECT, PRETRAINED, RunConfig, TeacherConfig, dump
from ..data import MASKED, MODAL, Data, MaskData, ModalData, TextData, load
from ..errors import LimbeckError, RunError
from ..files import write_arrays
from ..methods.base import Method
from ..models.lora import adapted, best_file, merged, save_adapter, trained
from ..runs import Run
from ..sharding import full
from ..teachers import LiveTeacher
from .bayes import BayesParts
from .checkpoint import fill, load_weights, save_weights
from .data_free import DataFreeParts
from .gather import rank, world
from .guards import Guard, enforce
from .language import LanguageParts
from .multimodal import MultimodalParts
from .parts import Parts
from .progress import Progress
from .record import Record, environment, now
from .remembering import keep
from .segmentation import SegmentationParts
from .trainer import RunInterrupted, Trainer
from .weak import WeakParts


def execute(
    config: RunConfig,
    *,
    student: nn.Module | None = None,
    teacher: nn.Module | LiveTeacher | None = None,
    methods: Collection[Method] = (),
    data: Data | None = None,
    resume: bool = False,
    allow_code: Collection[str] = (),
    progress: Progress | None = None,
    on_guards: Callable[[list[Guard]], None] | None = None,
) -> Run:
    """Train one student and record everything.

    Args:
        config: the run.
        student: network to train instead of building ``config.student``.
        teacher: who teaches instead of ``config.teacher``; a ``LiveTeacher`` shared by several runs is asked
            about each evaluation split only once.
        methods: method objects instead of ``config.methods``.
        data: splits instead of loading ``config.data``.
        resume: go on with the run in ``config.output`` instead of starting one.
        allow_code: names ``module:callable`` that the user agreed to run.
        progress: shared progress.
        on_guards: called with the guards' findings before training.

    Returns:
        The finished run.

    Raises:
        LimbeckError: whatever the user can mend; the record says ``failed`` and keeps its checkpoint.
    """
    record = Record(Path(config.output or f"runs/{config.name or default_name(config)}"))
    parts = assemble(
        config, student=student, teacher=teacher, methods=methods, data=data, allow_code=allow_code
    )
    return Session(parts, record).run(resume, progress, on_guards)


def assemble(config: RunConfig, *, data: Data | None = None, **given: Any) -> Parts:
    """The parts of a run, of images, masks, text or several modalities; arguments as ``execute``."""
    if config.bayes is not None:
        return BayesParts(config, data=data, **given)
    if config.data_free is not None:
        return DataFreeParts(config, data=data, **given)
    textual = config.data.name == "text" if data is None else isinstance(data, TextData)
    if textual:
        return LanguageParts(config, data=data, **given)
    if data is None and config.data.name in {*MASKED, *MODAL}:
        data = load(config.data)
    if isinstance(data, ModalData):
        return MultimodalParts(config, data=data, **given)
    if isinstance(data, MaskData):
        return (WeakParts if data.weak else SegmentationParts)(config, data=data, **given)
    return Parts(config, data=data, **given)


def ensure(
    config: RunConfig,
    progress: Progress | None = None,
    *,
    teacher: LiveTeacher | None = None,
    data: Data | None = None,
    allow_code: Collection[str] = (),
) -> Run:
    """A finished run of this configuration: as it lies in ``config.output``, resumed, or trained now.

    Args:
        config: the run.
        progress: shared progress.
        teacher, data: what ``config`` names, already loaded, for runs that share them.
        allow_code: names ``module:callable`` that the user agreed to run.

    Raises:
        RunError: the folder holds a run of another configuration.
    """
    folder = Path(config.output or f"runs/{config.name or default_name(config)}")
    if not (folder / "run.json").is_file():
        return execute(config, teacher=teacher, data=data, allow_code=allow_code, progress=progress)
    found = Run(folder)
    if not same(found.config, config, folder):
        raise RunError(
            f"{folder} holds a run of another configuration",
            fix="remove the folder, or choose another output",
        )
    if found.status == "finished":
        if progress is not None:
            progress.skip(found.info["steps"])
        return found
    return execute(config, teacher=teacher, data=data, allow_code=allow_code, resume=True, progress=progress)


def same(found: RunConfig, wanted: RunConfig, folder: Path) -> bool:
    """Whether a record's configuration is the wanted one, wherever the folder, with its teacher, has moved to."""
    teachers = [config.teacher.run if config.teacher else None for config in (found, wanted)]
    old, new = teachers
    moved = old is not None and new is not None and found.output is not None
    if moved and os.path.relpath(str(old), found.output) == os.path.relpath(str(new), folder):
        old = new
    plain = [config.model_dump(exclude={"output": True, "teacher": {"run"}}) for config in (found, wanted)]
    return plain[0] == plain[1] and old == new


def examine(config: RunConfig, allow_code: Collection[str] = ()) -> list[Guard]:
    """The guards' findings for a configuration, without training and without leaving a record."""
    return assemble(config, allow_code=allow_code).inspect()


def score(
    run: Run, split: str, checkpoint: Literal["last", "best"] = "last", allow_code: Collection[str] = ()
) -> dict[str, float]:
    """Metrics of a finished run's student on one split, in float32.

    The teacher is asked too where the run had one that can be found again.
    """
    train = run.config.train.model_copy(update={"precision": "fp32", "shard": None})
    known = run.config.teacher if _there(run.config.teacher) else None
    config = run.config.model_copy(
        update={
            "train": train,
            "teacher": known,
            "methods": (),
            "label_weight": None,
            "sampling": None,
            "data_free": None,
            "bayes": None,
        }
    )
    student = run.student(checkpoint, allow_code=allow_code)
    parts = assemble(config, student=student, allow_code=allow_code)
    return parts.final(student.to(parts.accelerator.device), split)


def _there(teacher: TeacherConfig | None) -> bool:
    if teacher is None or teacher.run is not None:
        return teacher is not None and Path(teacher.run or "", "run.json").is_file()
    if teacher.runs:
        return all(Path(run, "run.json").is_file() for run in teacher.runs)
    model = teacher.model
    return model is not None and (model.weights is None or Path(model.weights).is_file())


def default_name(config: RunConfig) -> str:
    """``data-student-method-seedN``."""
    student = config.student.name.replace(":", "-").replace("/", "-")
    return f"{config.data.name.removeprefix(OBJECT)}-{student}-{config.label}-seed{config.seed}"


class Session:
    """Starts or resumes a run, lets the trainer drive, and writes the record."""

    def __init__(self, parts: Parts, record: Record) -> None:
        self.parts, self.record = parts, record
        parts.folder = record.path
        self.config = parts.config

    def run(
        self,
        resume: bool,
        progress: Progress | None,
        on_guards: Callable[[list[Guard]], None] | None,
    ) -> Run:
        """Start or resume, train, evaluate."""
        main = rank() == 0
        if main:
            self._claim(resume)
        try:
            keep(self.parts, self.record.path / "answers.safetensors", resume)
            if not resume:
                self._guard(on_guards)
                if main:
                    self.parts.begin(self.record.path)
            identity = self.parts.identity()  # of whole networks
            procedure = self.parts.procedure()
            trainer = Trainer(
                self.config.train,
                procedure,
                self.parts.loader,
                evaluate=self.parts.watch,
                metric=self.parts.metric,
                record=self.record,
                seed=self.config.seed,
                accelerator=self.parts.accelerator,
                identity=identity,
                progress=progress,
            )
            if resume and self.record.checkpoint.exists():
                trainer.restore()
            if main:
                self._describe("running", trainer)
            trainer.fit()
            self._finish(trainer)
        except RunInterrupted:
            if main:
                self._status("interrupted")
            raise
        except Exception as error:
            if main:
                with suppress(LimbeckError):  # the disk may be full; the first error is the one to tell
                    self._status("failed", reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.record.close()
        return Run(self.record.path)

    def _claim(self, resume: bool) -> None:
        folder = self.record.path
        status = Run(folder).status if (folder / "run.json").is_file() else None
        if status == "finished":
            raise RunError(f"{folder} is already finished", fix="choose another output to run it again")
        if not resume and status is not None and self.record.checkpoint.exists():
            raise RunError(
                f"{folder} holds a run that is {status}",
                fix=f"go on with: limbeck distill --resume {folder}, or choose another output",
            )
        self.record.open()
        if not resume:
            for old in ("metrics.jsonl", "answers.safetensors"):
                (folder / old).unlink(missing_ok=True)
            self.record.text("config.yaml", dump(self.config))
            self.record.json("environment.json", environment())

    def _guard(self, on_guards: Callable[[list[Guard]], None] | None) -> None:
        guards = self.parts.inspect()
        if rank() == 0:
            self.record.json("guards.json", [guard.row() for guard in guards])
            if on_guards is not None:
                on_guards(guards)
        if self.config.train.guards == "error":
            enforce(guards)

    def _finish(self, trainer: Trainer) -> None:
        student = trainer.student
        found = self.parts.examine(student)
        last = {
            "epoch": trainer.epoch,
            "test": found.student,
            "validation": self.parts.final(student, "validation"),
        }
        if rank() == 0 or self.config.train.shard is not None:  # what shards make up is asked for by all
            weights = full(merged(student))
        if rank() == 0:
            save_weights(self.record.path / "student.safetensors", weights)
        self.parts.accelerator.wait_for_everyone()
        best, known = dict(trainer.best), self.record.path / best_file(student)
        if best["step"] == trainer.step:
            best["test"] = last["test"]
        else:
            last_state = {name: tensor.clone() for name, tensor in trained(student).items()}
            fill(student, load_weights(known), known.name)
            best["test"] = self.parts.final(student, "test")
        if rank() == 0 and adapted(student):
            save_weights(self.record.path / "best.safetensors", merged(student))
        if best["step"] != trainer.step:
            fill(student, last_state, "the last epoch")
        metric = self.parts.metric
        best["selected_on"] = "nothing, it is the last" if metric is None else f"validation {metric}"
        extra = self._networks()
        if rank() != 0:
            return
        results: dict[str, Any] = {
            "last": last,
            "best": best,
            "cost": self.parts.cost(student),
            "teacher": None,
        }
        if extra:
            results["networks"] = extra
        if found.teacher is not None and self.parts.live is not None:
            results["teacher"] = {"test": found.teacher, "cost": self.parts.cost(self.parts.live.model)}
        self.record.json("model.json", self._card())
        if found.arrays:
            write_arrays(self.record.path / "evaluation.npz", found.arrays)
        if found.responses:
            self.record.text("responses.jsonl", "".join(json.dumps(row) + "\n" for row in found.responses))
        self.parts.accompany(self.record.path)
        self.record.json("results.json", results)
        if adapted(student):
            save_adapter(student, self.record.path / "adapter")
            known.unlink(missing_ok=True)
        self._describe("finished", trainer)

    def _networks(self) -> dict[str, Any]:
        """Score and save what methods trained beside the student."""
        found = {}
        for method in self.parts.learner._methods():
            for name, network in method.networks().items():
                found[name] = {"test": self.parts.scores(network, "test")}
                if rank() == 0:
                    save_weights(self.record.path / f"{name}.safetensors", network.state_dict())
        return found

    def _card(self) -> dict[str, Any]:
        student = self.config.student
        options = {key: value for key, value in student.options.items() if key != PRETRAINED}
        return {
            "model": {"name": student.name, "options": options},
            "classes": list(self.parts.data.classes),
            "channels": self.parts.data.channels,
            "size": list(self.parts.data.size),
            "mean": list(self.parts.data.mean),
            "std": list(self.parts.data.std),
            **self.parts.card(),
        }

    def _describe(self, status: str, trainer: Trainer) -> None:
        config, live = self.config, self.parts.live
        old = Run(self.record.path).info if (self.record.path / "run.json").is_file() else {}
        methods = self.parts.learner._methods()
        self.record.json(
            "run.json",
            {
                "name": self.record.path.name,
                "label": config.title or self.parts.label,
                "group": config.group,
                "kind": "distill" if self.parts.learner.needs else "train",
                "task": self.parts.task.name,
                "seed": config.seed,
                "status": status,
                "started": old.get("started", now()),
                "ended": now() if status == "finished" else None,
                "seconds": trainer.seconds,
                "steps": trainer.step,
                "epochs": trainer.epoch,
                "stopped_early": trainer.stopped_early,
                "data": self.parts.data.name,
                "samples": {s: len(getattr(self.parts.data, s)) for s in ("train", "validation", "test")},
                "changes": self.parts.data.changes,
                "classes": list(self.parts.data.classes),
                "student": {"name": config.student.name, "parameters": _count(self.parts.learner.student)},
                "teacher": None
                if live is None
                else {
                    "name": live.name,
                    "parameters": live.parameters,
                    "path": None if config.teacher is None else config.teacher.run,
                    "cache": "none" if config.teacher is None else config.teacher.cache,
                    "exact_views": self.parts.exact_views,
                    "temperature": live.temperature,
                    "calls": asdict(self.parts.calls),
                },
                "precision": self.parts.accelerator.mixed_precision.replace("no", "fp32"),
                "processes": world(),
                "learned": {
                    "processor_seconds": trainer.processor,
                    **getattr(trainer.procedure, "learned", dict)(),
                },
                "reconstructed": any(m.status == "reconstructed" for m in methods),
            },
        )

    def _status(self, status: str, reason: str | None = None) -> None:
        """Change the status of a record that was described; a run that never got that far has none."""
        if (self.record.path / "run.json").is_file():
            info = Run(self.record.path).info
            if info["status"] != "finished":
                self.record.json("run.json", {**info, "status": status, "ended": now(), "reason": reason})


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
