"""``limbeck generate``: try a student on prompts, or let it answer a whole split."""

from __future__ import annotations

from pathlib import Path


def run(
    path: Path,
    prompts: list[str],
    data: str | None,
    out: Path | None,
    new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> None:
    """Print what the student of a run writes after each prompt, or write its answers into a file."""
    from ..data.text import read_tokenizer
    from ..errors import ConfigError
    from ..evaluation.answers import answer
    from ..evaluation.responses import respond
    from ..generation import Sampler
    from ..runs import Run

    found = Run(path)
    if not (path / "tokenizer").is_dir():
        raise ConfigError(f"the student of {path} writes no text", got=f"data {found.config.data.name}")
    if (data is None) != (out is None) or bool(prompts) == (data is not None):
        raise ConfigError("nothing to go on from, or two things", expected="--prompt, or --data with --out")
    tokenizer = read_tokenizer(str(path / "tokenizer"))
    sampler, student = Sampler(temperature=temperature, top_p=top_p), found.student()
    if data is not None and out is not None:
        count = answer(found, student, data, out, new_tokens=new_tokens, sampler=sampler, seed=seed)
        print(f"{count} answers: {out}")
        return
    written = respond(student, tokenizer, prompts, new_tokens=new_tokens, sampler=sampler, seed=seed)
    for prompt, response in zip(prompts, written, strict=True):
        print(f"{prompt}{response}")
