"""A finished (or unfinished) run as an object."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from .config import RunConfig, load_yaml, parse
from .errors import RunError

if TYPE_CHECKING:
    from torch import nn

    from .teachers import Inputs


class Run:
    """A run folder.

    Args:
        path: the folder.

    Raises:
        RunError: there is no run in it.

    Example:
        >>> Run("nowhere")
        Traceback (most recent call last):
        limbeck.errors.RunError: no run in nowhere; expected a folder with config.yaml and run.json. Fix: check the path
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file() or not (self.path / "run.json").is_file():
            raise RunError(
                f"no run in {self.path}",
                expected="a folder with config.yaml and run.json",
                fix="check the path",
            )

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _read(self, name: str, *keys: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is not a mapping")
            if missing := [key for key in keys if key not in found]:
                raise ValueError(f"{', '.join(missing)} is missing")
            return found
        except FileNotFoundError:
            raise RunError(
                f"{self.path} has no {name}",
                got=f"a run that is {self.status}" if name != "run.json" else None,
                fix=f"finish it with: limbeck distill --resume {self.path}",
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.path / name} is damaged: {error}", fix="restore it, or run again in a new folder"
            ) from None

    @property
    def info(self) -> dict[str, Any]:
        """``run.json``: name, label, seed, status, seconds and so on."""
        return self._read("run.json", "name", "label", "data", "status", "reconstructed")

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``interrupted`` or ``failed``."""
        return str(self.info["status"])

    @property
    def config(self) -> RunConfig:
        """The whole configuration."""
        try:
            values = load_yaml((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RunError(f"{self.path / 'config.yaml'} is damaged: {error}") from None
        if not isinstance(values, dict):
            raise RunError(f"{self.path / 'config.yaml'} is damaged: it holds no keys")
        return parse(values)

    @property
    def results(self) -> dict[str, Any]:
        """``results.json``: last and best epoch on validation and test, and the cost."""
        return self._read("results.json", "last", "best")

    @property
    def accuracy(self) -> float:
        """Test accuracy of the last epoch, in [0, 1]."""
        return float(self.results["last"]["test"]["accuracy"])

    def metrics(self, kind: Literal["train", "validation"] | None = None) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``, all or of one kind; a last line still being written is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        try:
            rows = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}", fix="restore it from a copy") from None
        return [row for row in rows if kind is None or row["kind"] == kind]

    def card(self) -> dict[str, Any]:
        """``model.json``: all that rebuilds the student beside its weights."""
        card = self._read("model.json", "model", "classes", "channels", "size", "mean", "std")
        if not isinstance(card["model"], dict) or not {"name", "options"} <= set(card["model"]):
            raise RunError(f"{self.path / 'model.json'} is damaged: model is not a name with options")
        return card

    def inputs(self) -> Inputs:
        """What the student is fed: channels, size and normalisation."""
        from .modalities import Modalities
        from .teachers import Inputs

        card = self.card()
        named = card.get("modalities")
        return Inputs(
            card["channels"],
            tuple(card["size"]),
            tuple(card["mean"]),
            tuple(card["std"]),
            None if named is None else Modalities.of(named),
        )

    def images(self, what: str) -> Inputs:
        """``inputs`` of a student of images.

        Args:
            what: what needs them, for the message.

        Raises:
            ConfigError: the student reads text or several modalities.
        """
        from .errors import ConfigError

        inputs = self.inputs()
        if not inputs.channels:
            reads = "text" if inputs.modalities is None else ", ".join(inputs.modalities.names)
            raise ConfigError(f"{what} needs a student of images", got=f"{self.path}, which reads {reads}")
        return inputs

    def student(
        self,
        checkpoint: Literal["last", "best"] = "last",
        *,
        model: nn.Module | None = None,
        allow_code: Collection[str] = (),
    ) -> nn.Module:
        """The trained student in evaluation mode.

        Args:
            checkpoint: weights of the last epoch, or of the best on validation.
            model: the network to fill, for a student that was handed over in Python.
            allow_code: names ``module:callable`` that the user agreed to run.

        Raises:
            RunError: the run is not finished.
            CheckpointError, ModelError: the weights are damaged or do not fit.
        """
        from .bayes import BayesConfig, Posterior, posterior
        from .config import ModelConfig, check
        from .training.checkpoint import fill, load_weights
        from .training.networks import make

        card = self.card()
        path = self.path / ("student.safetensors" if checkpoint == "last" else "best.safetensors")
        weights = load_weights(path)
        if model is None:
            network = ModelConfig(name=card["model"]["name"], options=card["model"]["options"])
            model = make(network, classes=len(card["classes"]), inputs=self.inputs(), allow_code=allow_code)
        if (bayes := card.get("bayes")) is not None and not isinstance(model, Posterior):
            model = posterior(check(BayesConfig, bayes, f"bayes of {self.path / 'model.json'}"), model)
        fill(model, weights, path)
        return model.eval()
