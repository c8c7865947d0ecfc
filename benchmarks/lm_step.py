"""What a step of a run on text costs over its models, over a loop by hand, and against TRL's GKD trainer.

    python benchmarks/lm_step.py [--quick] [--only NAME ...] [--threads N]

A Llama of 4 layers (width 256, 7 million weights) learns under one of 8 (width 512, 34 million), 8,000 tokens in the
vocabulary, 8 samples of 64 tokens in a batch, all with a label, float32, AdamW, gradients clipped at 1. Ours is the
whole step of a run: loader, teacher, student, loss, checks, optimiser, record. Two steps of both sides give the same
weights before anything is timed.

- ``gkd/trl``: the generalised JSD (beta 0.5) against a step of TRL's ``GKDTrainer`` from PyPI, driven by its own loop.
- ``gkd/by_hand``: against a loop by hand with both models' whole logits, as one writes it first.
- ``gkd/bare``: against the bare sum of its parts by hand, the same loss called directly: what the loop adds.
- ``dskd/by_hand``, ``dskd/bare``: the same for DSKD (second version) beside cross-entropy. TRL has no DSKD.

TRL is in ``trl`` of the virtual environment; ``make bench`` puts it there, without its dependencies.
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _pairs import Figure, compare, finish, parse, parser

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.config import parse as configured
from limbeck.data.text import TextData, TokenSplit
from limbeck.losses import Head, chunked_cross_entropy, chunked_divergence, dual_space, projector_start
from limbeck.tasks import LanguageModelling
from limbeck.teachers import LiveTeacher
from limbeck.training.language import LanguageParts
from limbeck.training.progress import Progress
from limbeck.training.record import Record
from limbeck.training.trainer import Trainer

sys.path.append(str(Path(sys.prefix) / "trl"))
VOCABULARY, ROWS, LENGTH, RATE, STEPS = 8000, 8, 64, 1e-3, 64
GOAL = 1.05
METHODS = {
    "gkd": {"name": "token_kd", "options": {"divergence": "jsd"}, "weight": 1.0},
    "dskd": {"name": "dskd"},
}
Models = tuple[nn.Module, nn.Module]
Step = Callable[[], object]


def models() -> Models:
    """Student and teacher from one seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = []
    for layers, width in ((4, 256), (8, 512)):
        torch.manual_seed(layers)
        sizes = {
            "hidden_size": width,
            "intermediate_size": 11 * width // 4,
            "num_attention_heads": width // 64,
        }
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, vocab_size=VOCABULARY, **sizes))
        model.lm_head.weight.data.mul_(5)
        made.append(model)
    return made[0], made[1].eval().requires_grad_(False)


def texts(rows: int) -> list[Tensor]:
    """Random ids, one more than a model is fed."""
    draws = torch.Generator().manual_seed(1)
    return list(torch.randint(3, VOCABULARY, (rows, LENGTH + 1), generator=draws))


def ours(kind: str, given: Models, ids: list[Tensor]) -> Step:
    """A step of a run."""
    train: dict[str, Any] = {"batch_size": ROWS, "epochs": 10**4, "precision": "fp32", "clip": 1.0}
    train |= {"schedule": {"name": "constant"}, "drop_last": True}
    train |= {"optimizer": {"name": "adamw", "learning_rate": RATE, "weight_decay": 0.0}}
    config = {"student": "causal:llama", "methods": [METHODS[kind]], "train": train}
    config |= {"label_weight": 0.0} if kind == "gkd" else {}
    split = TokenSplit([(x, x) for x in ids], "train")
    few = split.subset(torch.arange(ROWS))
    classes = tuple(map(str, range(VOCABULARY)))
    data = TextData("ids", split, few, few, classes, 0, (0, 0), (), ())
    live = LiveTeacher(given[1], LanguageModelling(VOCABULARY))
    parts = LanguageParts(configured(config), student=given[0], teacher=live, data=data)
    record = Record(Path(tempfile.mkdtemp()))
    record.open()
    loop = Trainer(
        parts.config.train,
        parts.procedure(),
        parts.loader,
        evaluate=lambda model: {"accuracy": 0.0},
        metric="accuracy",
        record=record,
        seed=0,
        accelerator=parts.accelerator,
        progress=Progress(1, "", quiet=True),
    )
    loop._mark()
    batches = itertools.chain.from_iterable(parts.loader.epoch(epoch) for epoch in itertools.count())
    return lambda: loop._one(next(batches))


def by_hand(kind: str, given: Models, ids: list[Tensor], bare: bool) -> Step:
    """The loop without Limbeck: ``bare`` calls its losses, otherwise they are written out over whole logits."""
    student, teacher = given
    own, other = student.lm_head.weight, teacher.lm_head.weight
    parameters: list[Any] = list(student.parameters())
    there, back = projector_start(own.detach(), other) if kind == "dskd" else (own.detach(), own)
    if kind == "dskd":
        parameters.append(there.requires_grad_())
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, fused=True)
    student.train()

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        if kind == "gkd" and not bare:
            with torch.no_grad():
                log_p = F.log_softmax(teacher(input_ids=x).logits, -1)
            return jsd(F.log_softmax(student(input_ids=x).logits, -1), log_p).sum() / labels.numel()
        with torch.no_grad():
            g = teacher.model(input_ids=x).last_hidden_state.flatten(0, 1)
        h = student.model(input_ids=x).last_hidden_state.flatten(0, 1)
        if kind == "gkd":
            return chunked_divergence(h, Head(own), g, Head(other), divergence="jsd")
        u, v, y = g @ there.T, h @ (back @ own.detach()).T, labels.flatten()
        if bare:
            terms = dual_space(h, Head(own), g, Head(other), u, v, temperature=2.0)
            return (chunked_cross_entropy(h, Head(own), y) + sum(terms[:3], h.new_zeros(()))) / 2
        mine, said, read, home = h @ own.T, g @ other.T, u @ own.detach().T, v @ other.T
        choice = said.argmax(1)
        agreed = (read.argmax(1) == choice).float()
        far = kl(read.detach(), mine).mul(agreed).sum() / agreed.sum().clamp(min=1e-3)
        near = kl(said, home).mean() + F.cross_entropy(read, choice)
        return (F.cross_entropy(mine, y) + far + near) / 2

    def steps() -> Iterator[None]:
        for epoch in itertools.count():
            order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(epoch))
            for rows in order.split(ROWS):
                batch = torch.stack([ids[i] for i in rows.tolist()])
                value = loss(batch[:, :-1], batch[:, 1:])
                value.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                optimiser.zero_grad()
                yield

    running = steps()
    return lambda: next(running)


def jsd(log_q: Tensor, log_p: Tensor) -> Tensor:
    log_m = torch.logaddexp(log_q, log_p) - torch.tensor(2.0).log()
    far, near = (F.kl_div(log_m, x, reduction="none", log_target=True) for x in (log_p, log_q))
    return (far + near) / 2


def kl(target: Tensor, logits: Tensor) -> Tensor:
    log_q, log_p = (F.log_softmax(x / 2, 1) for x in (logits, target))
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


class Trl:
    """TRL's trainer, whose loop runs in a thread and waits after every step."""

    def __init__(self, given: Models, ids: list[Tensor]) -> None:
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        from datasets import Dataset
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from transformers import PreTrainedTokenizerFast, TrainerCallback
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        words = Tokenizer(WordLevel({"<eos>": 0}, unk_token="<eos>"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<eos>")
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        outer = self

        class Wait(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                outer._done.release()
                outer._go.acquire()

        options: dict[str, Any] = {
            "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": ROWS, "max_steps": 10**6, "beta": 0.5,
            "lmbda": 0.0, "learning_rate": RATE, "lr_scheduler_type": "constant", "max_grad_norm": 1.0,
            "gradient_checkpointing": False, "bf16": False, "report_to": "none", "save_strategy": "no",
            "use_cpu": True, "disable_tqdm": True, "logging_steps": 10, "seed": 0, "dataloader_drop_last": True,
        }  # fmt: skip

        def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
            batch = torch.stack([torch.as_tensor(row["input_ids"]) for row in rows])
            return {"input_ids": batch, "attention_mask": torch.ones_like(batch), "labels": batch}

        self.trainer = GKDTrainer(
            model=given[0], teacher_model=given[1], args=GKDConfig(**options), data_collator=collate,
            train_dataset=Dataset.from_dict({"input_ids": [x.tolist() for x in ids]}).with_format("torch"),
            processing_class=tokenizer, callbacks=[Wait()],
        )  # fmt: skip
        threads = torch.get_num_threads()

        def run() -> None:
            torch.set_num_threads(threads)  # a setting of each thread
            self._go.acquire()
            self.trainer.train()

        threading.Thread(target=run, daemon=True).start()

    def __call__(self) -> None:
        self._go.release()
        self._done.acquire()


PAIRS: dict[str, tuple[str, Callable[[Models, list[Tensor]], Step]]] = {
    "gkd/trl": ("gkd", Trl),
    "gkd/by_hand": ("gkd", lambda given, ids: by_hand("gkd", given, ids, bare=False)),
    "gkd/bare": ("gkd", lambda given, ids: by_hand("gkd", given, ids, bare=True)),
    "dskd/by_hand": ("dskd", lambda given, ids: by_hand("dskd", given, ids, bare=False)),
    "dskd/bare": ("dskd", lambda given, ids: by_hand("dskd", given, ids, bare=True)),
}
"""Name -> our method, and what it is measured against."""


def sides(name: str, rows: int) -> list[tuple[Step, nn.Module]]:
    """Both sides of a pair with their students, which begin alike; the teacher is one."""
    (kind, other), found = PAIRS[name], []
    student, teacher = models()
    for make in (lambda given, ids: ours(kind, given, ids), other):
        given = copy.deepcopy(student), teacher
        found.append((make(given, texts(rows)), given[0]))
    return found


def check(name: str) -> None:
    """Both sides' students are moved alike: by two steps on one batch."""
    start = nn.utils.parameters_to_vector(models()[0].parameters())
    moved = []
    for step, student in sides(name, ROWS):
        step()
        step()
        moved.append(nn.utils.parameters_to_vector(student.parameters()).detach() - start)
    apart = float((moved[0] - moved[1]).abs().mean() / moved[1].abs().mean())
    assert apart < 0.01, f"{name}: the steps differ by {apart:.2g}"


def measured(name: str, pairs: int) -> Figure:
    """Ratio of our step's time to the other's."""
    (mine, _), (other, _) = sides(name, ROWS * STEPS)
    return compare(f"lm_step/{name}", mine, other, goal=GOAL, pairs=pairs, warmup=3, least=0)


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--only", nargs="+", default=list(PAIRS), metavar="NAME", help="these pairs")
    given, figures = parse(words), []
    for name in given.only:
        check(name)
        figures.append(measured(name, 9 if given.quick else 31))
        print(figures[-1].line(), file=sys.stderr, flush=True)
    finish(figures)


if __name__ == "__main__":
    main()
