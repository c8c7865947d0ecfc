"""What a user may say about distillation without data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from ..errors import suggest
from ..sections import Section
from .presets import PRESETS

GeneratorTerm = Literal[
    "bn", "ce", "one_hot", "activation", "balance", "kl", "mse", "l1", "js", "scl", "contrast", "tv", "l2"
]
StudentTerm = Literal["kl", "mse", "l1", "ce"]
ADVERSARIAL = frozenset({"kl", "mse", "l1", "js", "scl"})
"""Terms for which the student is asked too."""
SECTIONS = ("generator", "generator_terms", "student_terms")


class GeneratorConfig(Section):
    """Where images come from, and how fast their source learns."""

    name: str = Field(
        "conditional",
        description="conditional, unconditional, pixels (images themselves are trained), noise (nothing is), "
        "or the user's own code as module:callable",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="of the generator, such as width")
    latent: int = Field(256, ge=1, description="length of its noise")
    learning_rate: float = Field(1e-3, gt=0, description="of its Adam")
    betas: tuple[float, float] = (0.5, 0.999)
    schedule: Literal["constant", "cosine"] = "constant"
    weights: str | None = Field(None, description="safetensors file to start from")

    @property
    def learns(self) -> bool:
        """Whether anything is trained here."""
        return self.name != "noise"

    @property
    def drawn(self) -> bool:
        """Whether images are drawn anew from noise in every step, by a network."""
        return self.name not in ("noise", "pixels")


class DataFreeConfig(Section):
    """How images are made from the teacher alone, and what the student learns from them.

    A preset is a set of values, over which those beside it are put; terms are merged one by one, and a weight of 0
    leaves a term out.

    Example:
        >>> found = DataFreeConfig.model_validate({"preset": "cpsc", "generator_terms": {"scl": 0}})
        >>> found.generator.name, found.generator_terms["bn"], "scl" in found.of_generator
        ('conditional', 1.0, False)
    """

    preset: str | None = Field(None, description="an entry of limbeck.data_free.PRESETS")
    iterations: int = Field(50, ge=1, description="steps that count as an epoch")
    generator: GeneratorConfig = GeneratorConfig()
    generator_terms: dict[GeneratorTerm, float] = Field(
        default_factory=dict, description="what images are judged by: term -> weight"
    )
    student_terms: dict[StudentTerm, float] = Field(
        default_factory=dict, description="what the student learns from, unless methods are named"
    )
    generator_steps: int = Field(1, ge=1, description="updates of the generator in a step, or in a synthesis")
    student_steps: int = Field(1, ge=1, description="updates of the student in a step")
    rebuild_every: int | None = Field(
        None,
        ge=1,
        description="steps between syntheses, each of one batch by a new generator; null: it lives on",
    )
    memory: int = Field(0, ge=0, description="synthetic images that are kept; 0: each is seen once")
    student_mode: Literal["eval", "train"] = Field(
        "eval", description="of the student while the generator learns"
    )
    student_temperature: float = Field(
        1.0, gt=0, description="of the student's kl, which is multiplied by T^2"
    )
    contrast_temperature: float = Field(0.1, gt=0, description="of contrast (CMI)")
    scl_temperature: float = Field(0.07, gt=0, description="of scl (CPSC)")
    js_temperature: float = Field(3.0, gt=0, description="of js (ADI)")
    balance_base: float = Field(2.718281828459045, gt=1, description="of the logarithm of balance")
    decision: bool = Field(
        False, description="kl of the generator counts only images both answer alike (CMI)"
    )
    log_squares: bool = Field(False, description="mse in the logarithmic forms of the released CIFAR-10 runs")
    double_softmax: bool = Field(False, description="ce on probabilities, as in the released CPSC-DFKD")
    fresh_optimizer: bool = Field(False, description="the generator's Adam forgets its moments at each step")
    adapter: Literal["trained", "released"] = Field(
        "trained", description="scl between unlike widths: trained, then normalised; or untrained after it"
    )
    jitter: int = Field(0, ge=0, description="pixels by which images are shifted before they are judged")
    watch: Literal["synthetic", "validation"] = Field(
        "synthetic", description="what is measured during training; nothing is selected by it"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"preset": value}
        if not isinstance(value, Mapping):
            return value
        value = {("preset" if key == "name" else key): item for key, item in value.items()}
        name = value.get("preset")
        if name is None:
            return value
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}, nearest is {suggest(str(name), list(PRESETS))}")
        found = {**PRESETS[name], **value}
        for key in SECTIONS:
            own = value.get(key)
            if isinstance(own, Mapping):
                found[key] = {**PRESETS[name].get(key, {}), **own}
        return found

    @model_validator(mode="after")
    def _sound(self) -> DataFreeConfig:
        source, terms = self.generator, self.of_generator
        for name, weight in (*self.generator_terms.items(), *self.student_terms.items()):
            if weight < 0:
                raise ValueError(
                    f"the weight of {name} is below 0: adversarial terms have their sign already"
                )
        if source.learns and not terms:
            raise ValueError("generator_terms: the generator has nothing to learn from")
        if not source.learns and terms:
            raise ValueError(f"generator_terms: noise learns nothing, but {', '.join(terms)} would teach it")
        if source.name == "pixels" and self.rebuild_every is None:
            raise ValueError("generator.name=pixels makes one batch at a time: set rebuild_every")
        if self.rebuild_every is not None and not self.memory:
            raise ValueError("rebuild_every makes one batch at a time, for a memory: set memory")
        if source.name == "unconditional" and self.rebuild_every is None and "ce" in terms:
            raise ValueError("ce asks for classes that an unconditional generator is not told: use one_hot")
        if "contrast" in terms and self.rebuild_every is None:
            raise ValueError("contrast compares with remembered images: set rebuild_every and memory")
        return self

    @property
    def of_generator(self) -> dict[str, float]:
        """Terms of the generator that count."""
        return {name: weight for name, weight in self.generator_terms.items() if weight}

    @property
    def of_student(self) -> dict[str, float]:
        """Terms of the student that count."""
        return {name: weight for name, weight in self.student_terms.items() if weight}

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.preset or "data_free"
