"""The one loop."""

from __future__ import annotations

import math
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config import PlayerOptimizer, TrainConfig
from ..errors import CheckpointError, ConfigError, LimbeckError, RunError
from ..methods.base import Terms
from ..models.lora import best_file, put_back, trained
from ..seeds import derive
from ..sharding import cut, full, number, shared_moments
from ..signals import Batch
from . import checkpoint
from .gather import leave_at_exit, rank, world
from .learner import Learner
from .precision import resolve
from .progress import Progress
from .record import Record
from .schedule import factor, optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..data.loader import Loader
    from ..procedures import Procedure

FORMAT = 1
PLACE = ("step", "epoch", "within", "seconds", "best", "since_best", "stopped_early", "validated")
"""Where a run stands; kept in the checkpoint under these names."""
KEYS = (
    *(
        "world",
        "steps_per_epoch",
        "identity",
        "players",
        "procedure",
        "ema",
        "scaler",
        "random",
        "metrics_size",
    ),
    *PLACE,
)
"""What a checkpoint holds beside its format."""


class RunInterrupted(LimbeckError):
    """A signal stopped the run after it had saved itself.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, what: str, *, fix: str, number: int) -> None:
        super().__init__(what, fix=fix)
        self.signal = number


def accelerator(config: TrainConfig) -> Accelerator:
    """Accelerate's view of this process, at the configured precision.

    Raises:
        ConfigError: the precision does not exist on this device, or a launcher asks to cut networks into shards.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import parse_flag_from_env

    for kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if parse_flag_from_env(f"ACCELERATE_USE_{kind}"):
            raise ConfigError(
                f"a launcher asks for {kind}, but how networks are cut into shards is part of a run's configuration",
                fix="launch with torchrun, and set train.shard to student or both (FSDP2)",
            )
    AcceleratorState._reset_state()  # another run of this process may have had another precision
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve(config.precision, device)
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision=fp16 needs a GPU", fix="use bf16 or auto")
    made = Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=device.type == "cpu")
    leave_at_exit()
    return made


class Trainer:
    """Drives a procedure: device, precision, accumulation, clipping, schedule, evaluation, checkpoint, resume.

    It knows no method. Everything that a killed run needs to go on to the same numbers is in its checkpoint:
    players, optimisers, scaler, averaged student, procedure state, random state of every process, position in
    the epoch, and the size of the metrics file.

    Args:
        config: the loop's settings.
        procedure: how one step runs; its ``players["student"]`` is a ``Learner``.
        loader: training batches.
        evaluate: scores a student on the validation split.
        metric: key of the score that selects the best epoch, higher is better; None takes the last one, and the
            scores are only written down.
        record: the run's folder.
        seed: the run's seed.
        accelerator: from ``accelerator(config)``.
        identity: what must be equal when a run resumes, such as the teacher's fingerprint.
        progress: shared progress, or None for one of its own.
    """

    def __init__(
        self,
        config: TrainConfig,
        procedure: Procedure,
        loader: Loader,
        *,
        evaluate: Callable[[nn.Module], dict[str, float]],
        metric: str | None,
        record: Record,
        seed: int,
        accelerator: Accelerator,
        identity: dict[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config, self.procedure, self.loader = config, procedure, loader
        self.evaluate, self.metric, self.record = evaluate, metric, record
        self.accelerator, self.identity, self.progress = accelerator, identity or {}, progress
        self.memory_format = torch.channels_last if config.channels_last else None
        self.step = self.epoch = self.within = self.validated = 0
        self.seconds = self.processor = 0.0
        self.best: dict[str, Any] = {}
        self.since_best = 0
        self.stopped_early = False
        self.plain = dict(procedure.players)
        self.initial = self.learner.initial_epochs
        self.epochs = self.initial + config.epochs
        self.steps = self.epochs * len(loader)
        if self.initial or "features" in self.learner.needs or self.learner.uneven:
            accelerator.ddp_handler = _lenient()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.recipes: dict[str, PlayerOptimizer] = {
            **getattr(procedure, "optimizers", {}),
            **config.optimizers,
        }
        if strange := sorted(self.recipes.keys() - self.plain.keys()):
            raise ConfigError(
                f"train.optimizers: no player {', '.join(strange)}", expected=", ".join(sorted(self.plain))
            )
        self.optimizers: dict[str, Any] = {}
        for name, module in self.plain.items():
            if self.memory_format is not None:
                module.to(memory_format=self.memory_format)  # type: ignore[call-overload]
            if config.shard is not None:
                cut(module, self.learner.student, accelerator.device)
            made = optimizer(self.recipes.get(name, config.optimizer), module.parameters())
            # shards need no second wrapper for the exchange of gradients
            procedure.players[name] = accelerator.prepare_model(
                module, evaluation_mode=config.shard is not None
            )
            self.optimizers[name] = accelerator.prepare_optimizer(made)
        self.ema: torch.optim.swa_utils.AveragedModel | None = None
        if config.ema is not None:
            average: Any = torch.optim.swa_utils.get_ema_multi_avg_fn
            self.ema = torch.optim.swa_utils.AveragedModel(
                self.learner.student, multi_avg_fn=average(config.ema)
            )
        if config.compile:
            self.learner.compile_student()
        self._signal = 0
        self._window = (0, 0.0)
        self._board: Any = None
        torch.manual_seed(derive(seed, "training", rank()))

    @property
    def learner(self) -> Learner:
        """The student with its methods, unwrapped."""
        learner = self.plain["student"]
        assert isinstance(learner, Learner)
        return learner

    @property
    def student(self) -> nn.Module:
        """The network that is evaluated and exported: the averaged one where ``train.ema`` is set."""
        if self.ema is None:
            return self.learner.student
        averaged = self.ema.module
        assert isinstance(averaged, nn.Module)
        return averaged

    # ------------------------------------------------------------------------------------------ the loop

    def fit(self) -> None:
        """Train to the end, from wherever the run stands.

        Raises:
            RunInterrupted: SIGTERM or SIGINT came; the run is saved.
            RunError: the loss became NaN or infinite, or the disk is full; the last checkpoint is whole.
        """
        with ExitStack() as stack:
            stack.enter_context(self._signals())
            if self.progress is None:
                title = self.record.path.name
                self.progress = stack.enter_context(Progress(self.steps, title, quiet=rank() != 0))
            self.progress.skip(self.step)
            if self.config.tensorboard and rank() == 0:
                self._board = stack.enter_context(_board(self.record, self.step))
            if self.step == 0:
                self._save()
            while self.epoch < self.epochs and not self.stopped_early:
                self._epoch()
            if self.validated != self.step:
                self._validate()
            self._save()

    def _epoch(self) -> None:
        self._mark()
        for batch in self.loader.epoch(self.epoch, start=self.within):
            self._one(batch)
            if self.stopped_early:
                return
        self.epoch, self.within = self.epoch + 1, 0
        if self.config.evaluate_every is None and self.epoch > self.initial:
            self._validate()
        if self.config.checkpoint_every is None:
            self._save()

    def _one(self, batch: Batch) -> None:
        started, busy = time.perf_counter(), time.process_time()
        rates = self._place()
        batch = batch.to(self.accelerator.device, self.memory_format)
        speaks = (self.step + 1) % self.config.log_every == 0 or self.step == 0
        terms, norm = self._optimise(batch, rates, speaks)
        if self.ema is not None:
            self.ema.update_parameters(self.learner.student)
        self.step, self.within = self.step + 1, self.within + 1
        self.seconds += time.perf_counter() - started
        self.processor += time.process_time() - busy
        if speaks:
            self._log(terms, rates, norm)
        assert self.progress is not None
        self.progress.advance(1)
        main = self.step - self.initial * len(self.loader)
        if self.config.evaluate_every and main > 0 and main % self.config.evaluate_every == 0:
            self._validate()
        if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0:
            self._save()
        self._stop_if_asked()

    def _place(self) -> dict[str, float]:
        """Tell the learner where the run stands; the learning rates of this step, by player.

        The initialisation stage has a constant rate. Optimisers forget it when the main stage begins.
        """
        per_epoch = len(self.loader)
        main = self.step - self.initial * per_epoch
        self.learner.at(main / per_epoch, main)
        if self.initial and main == 0:
            for chosen in self.optimizers.values():
                chosen.state.clear()
        rates = {}
        for name in self.plain:
            own = self.recipes.get(name)
            rate = (own or self.config.optimizer).learning_rate
            schedule = (own and own.schedule) or self.config.schedule
            steps = self.config.epochs * per_epoch
            rates[name] = rate if main < 0 else rate * factor(schedule, main, per_epoch, steps)
        return rates

    def _optimise(
        self, batch: Batch, rates: dict[str, float], speaks: bool
    ) -> tuple[dict[str, Terms], float | None]:
        """One optimiser step for every update of the procedure, over all pieces of the batch in lockstep."""
        pieces = _pieces(batch, self.config.accumulate)
        running = [self.procedure.step(piece) for piece in pieces]
        seen: dict[str, Terms] = {}
        norm: float | None = None
        while True:
            player, fresh = None, False
            for i, (piece, steps) in enumerate(zip(pieces, running, strict=True)):
                with self._synchronised(last=i == len(pieces) - 1):
                    update = next(steps, None)
                    if update is None:
                        continue
                    player, fresh = update.player, update.fresh
                    loss = _total(update.terms)
                    self._check(loss, update.terms)
                    share = len(piece) / len(batch)
                    self.accelerator.backward(loss if share == 1 else loss * share)
                    seen[player] = update.terms
            if player is None:
                return seen, norm
            chosen = self.optimizers[player]
            if fresh:
                chosen.state.clear()
            for group in chosen.param_groups:
                group["lr"] = rates[player]
            parameters = self.procedure.players[player].parameters()
            if self.config.clip is not None:
                norm = number(self.accelerator.clip_grad_norm_(parameters, self.config.clip))
            elif speaks:
                gradients = [p.grad for p in parameters if p.grad is not None]
                norm = number(torch.nn.utils.get_total_norm(gradients))
            chosen.step()
            chosen.zero_grad()

    @contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        """Exchange gradients between processes only on the last piece."""
        with ExitStack() as stack:
            for module in self.procedure.players.values() if world() > 1 else ():
                if self.config.shard is not None:
                    module.set_requires_gradient_sync(last)  # type: ignore[operator]
                elif not last:
                    stack.enter_context(self.accelerator.no_sync(module))
            yield

    def _check(self, loss: Tensor, terms: Terms) -> None:
        if self.accelerator.device.type == "cpu" or (self.step + 1) % self.config.log_every == 0:
            if math.isfinite(float(loss.detach())):
                return
            wild = [name for name, term in terms.items() if not math.isfinite(float(term.value.detach()))]
            raise RunError(
                f"the loss is not finite at step {self.step + 1} (from {', '.join(wild) or 'the sum'})",
                fix="lower train.optimizer.learning_rate, set train.clip, or look for NaN in the data; "
                f"the last checkpoint of {self.record.path} is whole",
            )

    # --------------------------------------------------------------------------------- what it writes down

    def _mark(self) -> None:
        """Begin to count anew after something that is not training; it may have left evaluation mode on."""
        for player in self.procedure.players.values():
            player.train()
        self._window = (self.step, time.perf_counter())

    def _log(self, terms: dict[str, Terms], rates: dict[str, float], norm: float | None) -> None:
        step, since = self._window
        elapsed = max(time.perf_counter() - since, 1e-9)
        several = len(terms) > 1
        flat = {
            (f"{player}.{name}" if several else name): (float(term.value.detach()), term.weight)
            for player, of_player in terms.items()
            for name, term in of_player.items()
        }
        if world() > 1:
            values = torch.tensor([value for value, _ in flat.values()], device=self.accelerator.device)
            means: Any = self.accelerator.reduce(values, "mean")
            flat = {n: (float(v), w) for (n, (_, w)), v in zip(flat.items(), means, strict=True)}
        loss = sum(value * weight for value, weight in flat.values())
        row = {
            "kind": "train",
            "step": self.step,
            "epoch": self.epoch,
            "loss": loss,
            "learning_rate": rates["student"],
            "gradient_norm": norm,
            "images_per_second": (self.step - step) * self.config.batch_size / elapsed,
            "memory_mb": _memory_mb(self.accelerator.device),
            **self.procedure.figures(),
            "terms": {n: {"raw": v, "weight": w, "weighted": v * w} for n, (v, w) in flat.items()},
        }
        self._write(row)
        assert self.progress is not None
        self.progress.advance(0, f"loss {loss:.3f}")
        self._mark()

    def _write(self, row: dict[str, Any]) -> None:
        if rank() != 0:
            return
        self.record.append(row)
        if self._board is not None:
            for key, value in row.items():
                if isinstance(value, float) and key not in ("step", "epoch"):
                    self._board.add_scalar(f"{row['kind']}/{key}", value, row["step"])
            for name, term in row.get("terms", {}).items():
                self._board.add_scalar(f"terms/{name}", term["raw"], row["step"])

    def _validate(self) -> None:
        self.validated = self.step
        scores = self.evaluate(self.student)
        if (hear := getattr(self.procedure, "validated", None)) is not None:
            hear(scores)
        self._write({"kind": "validation", "step": self.step, "epoch": self.epoch, **scores})
        metric = self.metric
        if not self.best or metric is None or scores[metric] > self.best["validation"][metric]:
            self.best = {"step": self.step, "epoch": self.epoch, "validation": scores}
            self.since_best = 0
            weights = full(trained(self.student))
            if rank() == 0:
                checkpoint.save_weights(self.record.path / best_file(self.student), weights)
        else:
            self.since_best += 1
            self.stopped_early = (
                self.config.early_stop is not None and self.since_best >= self.config.early_stop
            )
        self._mark()

    # ------------------------------------------------------------------------------------ save and restore

    def _save(self) -> None:
        random: list[Any] = [_random_state()]
        if world() > 1:
            from accelerate.utils import gather_object

            random = gather_object(random)
        players = {
            name: full({"module": trained(module), "optimizer": self.optimizers[name].state_dict()})
            for name, module in self.plain.items()
        }
        if rank() == 0:
            scaler = self.accelerator.scaler
            state = {
                "format": FORMAT,
                "identity": self.identity,
                "world": world(),
                "step": self.step,
                "epoch": self.epoch,
                "within": self.within,
                "steps_per_epoch": len(self.loader),
                "seconds": self.seconds,
                "processor": self.processor,
                "best": self.best,
                "since_best": self.since_best,
                "stopped_early": self.stopped_early,
                "validated": self.validated,
                "players": players,
                "procedure": self.procedure.state_dict(),
                "ema": None if self.ema is None else self.ema.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "random": random,
                "metrics_size": self.record.metrics_size(),
            }
            checkpoint.save(self.record.checkpoint, state)
        self._mark()

    def restore(self) -> None:
        """Go back to the last checkpoint of the record.

        Raises:
            CheckpointError: it is damaged, of another format, or of another teacher, data or process count.
        """
        state = checkpoint.load(self.record.checkpoint)
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.record.checkpoint} has another format",
                got=state.get("format"),
                expected=FORMAT,
                fix="resume it with the version of limbeck that wrote it",
            )
        if missing := [key for key in KEYS if key not in state]:
            raise CheckpointError(
                f"{self.record.checkpoint} is damaged: {', '.join(missing)} missing",
                fix="restore it from a copy, or start the run anew in another folder",
            )
        expected = {"world": world(), "steps_per_epoch": len(self.loader), **self.identity}
        found = {"world": state["world"], "steps_per_epoch": state["steps_per_epoch"], **state["identity"]}
        for key, value in expected.items():
            if found.get(key) != value:
                raise CheckpointError(
                    f"{self.record.path} was started with another {key.replace('_', ' ')}",
                    got=value,
                    expected=found.get(key),
                    fix="resume with what the run was started with",
                )
        try:
            for name, module in self.plain.items():
                found, own = state["players"][name], self.optimizers[name]
                put_back(module, found["module"])
                own.load_state_dict(shared_moments(found["optimizer"], own))
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.record.checkpoint} does not fit the networks of the run: {error}",
                fix="resume with the configuration that the run was started with",
            ) from None
        self.procedure.load_state_dict(state["procedure"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        for key in PLACE:
            setattr(self, key, state[key])
        self.processor = state.get("processor", 0.0)
        _set_random_state(state["random"][rank()])
        if rank() == 0:
            self.record.cut_metrics(state["metrics_size"])

    # ---------------------------------------------------------------------------------------------- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def remember(number: int, frame: object) -> None:
            if self._signal and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = number

        old = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _stop_if_asked(self) -> None:
        number = self._signal
        if world() > 1:  # all processes must agree; asking costs a round trip, so only now and then
            if self.step % self.config.log_every:
                return
            flags: Any = self.accelerator.gather(torch.tensor([number], device=self.accelerator.device))
            number = int(flags.max())
        if number:
            self._save()
            raise RunInterrupted(
                f"stopped by {signal.Signals(number).name} at step {self.step} of {self.steps}; "
                f"everything is saved in {self.record.path}",
                fix=f"go on with: limbeck distill --resume {self.record.path}",
                number=number,
            )


def _lenient() -> Any:
    """Distributed training in which a step may leave parameters out."""
    from accelerate import DistributedDataParallelKwargs

    return DistributedDataParallelKwargs(find_unused_parameters=True)


def _pieces(batch: Batch, count: int) -> list[Batch]:
    if count == 1:
        return [batch]
    rows = torch.arange(len(batch)).chunk(count)
    return [batch.rows(part) for part in rows if len(part)]


def _total(terms: Terms) -> Tensor:
    parts = [term.value if term.weight == 1 else term.value * term.weight for term in terms.values()]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _memory_mb(device: torch.device) -> float:
    """Peak memory: of the device where it counts it, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _board(record: Record, step: int) -> AbstractContextManager[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        from ..errors import DependencyError

        raise DependencyError(
            "train.tensorboard needs TensorBoard", fix="pip install 'limbeck[track]'"
        ) from None
    writer: AbstractContextManager[Any] = SummaryWriter(str(record.path / "tensorboard"), purge_step=step + 1)
    return writer
