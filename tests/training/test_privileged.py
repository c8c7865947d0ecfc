"""Runs on several modalities: students that see less than their teachers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.methods.running import stopped_run
from tests.running import launch

from limbeck.config import RunConfig, parse
from limbeck.errors import ConfigError, DataError, GuardError, LimbeckError
from limbeck.runs import Run
from limbeck.training.session import assemble, execute, score

N = 240
LOOP = {
    "epochs": 2,
    "batch_size": 40,
    "precision": "fp32",
    "log_every": 1,
    "threads": 1,
    "channels_last": False,
}
WIDTH = {"width": 8, "hidden": [16], "dropout": 0.0}


def file(folder: Path, continuous: bool = False) -> str:
    """A good modality, a noisy one, and what both are of."""
    random = np.random.default_rng(0)
    hidden = random.normal(size=(N, 3)).astype(np.float32)
    heart = hidden @ random.normal(size=(3, 6)).astype(np.float32)
    face = heart[:, :4] + random.normal(size=(N, 4)).astype(np.float32) * 2
    y = hidden[:, :2] if continuous else hidden.argmax(1)
    path = folder / f"{'numbers' if continuous else 'classes'}.npz"
    np.savez(path, heart=heart, face=face, y=y)
    return str(path)


def network(**options: Any) -> dict[str, Any]:
    return {"name": "fusion", "options": {**WIDTH, **options}}


STUDENT = network(sees=["face"], imagines=["heart"])


def config(
    folder: Path, path: str, student: dict[str, Any], methods: Sequence[Any] = (), **more: Any
) -> RunConfig:
    data = {
        "name": "multimodal",
        "path": path,
        "labelled": 60,
        "labelled_per_batch": 20,
        **more.pop("data", {}),
    }
    train = {
        **LOOP,
        "optimizer": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0},
        **more.pop("train", {}),
    }
    values = {"data": data, "student": student, "methods": list(methods), "train": train, "latency": False}
    return parse({**values, "output": str(folder), **more})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files, and a teacher with streams for each."""
    folder = tmp_path_factory.mktemp("privileged")
    for kind in ("classes", "numbers"):
        path = file(folder, kind == "numbers")
        wide = network(sees=["face", "heart"], streams=True)
        execute(config(folder / f"teacher-{kind}", path, wide, ["mt_alignment"], train={"epochs": 20}))
    return folder


METHODS: dict[str, list[Any]] = {
    "pkdot": ["pkdot", "tnet"],
    "released": [{"name": "pkdot", "preset": "pkdot_released", "k": 10, "centroid": 0.2}, "tnet"],
    "mt_pkdot": ["mt_pkdot", "tnet"],
    "mt_pkdot sample": [{"name": "mt_pkdot", "select": "sample"}, {"name": "tnet", "loss": "mmd"}],
    "m2pkd": ["m2pkd", "tnet"],
    "first the T-Net": [{"name": "tnet", "initial_epochs": 1, "weight": 0.0}, "pkdot"],
    "sp": ["sp", "tnet"],
}


def taught(made: Path, kind: str) -> dict[str, Any]:
    return {"teacher": {"run": str(made / f"teacher-{kind}")}}


@pytest.mark.parametrize("kind", ["classes", "numbers"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_on_classes_and_on_numbers(
    name: str, kind: str, made: Path, tmp_path: Path
) -> None:
    run = execute(
        config(tmp_path / "run", str(made / f"{kind}.npz"), STUDENT, METHODS[name], **taught(made, kind))
    )
    metric = "accuracy" if kind == "classes" else "ccc"
    assert np.isfinite(run.results["last"]["test"][metric])
    assert run.results["teacher"]["test"][metric] > 0.55
    assert all(np.isfinite(row["loss"]) for row in run.metrics("train"))


@pytest.mark.parametrize("name", ["mt_pkdot", "first the T-Net"])
def test_a_stopped_run_ends_in_the_same_weights(
    name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(folder: str) -> RunConfig:
        path = str(made / "classes.npz")
        return config(tmp_path / folder, path, STUDENT, METHODS[name], **taught(made, "classes"))

    whole = execute(of("whole")).student().state_dict()
    again = stopped_run(monkeypatch, 7, of("again")).student().state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in whole.items())


def test_the_tnet_is_saved_with_the_student_and_gives_the_same_outputs(made: Path, tmp_path: Path) -> None:
    settings = config(
        tmp_path / "run", str(made / "classes.npz"), STUDENT, ["tnet", "pkdot"], **taught(made, "classes")
    )
    run = execute(settings)
    weights = run.student().state_dict()
    fresh = assemble(settings).learner.student.state_dict()
    moved = [key for key in weights if key.startswith("tnets.") and not torch.equal(weights[key], fresh[key])]
    assert len(moved) == sum(key.startswith("tnets.") for key in weights) > 0
    again = Run(run.path)
    assert again.inputs().modalities is not None
    rows = assemble(settings).data.test.fetch(torch.arange(9))[0]
    with torch.no_grad():
        first = again.student()(rows)
        assert torch.equal(first, Run(run.path).student()(rows))
    assert score(run, "test")["accuracy"] == pytest.approx(run.results["last"]["test"]["accuracy"])
    changed = Run(run.path).student()
    with torch.no_grad():
        changed.tnets["heart"].layers[-1].bias += 3.0  # type: ignore[index, union-attr, operator]
    assert not torch.allclose(changed(rows), first)  # what it supplies matters


def test_samples_that_the_teacher_does_not_see_whole_are_in_neither_cloud(made: Path, tmp_path: Path) -> None:
    settings = config(
        tmp_path / "run", str(made / "classes.npz"), network(sees=["face"]), [{"name": "pkdot"}],
        data={"absent": {"heart": 0.5}, "labelled_per_batch": None}, **taught(made, "classes"),
    )  # fmt: skip
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"guards": "warn"})})
    parts = assemble(settings)
    batch = next(parts.loader.epoch(0))
    assert parts.teacher is not None
    signals = parts.teacher.signals(batch)
    known = signals.extra["known"]
    assert 0 < int(known.sum()) < len(batch)
    terms = parts.learner.eval()(batch, signals)
    other = batch.inputs.clone()
    other[~known] += 5.0 * ((torch.arange(other.shape[1]) // 2).clamp(max=5) == 3)
    batch.inputs = other
    again = parts.learner(batch, parts.teacher.signals(batch))
    assert torch.equal(terms["pkdot"].value, again["pkdot"].value)
    assert not torch.equal(terms["cross_entropy"].value, again["cross_entropy"].value)
    run = execute(settings)
    assert run.status == "finished"


def test_labels_play_no_part_in_the_transport(made: Path, tmp_path: Path) -> None:
    settings = config(
        tmp_path / "run",
        str(made / "classes.npz"),
        network(sees=["face"]),
        ["pkdot"],
        **taught(made, "classes"),
    )
    parts = assemble(settings)
    batch = next(parts.loader.epoch(0))
    assert parts.teacher is not None
    learner, signals = parts.learner.eval(), parts.teacher.signals(batch)
    before = learner(batch, signals)["pkdot"].value
    batch.labels = torch.full_like(batch.labels, -100)
    assert torch.equal(learner(batch, signals)["pkdot"].value, before)
    one = batch.rows(torch.arange(1))
    assert float(learner(one, parts.teacher.signals(one))["pkdot"].value.detach()) == 0


def test_the_worse_modality_is_not_chosen(made: Path, tmp_path: Path) -> None:
    path = str(made / "classes.npz")
    student = network(sees=["heart"])
    settings = config(tmp_path / "run", path, student, ["mt_pkdot"], **taught(made, "classes"))
    run = execute(settings)
    shares = [row["terms"]["mt_pkdot.joint"]["raw"] for row in run.metrics("train")]
    assert all(share in (0.0, 1.0) for share in shares)
    careful = {"name": "mt_pkdot", "margin": 100.0}
    run = execute(config(tmp_path / "careful", path, student, [careful], **taught(made, "classes")))
    assert all(row["terms"]["mt_pkdot.joint"]["raw"] == 1 for row in run.metrics("train"))


def test_lower_precision_runs(made: Path, tmp_path: Path) -> None:
    more = {"train": {"precision": "bf16"}, **taught(made, "classes")}
    run = execute(config(tmp_path / "run", str(made / "classes.npz"), STUDENT, ["tnet", "mt_pkdot"], **more))
    assert run.info["precision"] == "bf16"


@pytest.mark.parametrize(
    ("kind", "student", "methods", "more", "words"),
    [
        ("classes", STUDENT, ["pkdot"], {}, "nothing trains the student's T-Net for heart"),
        ("numbers", network(sees=["face"]), ["kd"], {}, "kd compares class scores"),
        ("classes", network(sees=["face"]), [{"name": "pkdot", "preset": "pkdot_released", "k": 40}], {}, "batches of 40"),  # noqa: E501
        ("classes", network(sees=["face"]), ["tnet"], {}, "the student has none"),
        ("classes", network(sees=["hart"]), [], {}, "no modality 'hart'"),
        ("classes", {"name": "mlp"}, [], {}, "reads one image"),
        ("classes", STUDENT, [], {"data": {"name": "digits", "labelled": None, "labelled_per_batch": None}}, "has none"),  # noqa: E501
        ("classes", network(sees=["face"]), ["mt_alignment"], {}, "stream for each modality"),
        ("classes", network(sees=["face"]), [], {"augment": {"flip": True}}, "has no augment"),
        ("classes", network(sees=["face"]), ["pkdot"], {"train": {"accumulate": 2}}, "has no train.accumulate"),
        ("classes", network(sees=["face"]), ["kd"], {"cache": "memory"}, "has no teacher.cache"),
        ("classes", network(sees=["face"]), ["pkdot"], {"data": {"modalities": ["face"]}}, "the teacher was trained on"),  # noqa: E501
        ("classes", network(sees=["face"]), ["pkdot"], {"data": {"split_seed": 3}}, "split_seed included"),
        ("classes", network(sees=["face"]), ["pkdot"], {"data": {"absent": {"heart": 1.0}}}, "missing in every training"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_line(
    kind: str, student: Any, methods: list[Any], more: dict[str, Any], words: str, made: Path, tmp_path: Path
) -> None:
    teacher = {"teacher": {"run": str(made / f"teacher-{kind}"), "cache": more.pop("cache", "none")}}
    needs = methods and methods != ["mt_alignment"]
    with pytest.raises(LimbeckError, match=words) as found:
        execute(
            config(
                tmp_path / "run",
                str(made / f"{kind}.npz"),
                student,
                methods,
                **more,
                **(teacher if needs else {}),
            )
        )
    if not isinstance(found.value, GuardError):
        assert "\n" not in str(found.value)
    assert isinstance(found.value, (ConfigError, DataError, LimbeckError))


@pytest.mark.slow
def test_two_processes_see_the_whole_batch(made: Path, tmp_path: Path) -> None:
    import yaml

    runs = {}
    for name, start in (("one", None), ("two", launch)):
        settings = config(
            tmp_path / name, str(made / "classes.npz"), network(sees=["face"]), ["pkdot"],
            **taught(made, "classes"), label_weight=0.0,
            train={"optimizer": {"name": "sgd", "learning_rate": 0.01}},  # Adam divides rounding by itself
        )  # fmt: skip
        if start is None:
            runs[name] = execute(settings)
            continue
        (tmp_path / "two.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
        done = start("distill", tmp_path / "two.yaml")
        assert done.returncode == 0, done.stderr
        runs[name] = Run(tmp_path / name)
    mine, theirs = (runs[name].student().state_dict() for name in runs)
    assert all(torch.allclose(tensor, theirs[key], atol=1e-4) for key, tensor in mine.items())
