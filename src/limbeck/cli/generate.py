"""``limbeck generate``: try a student on prompts."""

from __future__ import annotations

from pathlib import Path


def run(path: Path, prompts: list[str], new_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    """Print what the student of a run writes after each prompt."""
    from ..data.text import read_tokenizer
    from ..errors import ConfigError
    from ..evaluation.responses import respond
    from ..generation import Sampler
    from ..runs import Run

    found = Run(path)
    if found.config.data.name != "text":
        raise ConfigError(f"the student of {path} writes no text", got=f"data {found.config.data.name}")
    tokenizer = read_tokenizer(str(path / "tokenizer"))
    sampler = Sampler(temperature=temperature, top_p=top_p)
    for prompt, response in zip(
        prompts,
        respond(found.student(), tokenizer, prompts, new_tokens=new_tokens, sampler=sampler, seed=seed),
        strict=True,
    ):
        print(f"{prompt}{response}")
