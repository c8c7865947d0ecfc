"""The family's methods by name: constants of papers and of released code, at published size."""

from __future__ import annotations

from typing import Any

CPSC: dict[str, Any] = {
    "generator": {"name": "conditional", "latent": 256, "learning_rate": 1e-3},
    "generator_terms": {"bn": 1.0, "ce": 0.7, "kl": 1.0, "mse": 5.0, "scl": 0.7},
    "student_terms": {"kl": 1.0, "mse": 5.0, "ce": 0.7},
    "generator_steps": 6,
    "student_steps": 5,
}

PRESETS: dict[str, dict[str, Any]] = {
    "cpsc": CPSC,
    "cpsc_official": {
        **CPSC,
        "double_softmax": True,
        "fresh_optimizer": True,
        "adapter": "released",
        "student_mode": "train",
    },
    "dafl": {
        "generator": {"name": "unconditional", "latent": 100, "learning_rate": 1e-3},
        "generator_terms": {"one_hot": 1.0, "balance": 5.0, "activation": 0.1},
        "balance_base": 10.0,
        "student_terms": {"kl": 1.0},
        "generator_steps": 1,
        "student_steps": 1,
    },
    "dfad": {
        "generator": {"name": "unconditional", "latent": 256, "learning_rate": 1e-3},
        "generator_terms": {"l1": 1.0},
        "student_terms": {"l1": 1.0},
        "generator_steps": 1,
        "student_steps": 5,
    },
    "dfq": {
        "generator": {"name": "unconditional", "latent": 256, "learning_rate": 1e-3},
        "generator_terms": {"bn": 1.0, "one_hot": 1.0, "balance": 20.0, "kl": 1.0},
        "student_terms": {"kl": 1.0},
        "generator_steps": 1,
        "student_steps": 10,
    },
    "deepinversion": {
        "generator": {"name": "pixels", "learning_rate": 0.05},
        "generator_terms": {"ce": 1.0, "bn": 10.0, "tv": 2.5e-5},
        "jitter": 2,
        "student_terms": {"kl": 1.0},
        "generator_steps": 2000,
        "rebuild_every": 50,
        "student_steps": 1,
        "memory": 40960,
    },
    "adi": {
        "generator": {"name": "pixels", "learning_rate": 0.05},
        "generator_terms": {"ce": 1.0, "bn": 10.0, "tv": 2.5e-5, "js": 1.0},
        "jitter": 2,
        "student_terms": {"kl": 1.0},
        "generator_steps": 2000,
        "rebuild_every": 50,
        "student_steps": 1,
        "memory": 40960,
    },
    "cmi": {
        "generator": {"name": "unconditional", "latent": 256, "learning_rate": 1e-3},
        "generator_terms": {"bn": 1.0, "ce": 0.5, "kl": 0.5, "contrast": 0.8},
        "decision": True,
        "student_terms": {"kl": 1.0},
        "student_temperature": 20.0,
        "generator_steps": 200,
        "rebuild_every": 50,
        "student_steps": 1,
        "memory": 40960,
    },
    "noise": {"generator": {"name": "noise"}, "student_terms": {"kl": 1.0}, "student_steps": 5},
}
"""Every preset that a configuration can name, as the settings that it stands for.

``cpsc`` is mended where the released code slips: cross-entropy on logits, an optimiser that keeps its moments,
embeddings normalised after a trained adapter, a student in evaluation mode while the generator learns.
``cpsc_official`` does as the code does. Weights of ``adi``'s competition and the pace of the three with a memory
are Limbeck's choice; the rest is as in the papers' repositories.
"""
