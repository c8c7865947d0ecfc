"""The same grid on a Ray cluster: each run a task; the study's folder must be one that all nodes see."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import DependencyError, RunError
from .grid import Cell
from .pool import ATTEMPTS, Event, Queue
from .worker import Relay, Workshop, attempt

_shops: dict[str, Workshop] = {}
"""Of this Ray process, which serves several runs one after another."""


def work(config: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Train one run in a process of Ray."""
    from ..config import parse

    shop = _shops.setdefault(repr(options), Workshop(options["allow_code"], options["keep_checkpoints"]))
    return attempt(shop, parse(config), Relay(lambda message: None))


def _knock(address: str) -> None:
    """Ray itself asks an address that does not answer for minutes, in lines of its own."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # local, or a name that Ray knows
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise RunError(
            f"no Ray cluster at {address}: {error.strerror or error}", fix="check the address, or give local"
        ) from None


class RayPool:
    """Hands runs to Ray; a run whose process dies is given out once more.

    Args:
        address: of the cluster, or ``local`` for one on this machine that ends with the study.
        options: ``allow_code`` and ``keep_checkpoints``.

    Raises:
        DependencyError: Ray is not installed.
        RunError: no cluster answers there.
    """

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        try:
            import ray
        except ImportError:
            raise DependencyError("--ray needs Ray", fix="pip install 'limbeck[scale]'") from None
        self._ray: Any = ray
        self.options = options
        settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        _knock(address)
        try:
            ray.init(
                address=None if address == "local" else address,
                runtime_env={"env_vars": settings},
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RunError(
                f"no Ray cluster at {address}: {error}", fix="check the address, or give local"
            ) from None
        self._task = ray.remote(num_cpus=1, max_retries=0)(work)
        self._attempts: dict[str, int] = {}

    def run(self, cells: Sequence[Cell], tell: Callable[[Event], None]) -> None:
        """Train all of them; returns when each has finished or failed."""
        queue = Queue(cells)
        going: dict[Any, Cell] = {}
        while queue:
            while (cell := queue.take()) is not None:
                going[self._task.remote(cell.config.model_dump(mode="json"), self.options)] = cell
                tell(Event("started", cell, 0))
            (ready, *_), _ = self._ray.wait(list(going), num_returns=1)
            cell = going.pop(ready)
            try:
                answer = self._ray.get(ready)
            except self._ray.exceptions.RayError as error:
                answer = {"event": "lost", "error": f"its process died: {str(error).splitlines()[0]}"}
            if answer["event"] in ("lost", "interrupted"):
                self._attempts[cell.key] = self._attempts.get(cell.key, 0) + 1
                if self._attempts[cell.key] < ATTEMPTS:
                    queue.back(cell)
                    tell(
                        Event(
                            "lost",
                            cell,
                            0,
                            text=answer.get("error", "it was stopped") + "; it is tried again",
                        )
                    )
                    continue
            error_text = "" if answer["event"] == "finished" else answer.get("error", "it was stopped")
            tell(Event("failed" if error_text else "finished", cell, 0, text=error_text))
            for orphan in queue.done(cell, ok=not error_text):
                tell(Event("failed", orphan, 0, text=f"its teacher {cell.key} failed"))

    def close(self) -> None:
        """Leave the cluster; one of this machine ends, and its runs resume next time."""
        self._ray.shutdown()
