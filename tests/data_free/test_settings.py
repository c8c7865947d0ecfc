"""The section, presets, the memory, and what watches batch normalisations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.config import dump, load_yaml, parse
from limbeck.data_free import PRESETS, DataFreeConfig
from limbeck.data_free.memory import ImageMemory
from limbeck.data_free.players import Adapter, Pixels, Synthesiser, crops, shifted
from limbeck.data_free.statistics import BatchStatistics
from limbeck.errors import ConfigError, ModelError
from limbeck.models.generators import build_generator


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_and_survive_a_file(name: str) -> None:
    config = parse({"student": "cnn", "teacher": {"run": "runs/t"}, "data_free": name})
    assert config.data_free is not None
    assert config.label == name
    assert config.data_free.of_student
    assert parse(load_yaml(dump(config))) == config


def test_what_stands_beside_a_preset_wins_term_by_term() -> None:
    found = DataFreeConfig.model_validate(
        {"preset": "cpsc", "generator": {"latent": 8}, "generator_terms": {"scl": 0, "mse": 0.1}}
    )
    assert found.generator.name == "conditional"
    assert found.generator.latent == 8
    assert found.of_generator == {"bn": 1.0, "ce": 0.7, "kl": 1.0, "mse": 0.1}
    again = DataFreeConfig.model_validate(found.model_dump())
    assert again == found


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("cpcs", "no preset 'cpcs', nearest is 'cpsc'"),
        ({"preset": "cpsc", "generator_terms": {"bnn": 1}}, "bnn"),
        ({"preset": "cpsc", "generator_terms": {"bn": -1}}, "below 0"),
        ({"preset": "dafl", "generator_terms": {"ce": 1}}, "use one_hot"),
        ({"preset": "noise", "generator_terms": {"bn": 1}}, "noise learns nothing"),
        ({"preset": "deepinversion", "rebuild_every": None}, "set rebuild_every"),
        ({"preset": "cmi", "memory": 0}, "set memory"),
        ({"preset": "cpsc", "generator_terms": {"contrast": 1}}, "remembered images"),
        ({"preset": "cpsc", "steps": 3}, "unknown key"),
    ],
)
def test_wrong_sections_are_one_line(wrong: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse({"student": "cnn", "data_free": wrong})
    assert "Traceback" not in str(caught.value)


def test_statistics_by_hand_with_gradients_to_the_images() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    with torch.no_grad():
        net(torch.randn(8, 1, 5, 5))
    net.eval().requires_grad_(False)
    x = torch.randn(1, 1, 5, 5, requires_grad=True)
    watch = BatchStatistics(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with watch.record() as seen:
        net(x)
    u = net[0](x)
    mean, var = u.mean((0, 2, 3)), u.var((0, 2, 3), unbiased=False)
    want = (mean - net[1].running_mean).norm() + (var - net[1].running_var).norm()
    torch.testing.assert_close(seen.loss(), want)
    torch.testing.assert_close(seen.means(), u.mean((2, 3)))
    (gradient,) = torch.autograd.grad(seen.loss(), x)
    assert bool(gradient.any())
    with watch.record() as quiet, torch.no_grad():
        net(x)
    assert quiet.inputs == []
    assert not net[1]._forward_pre_hooks
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_statistics_need_normalisations_in_evaluation_mode() -> None:
    with pytest.raises(ModelError, match="no batch normalisation"):
        BatchStatistics(nn.Linear(2, 2))
    with pytest.raises(ModelError, match="no batch normalisation"):
        BatchStatistics(nn.BatchNorm2d(2, track_running_stats=False).eval())
    with pytest.raises(ModelError, match="training mode"):
        BatchStatistics(nn.BatchNorm2d(2))


def test_memory_forgets_the_oldest_and_repeats_its_draws() -> None:
    memory = ImageMemory(6)
    for k in range(4):
        memory.add(torch.full((2, 1, 2, 2), float(k)), torch.tensor([k, k]))
    assert memory.labels.tolist() == [1, 1, 2, 2, 3, 3]
    draws = [memory.draw(4, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][0][:, 0, 0, 0].long(), draws[0][1])
    assert len(memory.draw(50, torch.Generator())[1]) == 50
    other = ImageMemory(6)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.images, memory.images)


def test_adapters() -> None:
    x = torch.randn(4, 3)
    trained, released, same = Adapter(3, 5), Adapter(3, 5, released=True), Adapter(3, 3)
    torch.testing.assert_close(trained(x).norm(dim=1), torch.ones(4))
    torch.testing.assert_close(released(2 * x), released(x))
    assert not torch.allclose(released(x).norm(dim=1), torch.ones(4))
    assert all(p.requires_grad for p in trained.parameters())
    assert not any(p.requires_grad for p in released.parameters())
    assert not list(same.parameters())


def test_views_of_images_are_differentiable_and_keep_the_shape() -> None:
    x = torch.randn(3, 2, 8, 8, requires_grad=True)
    crops(x, 0.25).sum().backward()
    assert bool(x.grad.any())
    assert shifted(x, 2).shape == x.shape
    whole = crops(x.detach(), 1.0)
    for image, given in zip(whole, x.detach(), strict=True):
        assert any(torch.allclose(image, g, atol=1e-5) for g in (given, given.flip(2)))


def test_a_rebuilt_player_begins_anew() -> None:
    player = Synthesiser(Pixels((2, 1, 4, 4)), noise=(2, 3))
    before = [p.detach().clone() for p in player.parameters()]
    player.rebuild()
    assert not any(torch.equal(a, b) for a, b in zip(before, player.parameters(), strict=True))
    told = build_generator("conditional", classes=3, channels=1, size=(4, 4), latent=3, width=2)
    fresh = Synthesiser(told)
    told.norms[0].scale.weight.data.fill_(7.0)
    weight = told.fc.weight.detach().clone()
    fresh.rebuild()
    assert bool((told.norms[0].scale.weight == 1).all())
    assert bool((told.norms[0].shift.weight == 0).all())
    assert not torch.equal(weight, told.fc.weight)
