"""Gathering rows over processes keeps the gradient of the global loss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed as dist
from torch import multiprocessing

from limbeck.training.gather import gather, rank, world


def _loss(x: torch.Tensor) -> torch.Tensor:
    return (torch.softmax(x @ x.T, dim=1).diagonal().log() * torch.arange(1, len(x) + 1)).sum()


def _worker(number: int, file: str, data: torch.Tensor, weight: torch.Tensor, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=number, world_size=2)
    assert (rank(), world()) == (number, 2)
    own = weight.clone().requires_grad_()
    half = data[number * 3 : number * 3 + 3]
    _loss(gather(half @ own)).backward()
    gradient = own.grad
    assert gradient is not None
    dist.all_reduce(gradient)
    if number == 0:
        torch.save(gradient / 2, out)
    dist.destroy_process_group()


def test_gradient_of_the_global_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, weight = torch.randn(6, 4, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    context = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "meet"), data, weight, str(tmp_path / "gradient.pt"))
    workers = [context.Process(target=_worker, args=(i, *arguments)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    own = weight.clone().requires_grad_()
    _loss(data @ own).backward()
    assert own.grad is not None
    torch.testing.assert_close(torch.load(tmp_path / "gradient.pt", weights_only=True), own.grad)


def test_alone_it_is_the_same_tensor() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    assert gather(x) is x
