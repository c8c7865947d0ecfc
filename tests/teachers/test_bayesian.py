"""Bayesian teachers: each posterior against closed forms or a kept library, whole runs, resume, bad input."""

from __future__ import annotations

import copy
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import swa_utils

import limbeck
from limbeck.bayes import (
    SGLD,
    SWAG,
    BayesConfig,
    BayesianTeacher,
    Ensemble,
    Foreign,
    LastLayerLaplace,
    MCDropout,
    Posterior,
    Variational,
    mixture,
    posterior,
)
from limbeck.bayes.snapshots import flat, refresh
from limbeck.bayes.variational import KL
from limbeck.config import parse
from limbeck.errors import ConfigError, LimbeckError, ModelError
from limbeck.losses import kd
from limbeck.models import build
from limbeck.runs import Run
from limbeck.signals import Batch, Signals
from limbeck.tasks import Classification
from limbeck.teachers import PosteriorTeacher
from limbeck.training.learner import Learner, Use
from limbeck.training.progress import Progress
from limbeck.training.session import execute, score
from limbeck.training.trainer import RunInterrupted, Trainer

KINDS = ("vi", "dropout", "ensemble", "swag", "sgld", "laplace")


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def config(name: str, **more: Any) -> BayesConfig:
    extra = {"dropout": {"rate": 0.3}, "ensemble": {"members": 3}}.get(name, {})
    return BayesConfig.model_validate({"name": name, "samples": 4, **extra, **more})


def filled(name: str) -> Posterior:
    """A posterior that is spread out, without training."""
    found = posterior(config(name), network(), lambda number: network(number))
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(5))
    if isinstance(found, Variational):
        for log in found.log_sd:
            nn.init.constant_(log, math.log(0.1))
    if isinstance(found, SGLD):
        for _ in range(4):
            found.perturb(0.5, 10)
            found.keep()
    if isinstance(found, SWAG):
        for number in range(6):
            found.network.load_state_dict(network(number).state_dict())
            found.collect()
        found.finish(lambda: [x])
    if isinstance(found, LastLayerLaplace):
        found.fit(lambda: [x[:20], x[20:]])
    return found.eval()


# ------------------------------------------------------------------------------------------- the protocol


@pytest.mark.parametrize("name", KINDS)
def test_samples_are_distributions_and_are_averaged_after_the_softmax(name: str) -> None:
    found, x = filled(name), torch.randn(5, 4)
    assert isinstance(found, BayesianTeacher)
    p = found.sample_proba(x, 3)
    assert p.shape == (3, 5, 3)
    torch.testing.assert_close(p.sum(2), torch.ones(3, 5))
    assert p.std(0).max() > 1e-3
    torch.testing.assert_close(found.predict_proba(x, 3), p.mean(0))
    torch.testing.assert_close(mixture(p.log()).exp(), p.mean(0))
    if name != "laplace":  # which answers in closed form
        torch.testing.assert_close(found(x).softmax(1), found.sample_proba(x, found.samples).mean(0))
    alone = found.sample_proba(x, 0)
    torch.testing.assert_close(alone, found.plain(x).softmax(1)[None])


@pytest.mark.parametrize("name", KINDS)
def test_draws_hang_on_the_key_alone_and_leave_the_random_state(name: str) -> None:
    found, x = filled(name), torch.randn(5, 4)
    before = torch.get_rng_state()
    first = found.sample_proba(x, 2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    assert torch.equal(found.sample_proba(x, 2), first)
    found.key = 9
    other = found.sample_proba(x, 2)
    assert torch.equal(found.sample_proba(x, 2), other)
    if name != "ensemble":
        assert not torch.equal(other, first)


@pytest.mark.parametrize("name", KINDS)
def test_a_posterior_is_its_state(name: str) -> None:
    found = filled(name)
    again = posterior(config(name), network(9), lambda number: network(9)).eval()
    again.load_state_dict(found.state_dict())
    x = torch.randn(5, 4)
    assert torch.equal(again(x), found(x))


def test_tempering_divides_each_network_s_logits_before_the_mean() -> None:
    found, x = filled("ensemble"), torch.randn(5, 4)
    assert isinstance(found, Ensemble)
    expected = torch.stack([(net(x) / 4).softmax(1) for net in found.networks]).mean(0)
    torch.testing.assert_close(found.log_proba(x, temperature=4.0).exp(), expected)


# ------------------------------------------------------------------------------------------- each kind


def test_kl_is_torch_s() -> None:
    found = Variational(network(), config("vi", prior_sd=0.5, initial_sd=0.05))
    means, sds = found.moments()
    expected = sum(
        torch.distributions.kl_divergence(
            torch.distributions.Normal(m, s),
            torch.distributions.Normal(torch.zeros_like(m), torch.full_like(m, 0.5)),
        ).sum()
        for m, s in zip(means, sds, strict=True)
    )
    torch.testing.assert_close(found.kl(), expected)


def test_variational_weights_have_their_moments_and_bounds() -> None:
    found = Variational(nn.Linear(50, 50), config("vi", initial_sd=0.04, largest_sd=0.1))
    assert found.priors == [1 / math.sqrt(50), 1.0]
    nn.init.constant_(found.log_sd[0], math.log(0.5))
    drawn = torch.stack([found.weights()["weight"] for _ in range(40)])
    assert float((drawn - found.network.weight).std().detach()) == pytest.approx(0.1, rel=0.02)
    drawn = torch.stack([found.weights()["bias"] for _ in range(400)])
    assert float((drawn - found.network.bias).std().detach()) == pytest.approx(0.04, rel=0.05)


def test_variational_inference_finds_the_posterior_of_a_conjugate_model() -> None:
    """A single weight with a Gaussian likelihood of 30 values: the evidence bound is tight."""
    torch.manual_seed(0)
    data = 0.15 + 0.5 * torch.randn(30)
    found = Variational(nn.Linear(1, 1, bias=False), config("vi", prior_sd=0.2, initial_sd=0.05))
    rule = torch.optim.Adam(found.parameters(), 1e-2)
    x = torch.ones(1, 1)
    for _ in range(600):
        likelihood = torch.stack(
            [(data - found.learn(x)[0, 0]).square().sum() / 0.5 for _ in range(2)]
        ).mean()
        rule.zero_grad()
        (likelihood + found.kl()).backward()
        rule.step()
    precision = 30 / 0.25 + 1 / 0.04
    (mean,), (sd,) = found.moments()
    assert float(sd.detach()) == pytest.approx(precision**-0.5, rel=0.1)
    assert float(mean.detach()) == pytest.approx(float(data.sum()) / 0.25 / precision, abs=0.03)


def test_the_divergence_is_annealed() -> None:
    method = KL(config("vi", kl_weight=2.0, anneal=[0.5, 0.75]), samples=10, epochs=8)
    found = []
    for method.epoch in (0.0, 4.0, 5.0, 6.0, 7.5):
        found.append(method.kappa())
    assert found == [0, 0, 1, 2, 2]


def test_dropout_drops_its_share_and_leaves_normalisation_alone() -> None:
    net = nn.Sequential(nn.Linear(4, 400), nn.BatchNorm1d(400), nn.Linear(400, 1, bias=False))
    nn.init.ones_(net[2].weight)
    nn.init.zeros_(net[0].weight)
    nn.init.ones_(net[0].bias)
    found = MCDropout(net, config("dropout", rate=0.25)).eval()
    state = copy.deepcopy(net.state_dict())
    logits = torch.stack([found.draw(torch.zeros(1, 4), 0)[0, 0].detach() for _ in range(400)])
    expected = 400 / math.sqrt(1 + 1e-5)  # kept with probability 3/4, then divided by it
    assert float(logits.mean()) == pytest.approx(expected, rel=0.01)
    assert float(logits.std()) == pytest.approx(math.sqrt(400 / 3), rel=0.1)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in state.items())
    assert all(not module.training for module in net.modules())


def test_dropout_layers_of_the_network_s_own() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    found = MCDropout(net, BayesConfig(name="dropout")).eval()
    x = torch.randn(6, 4)
    assert found.sample_proba(x, 8).std(0).max() > 0.01
    torch.testing.assert_close(found.plain(x), net(x))
    assert not net[1].training
    for silent in (network(), nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0))):
        with pytest.raises(ModelError, match=r"no dropout layer.*bayes\.rate"):
            MCDropout(silent, BayesConfig(name="dropout"))


def test_swag_has_the_average_of_swa_utils_and_the_published_covariance() -> None:
    net = network()
    averaged = swa_utils.AveragedModel(net)
    found = SWAG(net, config("swag", rank=4, samples=2))
    seen = []
    for number in range(7):
        net.load_state_dict(network(number).state_dict())
        averaged.update_parameters(net)
        found.collect()
        seen.append(flat(net.parameters()))
    weights = torch.stack(seen)
    torch.testing.assert_close(found.mean, flat(averaged.module.parameters()))
    means = weights.cumsum(0) / torch.arange(1, 8)[:, None]
    deviations = (weights - means)[-4:]
    expected = 0.5 * (torch.diag(weights.var(0, correction=0)) + deviations.T @ deviations / 3)
    torch.manual_seed(0)
    drawn = torch.stack([found.gaussian() for _ in range(6000)])
    error = (drawn.T.cov() - expected).norm() / expected.norm()
    assert error < 0.05
    found.finish(list)
    torch.testing.assert_close(flat(net.parameters()), found.mean)
    assert int(found.filled) == 2


def test_swag_s_networks_have_batch_statistics_of_their_own() -> None:
    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))

    found, x = SWAG(make(0), config("swag", samples=2)), torch.randn(40, 4)
    for seed in range(3):
        found.network.load_state_dict(make(seed).state_dict())
        found.collect()
    found.finish(lambda: [x])
    for number in range(2):
        whole = make(0)
        sizes = [p.numel() for p in whole.parameters()]
        for p, value in zip(whole.parameters(), found.bank[number].split(sizes), strict=True):
            p.data.copy_(value.view_as(p))
        swa_utils.update_bn([x], whole)
        torch.testing.assert_close(found.eval().draw(x, number), whole.eval()(x), rtol=1e-4, atol=1e-5)


def test_refreshed_statistics_are_swa_utils() -> None:
    ours = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    theirs = copy.deepcopy(ours)
    batches = [torch.randn(8, 1, 5, 5) for _ in range(3)]
    refresh(ours, lambda: batches)
    swa_utils.update_bn(batches, theirs)
    torch.testing.assert_close(ours[1].state_dict(), theirs[1].state_dict())
    assert (ours[1].momentum, ours[2].training) == (0.1, True)


def test_langevin_noise_has_the_stationary_spread_of_a_quadratic() -> None:
    """Loss h w^2 / 2 of N samples: variance T / (N h (1 - rate h / 2)) exactly."""
    h, rate, count, cold = 2.0, 0.1, 50, 0.5
    chain = SGLD(nn.Linear(4000, 1, bias=False), config("sgld", posterior_temperature=cold))
    nn.init.zeros_(chain.network.weight)
    torch.manual_seed(0)
    for _ in range(60):
        with torch.no_grad():
            chain.network.weight.mul_(1 - rate * h)
        chain.perturb(rate, count)
    expected = cold / (count * h * (1 - rate * h / 2))
    assert float(chain.network.weight.detach().var()) == pytest.approx(expected, rel=0.06)


def fitted(structure: str, count: int = 30, **more: Any) -> tuple[LastLayerLaplace, Tensor]:
    net = network(3)
    for p in net.parameters():
        p.data.mul_(2)
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(1))
    found = LastLayerLaplace(net, config("laplace", structure=structure, **more)).eval()
    found.fit(lambda: x.split(7))
    return found, x


def hessian(found: LastLayerLaplace, x: Tensor) -> Tensor:
    """Exact Hessian of summed cross-entropy in (weight, bias) stacked as (D + 1, K), by autograd."""
    phi = found._look(x)[1].double()
    theta = torch.cat([found.layer.weight.T, found.layer.bias[None]]).detach().double()
    labels = torch.randint(3, (len(x),), generator=torch.Generator().manual_seed(0))

    def loss(flattened: Tensor) -> Tensor:
        return F.cross_entropy(phi @ flattened.view_as(theta), labels, reduction="sum")

    return torch.autograd.functional.hessian(loss, theta.flatten())


def test_full_laplace_is_the_exact_hessian_s_gaussian() -> None:
    found, x = fitted("full", precision=0.7)
    covariance = torch.linalg.inv(hessian(found, x) + 0.7 * torch.eye(27))
    points = torch.randn(6, 4)
    phi = found._look(points)[1].double()
    jacobian = torch.einsum("nd,kc->ndkc", phi, torch.eye(3).double()).reshape(6, 27, 3)
    expected = torch.einsum("nic,ij,njc->nc", jacobian, covariance, jacobian)
    torch.testing.assert_close(found.variance(points).double(), expected, rtol=1e-3, atol=1e-5)
    closed = (found.network(points) / (1 + math.pi / 8 * expected.float()).sqrt()).softmax(1)
    torch.testing.assert_close(found.predict_proba(points), closed, rtol=1e-3, atol=1e-5)


def test_diagonal_laplace_is_the_hessian_s_diagonal() -> None:
    found, x = fitted("diag", precision=0.7)
    expected = hessian(found, x).diagonal().view(9, 3)
    torch.testing.assert_close(found.eigenvalues.double(), expected, rtol=1e-4, atol=1e-5)


def test_kronecker_laplace_is_exact_for_one_sample_and_the_published_product_for_many() -> None:
    one, _ = fitted("kron", 1, precision=0.7)
    full, _ = fitted("full", 1, precision=0.7)
    points = torch.randn(6, 4)
    torch.testing.assert_close(one.variance(points), full.variance(points), rtol=1e-3, atol=1e-4)
    many, x = fitted("kron", precision=0.7)
    phi, p = many._look(x)[1].double(), many.network(x).softmax(1).double()
    middle = (torch.diag_embed(p) - p[:, :, None] * p[:, None]).mean(0)
    covariance = torch.linalg.inv(torch.kron(phi.T @ phi, middle) + 0.7 * torch.eye(27))
    features = many._look(points)[1].double()
    jacobian = torch.einsum("nd,kc->ndkc", features, torch.eye(3).double()).reshape(6, 27, 3)
    expected = torch.einsum("nic,ij,njc->nc", jacobian, covariance, jacobian)
    torch.testing.assert_close(many.variance(points).double(), expected, rtol=1e-3, atol=1e-5)


def waves(*shape: int) -> Tensor:
    return (torch.arange(math.prod(shape)) * 0.7).sin().view(shape)


@pytest.mark.parametrize(
    ("structure", "proba"),
    [
        (
            "full",
            [[0.115272, 0.444191, 0.440536], [0.165678, 0.23678, 0.597542], [0.112225, 0.440868, 0.446907]],
        ),
        (
            "diag",
            [[0.092749, 0.444915, 0.462336], [0.134377, 0.208941, 0.656682], [0.089935, 0.440374, 0.46969]],
        ),
    ],
)
def test_probabilities_are_those_of_laplace_torch(structure: str, proba: list[list[float]]) -> None:
    """Numbers of laplace-torch 0.2.2.2: last layer, prior precision 0.7, glm, probit."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    for p in net.parameters():
        p.data = 2 * waves(*p.shape)
    found = LastLayerLaplace(net, config("laplace", structure=structure, precision=0.7)).eval()
    found.fit(lambda: [2 * waves(21, 4)])
    torch.testing.assert_close(
        found.predict_proba(3 * waves(3, 4).flip(0)).detach(), torch.tensor(proba), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("structure", ["kron", "diag", "full"])
def test_drawn_classifiers_have_the_variance_that_is_told(structure: str) -> None:
    found, _ = fitted(structure, precision=2.0)
    x = torch.randn(4, 4)
    torch.manual_seed(0)
    phi = found._look(x)[1]
    drawn = torch.stack([phi @ found.deviation() for _ in range(4000)])
    torch.testing.assert_close(drawn.var(0), found.variance(x), rtol=0.12, atol=1e-3)
    torch.testing.assert_close(drawn.mean(0), torch.zeros(4, 3), rtol=0, atol=0.15)


def test_the_prior_maximises_the_marginal_likelihood() -> None:
    found, x = fitted("full")
    matrix, theta = hessian(found, x), flat(found.layer.parameters()).double()

    def evidence(delta: float) -> float:
        whole = matrix + delta * torch.eye(27)
        return float(-0.5 * (delta * theta @ theta + torch.logdet(whole) - 27 * math.log(delta)))

    grid = np.logspace(-4, 6, 401)
    best = float(grid[np.argmax([evidence(delta) for delta in grid])])
    assert float(found.precision) == pytest.approx(best, rel=0.07)
    gamma = float((torch.linalg.eigvalsh(matrix) / (torch.linalg.eigvalsh(matrix) + best)).sum())
    assert best == pytest.approx(gamma / float(theta @ theta), rel=0.07)  # MacKay's fixed point


# --------------------------------------------------------------------------------------- other packages


class Stacked(nn.Module):
    """As torch-uncertainty answers: logits of all networks on the batch axis."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, 2 * x, 0 * x])


class Sampler:
    """As laplace-torch answers."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 3)

    def predictive_samples(self, x: Tensor, n_samples: int) -> Tensor:
        return torch.stack([(x + torch.randn(3)).softmax(1) for _ in range(n_samples)])


def test_teachers_of_other_packages_are_read_by_what_they_give() -> None:
    x = torch.randn(4, 3)
    stacked = Foreign(Stacked(), samples=3).eval()
    expected = torch.stack([x.softmax(1), (2 * x).softmax(1), torch.full((4, 3), 1 / 3)])
    torch.testing.assert_close(stacked.sample_proba(x, 3), expected)
    torch.testing.assert_close(stacked(x).exp(), expected.mean(0))
    sampled = Foreign(Sampler(), samples=5).eval()
    assert sampled.sample_proba(x, 5).shape == (5, 4, 3)
    assert torch.equal(sampled(x), sampled(x))
    three = Foreign(lambda x: expected, gives="probabilities", samples=2)
    torch.testing.assert_close(three.sample_proba(x, 2), expected[:2])
    drops = nn.Dropout(0.5).train()
    assert Foreign(lambda x: drops(x), samples=4).sample_proba(x, 4).std(0).max() > 0
    with pytest.raises(ModelError, match="no multiple of the batch"):
        Foreign(lambda x: torch.zeros(5, 3)).sample_proba(x, 2)
    with pytest.raises(ModelError, match="gives no predictions"):
        Foreign(lambda x: [x]).sample_proba(x, 2)
    teacher = PosteriorTeacher(stacked, Classification(3))
    assert teacher.signals(Batch(x, torch.zeros(4).long(), torch.arange(4))).logits.shape == (4, 3)


# --------------------------------------------------------------------------------- temperatures and mixing


@pytest.mark.parametrize("bayesian", [True, False])
def test_unlike_temperatures_are_the_paper_s_loss(bayesian: bool) -> None:
    """(1 - lambda) CE + lambda T_t T_s KL(mean softmax(t / T_t) || softmax(s / T_s)), written out again."""
    logs = torch.randn(3, 5, 4).log_softmax(2)
    student, labels = torch.randn(5, 4, requires_grad=True), torch.randint(4, (5,))
    teacher = Signals(mixture(logs), extra={"samples": logs} if bayesian else {})
    p = (logs / 4).softmax(2).mean(0) if bayesian else (mixture(logs) / 4).softmax(1)
    expected = 0.3 * F.cross_entropy(student, labels) + 0.7 * 4 * 2 * F.kl_div(
        (student / 2).log_softmax(1), p, reduction="batchmean"
    )
    method = limbeck.METHODS["kd"](temperature=1.0)
    learner = Learner(nn.Identity(), Classification(4), [Use(method, 0.7, tempered=(4.0, 2.0))], 0.3)
    terms = learner.terms(Signals(student), teacher, Batch(student, labels, torch.arange(5)))
    total = sum(term.value * term.weight for term in terms.values())
    torch.testing.assert_close(total, expected)
    assert float(kd(student, teacher.logits, temperature=1.0).detach()) != pytest.approx(
        float(expected.detach())
    )


# -------------------------------------------------------------------------------------------- whole runs

DIGITS = {"name": "digits", "train_size": 320, "noise": {"kind": "symmetric-all", "rate": 0.2}}
CNN = {"name": "cnn", "options": {"widths": [6, 12]}}
SETTINGS: dict[str, dict[str, Any]] = {
    "vi": {"bayes": {"name": "vi", "samples": 3}},
    "dropout": {"bayes": {"name": "dropout", "rate": 0.2, "samples": 3}},
    "ensemble": {"bayes": {"name": "ensemble", "members": 2}},
    "swag": {"bayes": {"name": "swag", "samples": 3, "snapshots": 4}, "student": CNN},
    "sgld": {
        "bayes": {"name": "sgld", "samples": 3, "posterior_temperature": 0.01},
        "train": {"optimizer": {"momentum": 0.0}},
    },
    "laplace": {"bayes": {"name": "laplace", "samples": 3}},
}


def settings(name: str, output: Path, **more: Any) -> Any:
    train = {"epochs": 4, "batch_size": 32, "precision": "fp32", "log_every": 1, "threads": 1}
    values: dict[str, Any] = {"data": DIGITS, "student": {"name": "mlp", "options": {"widths": [16]}}}
    rule = {"learning_rate": 0.1, "weight_decay": 0.0}
    own = SETTINGS.get(name, {})
    rule |= own.get("train", {}).get("optimizer", {}) | more.pop("optimizer", {})
    values |= {"student": own.get("student", values["student"]), "bayes": own.get("bayes")}
    values |= {"output": str(output), "latency": False}
    return parse({**values, "train": {**train, "optimizer": rule, **more.pop("train", {})}, **more})


def run(config: Any, **more: Any) -> Run:
    return execute(config, progress=Progress(1, "", quiet=True), **more)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("teachers")
    return {name: run(settings(name, folder / name)) for name in [*KINDS, "plain"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_run_trains_it_and_it_teaches(name: str, teachers: dict[str, Run], tmp_path: Path) -> None:
    done = teachers[name]
    assert done.info["label"] == name
    assert done.accuracy > 0.2
    assert done.results["best"]["test"] == done.results["last"]["test"] or name in (
        "vi",
        "dropout",
        "ensemble",
    )
    found = done.student()
    assert isinstance(found, Posterior)
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(found(x).exp().sum(1), torch.ones(5))
    assert score(done, "test")["nll"] == pytest.approx(done.results["last"]["test"]["nll"], abs=1e-4)
    teacher = {"run": str(done.path), "samples": 2}
    student = run(
        settings("none", tmp_path / "student", teacher=teacher, methods=["kd"], train={"epochs": 1})
    )
    assert student.results["teacher"]["test"]["accuracy"] > 0.2
    assert "agreement" in student.results["last"]["test"]


@pytest.mark.slow
def test_the_distilled_target_is_exactly_the_mean(teachers: dict[str, Run]) -> None:
    found = teachers["vi"].student()
    assert isinstance(found, Posterior)
    teacher = PosteriorTeacher(found, Classification(10), samples=3)
    batch = Batch(torch.randn(5, 1, 8, 8), torch.zeros(5).long(), torch.arange(5))
    with teacher.on(step=7):
        first = teacher.signals(batch)
        expected = found.sample_proba(batch.inputs, 3).mean(0)
    torch.testing.assert_close(first.logits.softmax(1), expected)
    with teacher.on(step=8):
        assert not torch.equal(teacher.signals(batch).logits, first.logits)
    assert found.key == 0


def same_weights(a: Run, b: Run) -> bool:
    ours, theirs = a.student().state_dict(), b.student().state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def stop_at(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Kill this process's run after so many steps, once."""
    one = Trainer._one

    def and_then(self: Trainer, batch: Batch) -> None:
        if self.step == at - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        one(self, batch)

    monkeypatch.setattr(Trainer, "_one", and_then)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "at"), [("vi", 25), ("swag", 33), ("sgld", 33), ("ensemble", 13), ("laplace", 13)]
)
def test_a_stopped_run_goes_on_to_the_same_teacher(
    name: str, at: int, teachers: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = settings(name, tmp_path / name)
    with monkeypatch.context() as patch:
        stop_at(patch, at)
        with pytest.raises(RunInterrupted):
            run(again)
    assert same_weights(run(again, resume=True), teachers[name])


@pytest.mark.slow
def test_a_stopped_student_sees_the_same_draws(
    teachers: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def student(folder: str) -> Any:
        entry = {"name": "kd", "temperature": 1, "tempered": {"teacher": 4}, "mixing": 0.7}
        teacher = {"run": str(teachers["vi"].path), "samples": 2}
        return settings("none", tmp_path / folder, teacher=teacher, methods=[entry], train={"epochs": 2})

    whole = run(student("whole"))
    with monkeypatch.context() as patch:
        stop_at(patch, 13)
        with pytest.raises(RunInterrupted):
            run(student("stopped"))
    assert same_weights(run(student("stopped"), resume=True), whole)
    row = whole.metrics("train")[0]["terms"]
    assert row["kd"]["weight"] == pytest.approx(0.7 * 4)
    assert row["cross_entropy"]["weight"] == pytest.approx(0.3)


@pytest.mark.slow
def test_a_trained_network_is_made_bayesian_and_calibrated(teachers: dict[str, Run], tmp_path: Path) -> None:
    found = {}
    for name, more in {
        "plain": {},
        "calibrated": {"calibrate": True},
        "laplace": {"bayes": {"name": "laplace", "structure": "full"}},
        "together": {"run": None, "runs": [str(teachers[n].path) for n in ("plain", "swag")]},
    }.items():
        teacher = {"run": str(teachers["plain"].path), "cache": "memory", **more}
        found[name] = run(
            settings("none", tmp_path / name, teacher=teacher, methods=["kd"], train={"epochs": 1})
        )
    nll = {name: done.results["teacher"]["test"]["nll"] for name, done in found.items()}
    assert found["calibrated"].info["teacher"]["temperature"] != 1
    assert found["calibrated"].results["teacher"]["test"]["accuracy"] == pytest.approx(
        found["plain"].results["teacher"]["test"]["accuracy"]
    )
    assert len(set(nll.values())) == 4
    assert (
        found["laplace"].results["teacher"]["test"]["entropy"]
        > found["plain"].results["teacher"]["test"]["entropy"]
    )
    assert found["together"].info["teacher"]["name"] == "mlp + cnn"


@pytest.mark.slow
def test_members_learn_as_they_would_alone(tmp_path: Path) -> None:
    """A member of an ensemble under plain SGD is the network that was trained by itself."""
    both = run(settings("ensemble", tmp_path / "both", train={"epochs": 1}))
    alone = run(settings("none", tmp_path / "alone", train={"epochs": 1}))
    ensemble = both.student()
    assert isinstance(ensemble, Ensemble)
    expected = alone.student().state_dict()
    for name, tensor in ensemble.network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


WIDE = {"name": "mlp", "options": {"widths": [600]}}
BAD = [
    ("vi", {"optimizer": {"weight_decay": 1e-3}}, "weight_decay=0"),
    ("sgld", {"optimizer": {"momentum": 0.9}}, "momentum=0"),
    ("swag", {"bayes": {"name": "swag", "start": 0.95}}, "more than the steps"),
    ("swag", {"train": {"ema": 0.9}}, "no train.ema"),
    ("swag", {"train": {"early_stop": 2}}, "no train.early_stop"),
    ("vi", {"methods": ["label_smoothing"]}, "learns from labels"),
    ("vi", {"data": {"name": "segmentation", "path": "x"}}, "no data.name"),
    ("dropout", {"bayes": {"name": "dropout"}}, "bayes.rate"),
    ("laplace", {"bayes": {"name": "laplace", "structure": "full"}, "student": WIDE}, "too large"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "more", "words"), BAD, ids=range(len(BAD)))
def test_settings_that_cannot_be_end_in_a_line(name: str, more: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=words):
        run(settings(name, tmp_path / "run", **more))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bayes": {"name": "vi", "rank": 3}}, "vi has no 'rank'"),
        ({"bayes": {"name": "vi", "anneal": [0.8, 0.2]}}, "rising pair"),
        ({"bayes": "swagg"}, "swag"),
        ({"teacher": {"run": "a", "runs": ["a", "b"]}}, "not both"),
        ({"teacher": {"runs": ["a"]}}, "at least two"),
        ({"teacher": {"run": "a", "bayes": "vi"}}, "train a run"),
        ({"methods": [{"name": "kd", "mixing": 0.5, "weight": 1}]}, "leave weight out"),
        ({"methods": [{"name": "kd", "mixing": 0.5}], "label_weight": 1}, "shares out all weight"),
        ({"methods": [{"name": "kd", "tempered": {"teacher": 2}, "standardise": True}]}, "standardised"),
    ],
)
def test_keys_that_do_not_go_together(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse({"student": "cnn", **values})


@pytest.mark.slow
def test_teachers_that_cannot_be_end_in_a_line(teachers: dict[str, Run], tmp_path: Path) -> None:
    def student(**teacher: Any) -> Any:
        entry = teacher.pop("entry", "kd")
        return settings(
            "none", tmp_path / "s", teacher=teacher, methods=[entry], data=teacher.pop("data", DIGITS)
        )

    plain, vi = str(teachers["plain"].path), str(teachers["vi"].path)
    for wrong, words in [
        (student(run=plain, samples=3), "is one network, so teacher.samples=3"),
        (student(run=vi, bayes="laplace"), "Bayesian already"),
        (student(run=vi, entry="sp"), "methods need features"),
        (student(run=vi, data={"name": "fashion-mnist"}), "other classes"),
        (
            student(run=vi, cache="memory", entry={"name": "kd", "tempered": {"teacher": 4}}),
            "averaged answer",
        ),
    ]:
        with pytest.raises(LimbeckError, match=words):
            run(wrong)


@pytest.mark.slow
def test_onnx_is_refused(teachers: dict[str, Run], tmp_path: Path) -> None:
    from limbeck.cli.export import run as export

    with pytest.raises(ModelError, match="distribution over networks"):
        export(teachers["vi"].path, tmp_path, "last", True, [])


def test_in_python(tmp_path: Path) -> None:
    net = build("cnn", classes=10, channels=1, size=(8, 8), widths=(4,))
    short = {"epochs": 1, "precision": "fp32", "optimizer": {"weight_decay": 0.0}}
    done = limbeck.train(
        net,
        {"name": "digits", "train_size": 64},
        bayes="vi",
        train=short,
        output=tmp_path / "vi",
        quiet=True,
        latency=False,
    )
    assert isinstance(done.student(model=net), Variational)
