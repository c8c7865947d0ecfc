"""Processes that have the libraries loaded already.

Reads requests, one JSON line each: a list of jobs, each with the words after ``python -m limbeck``, a working
folder, an environment and files for its output. Forks one process a job, each of which then runs as
``python -m limbeck`` would, down to the interpreter's own end. Answers with their ids, then with a line for each
that ended.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any

LOADED = (
    "accelerate.utils",
    "sklearn.datasets",
    "scipy.stats",
    "safetensors.torch",
    "matplotlib.figure",
    "torch.distributed",
    "transformers",
    "transformers.models.gpt2.modeling_gpt2",
    "limbeck.cli.app",
    "limbeck.training.session",
    "limbeck.study.runner",
    "limbeck.report.page",
)


def become(job: dict[str, Any]) -> None:
    """Turn this process into the command."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    null = os.open(os.devnull, os.O_RDONLY)
    out, err = (os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err"))
    for number, file in enumerate((null, out, err)):
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["limbeck", *job["words"]]
    sys.path[0] = job["cwd"]


def serve() -> dict[str, Any] | None:
    """Fork for requests until there are no more; returns the job in a forked process."""
    for line in sys.stdin:
        started = []
        for job in json.loads(line):
            pid = os.fork()
            if not pid:
                return job
            started.append(pid)
        print(json.dumps(started), flush=True)
        for _ in started:
            pid, status = os.waitpid(-1, 0)
            print(json.dumps([pid, os.waitstatus_to_exitcode(status)]), flush=True)
    return None


if __name__ == "__main__":
    for name in LOADED:
        __import__(name)
    if (mine := serve()) is not None:
        become(mine)
        runpy.run_module("limbeck", run_name="__main__", alter_sys=True)
