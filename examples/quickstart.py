"""Train a teacher, then a small student from scratch and by BicKD (reconstructed); read the verdict."""

import tempfile
from pathlib import Path

import limbeck

folder = Path(tempfile.mkdtemp())
few = {"name": "digits", "train_size": 200}
loop = {"epochs": 30, "batch_size": 25, "precision": "fp32", "threads": 1}

teacher = limbeck.train("resnet8", "digits", output=folder / "teacher", train=loop, quiet=True)
runs = []
for seed in range(2):
    for name in (None, "bickd"):
        path = folder / f"{name}-{seed}"
        source = teacher if name else None
        run = limbeck.distill("cnn", source, few, method=name, output=path, seed=seed, train=loop, quiet=True)
        runs.append(run.path)
        print(f"{name or 'scratch'}, seed {seed}: {run.accuracy:.1%}")
print(limbeck.report.write(runs, folder / "report.html"))
