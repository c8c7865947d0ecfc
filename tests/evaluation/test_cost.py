"""Parameters and FLOPs by closed form; latency leaves the network as it was."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.evaluation import cost


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def test_counts_have_their_closed_form() -> None:
    figures = cost(net(), (3, 16, 12), latency=False)
    assert figures["parameters"] == 3 * 8 * 9 + 16 + 8 * 5 + 5
    assert figures["flops"] == 2 * (16 * 12 * 8 * 3 * 9 + 8 * 5)
    assert set(figures) == {"parameters", "flops", "threads", "device"}


def test_grouped_and_strided_convolution() -> None:
    model = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
    assert cost(model, (4, 8, 8), latency=False)["flops"] == 2 * 4 * 4 * 8 * 2 * 9


def test_a_parameter_used_twice_counts_once() -> None:
    layer = nn.Linear(4, 4)
    figures = cost(nn.Sequential(layer, layer), (4,), latency=False)
    assert (figures["parameters"], figures["flops"]) == (20, 64)


def test_latency_is_measured_and_bounded() -> None:
    start = time.perf_counter()
    figures = cost(net(), (3, 16, 16))
    assert time.perf_counter() - start < 10
    assert 0 < figures["latency_ms_1"] < figures["latency_ms_256"]
    assert figures["threads"] == torch.get_num_threads()


def test_calls_are_bounded_by_repeats_and_budget() -> None:
    calls: list[int] = []

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            time.sleep(0.02)
            return x

    cost(Slow(), (2,), batches=(3,), repeats=4, budget=10.0)
    assert calls == [1] + [3] * (2 + 4)
    calls.clear()
    cost(Slow(), (2,), batches=(3,), budget=0.0)
    assert calls == [1, 3, 3]


def test_the_network_is_left_as_it_was() -> None:
    model = net().train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    cost(model, (3, 16, 16), repeats=2)
    assert [m.training for m in model] == [True, False, True, True, True, True, True]
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    loss = model(torch.randn(4, 3, 16, 16)).sum()
    loss.backward()
    assert model[0].weight.grad is not None


def test_modes_are_restored_after_a_failure() -> None:
    model = net().train()
    with pytest.raises(ModelError, match=r"input of shape \(1, 5, 16, 16\)"):
        cost(model, (5, 16, 16))
    assert all(m.training for m in model)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_follow_the_network(channels_last: bool, dtype: torch.dtype) -> None:
    seen: list[tuple[bool, torch.dtype, bool]] = []
    model = net().to(dtype)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    model.register_forward_pre_hook(
        lambda _, x: seen.append((not x[0].is_contiguous(), x[0].dtype, torch.is_inference_mode_enabled()))
    )
    cost(model, (3, 16, 16), batches=(4,), repeats=1)
    assert seen
    assert set(seen) == {(channels_last, dtype, True)}


def test_a_network_without_parameters() -> None:
    figures = cost(nn.Flatten(), (3, 4, 4), batches=(1,), repeats=1)
    assert (figures["parameters"], figures["flops"]) == (0, 0)
