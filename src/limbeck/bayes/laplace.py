"""Last-layer Laplace: a Gaussian over the weights of the classifier, fitted to a network that is trained already."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..bayesian import BayesConfig
from ..errors import ConfigError, ModelError
from ..taps import EMBEDDING, Taps
from .base import Posterior, mixture, scores

LARGEST = 5000
"""Weights of a classifier up to which the full curvature is kept."""


class LastLayerLaplace(Posterior):
    r"""``N(w*, (H + delta I)^{-1})`` over the last layer, H the Gauss-Newton matrix of cross-entropy.

    With features :math:`\phi` (a 1 appended for the bias) and :math:`\Lambda = \mathrm{diag}(p) - p p^T`,
    :math:`H = \sum_n \phi_n \phi_n^T \otimes \Lambda_n`, which is the exact Hessian of the last layer. ``full`` keeps
    it, ``diag`` its diagonal, ``kron`` is :math:`(\sum_n \phi_n \phi_n^T) \otimes \mathrm{mean}_n \Lambda_n`; the
    prior's precision is added to the eigenvalues of either. The logits of an input are then Gaussian with mean
    :math:`f(x)` and a variance v, and

    - ``probit``: :math:`p = \mathrm{softmax}(f / \sqrt{1 + \pi v / 8})`, class by class;
    - ``mc``, and wherever samples are asked for: mean of the softmax over drawn weights.

    The prior's precision is given, or maximises the Laplace approximation of the marginal likelihood,
    :math:`-\frac12 (\delta |w|^2 + \log\det(H + \delta I) - P \log \delta)` up to a constant, on a
    grid. Nothing is chosen on held-out data.

    Args:
        network: a network that ends in a linear layer.
        config: ``structure``, ``precision``, ``link``, ``samples``.

    Raises:
        ModelError: it ends in no linear layer.
        ConfigError: ``full`` for more than 5000 weights.

    Source:
        MacKay 1992; Daxberger et al., NeurIPS 2021, arXiv:2106.14806; checked against exact Hessians.

    Example:
        >>> laplace = LastLayerLaplace(nn.Sequential(nn.Linear(4, 3)), BayesConfig(name="laplace")).eval()
        >>> laplace.fit(lambda: [torch.randn(20, 4)])
        >>> laplace.variance(torch.ones(2, 4)).shape
        torch.Size([2, 3])
    """

    left: Tensor
    right: Tensor
    eigenvalues: Tensor
    precision: Tensor

    def __init__(self, network: nn.Module, config: BayesConfig) -> None:
        super().__init__(network, config.samples)
        self.structure, self.link, self.wanted = config.structure, config.link, config.precision
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ModelError(
                f"{type(network).__name__} ends in no linear layer, which last-layer Laplace needs",
                fix="take swag, sgld, vi or dropout",
            )
        self.classifier = linear[-1]
        self.taps = Taps([EMBEDDING], self.classifier)
        inputs, classes = self.layer.in_features + (self.layer.bias is not None), self.layer.out_features
        size = inputs * classes
        if config.structure == "full" and size > LARGEST:
            raise ConfigError(
                f"the full curvature of {size} weights is too large",
                expected=f"at most {LARGEST}",
                fix="set structure=kron or diag",
            )
        left, right = {"full": (size, 0), "kron": (inputs, classes), "diag": (0, 0)}[config.structure]
        self.register_buffer("left", torch.zeros(left, left))
        self.register_buffer("right", torch.zeros(right, right))
        self.register_buffer("eigenvalues", torch.zeros(inputs, classes))
        self.register_buffer("precision", torch.tensor(0.0))

    @property
    def layer(self) -> nn.Linear:
        """The classifier."""
        found = self.network.get_submodule(self.classifier)
        assert isinstance(found, nn.Linear)
        return found

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        """Measure the curvature over training inputs, and choose the prior's precision.

        Raises:
            ModelError: what the network gives is not what its last linear layer gives.
        """
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        sums, count = self._parts(), 0
        for x in batches():
            logits, phi = (t.double() for t in self._look(x))
            for total, part in zip(sums, self._measured(logits.softmax(1), phi), strict=True):
                total += part
            count += len(x)
        for module, mode in modes.items():
            module.training = mode
        if not count:
            raise ModelError("Laplace needs training inputs to measure the curvature on", got="none")
        if self.structure == "kron":
            (a, left), (b, right) = torch.linalg.eigh(sums[0]), torch.linalg.eigh(sums[1] / count)
            self._set(left, right, a.clamp(min=0)[:, None] * b.clamp(min=0))
        elif self.structure == "full":
            values, left = torch.linalg.eigh(sums[0])
            self._set(left, self.right, values.clamp(min=0).view_as(self.eigenvalues))
        else:
            self._set(self.left, self.right, sums[0])

    def _parts(self) -> list[Tensor]:
        """What the curvature is summed up in."""
        shapes = {
            "kron": [self.left, self.right], "full": [self.left], "diag": [self.eigenvalues]
        }[self.structure]  # fmt: skip
        return [torch.zeros_like(shape, dtype=torch.float64) for shape in shapes]

    def _measured(self, p: Tensor, phi: Tensor) -> list[Tensor]:
        """The share of some inputs, with probabilities ``(B, K)`` and features ``(B, D)``."""
        if self.structure == "diag":
            return [phi.square().T @ (p - p.square())]
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        if self.structure == "kron":
            return [phi.T @ phi, curvature.sum(0)]
        return [torch.einsum("nd,ne,nkl->dkel", phi, phi, curvature).reshape(self.left.shape)]

    def _set(self, left: Tensor, right: Tensor, eigenvalues: Tensor) -> None:
        for buffer, value in ((self.left, left), (self.right, right), (self.eigenvalues, eigenvalues)):
            buffer.copy_(value)
        if isinstance(self.wanted, float):
            self.precision.fill_(self.wanted)
            return
        grid = torch.logspace(-4, 6, 401, dtype=torch.float64)
        evidence = torch.stack([self.evidence(float(delta)) for delta in grid])
        self.precision.fill_(float(grid[evidence.argmax()]))

    def evidence(self, precision: float) -> Tensor:
        """Log marginal likelihood at a precision of the prior, up to what does not depend on it."""
        values, weights = self.eigenvalues.double(), [p.detach().double() for p in self.layer.parameters()]
        squares = torch.stack([w.square().sum() for w in weights]).sum()
        log_det = (values + precision).log().sum()
        return -0.5 * (precision * squares + log_det - values.numel() * math.log(precision))

    def variance(self, x: Tensor) -> Tensor:
        """Variance ``(B, K)`` of each logit."""
        return self._variance(self._look(x)[1])

    def _variance(self, phi: Tensor) -> Tensor:
        inverse = 1 / (self.eigenvalues + self.precision)
        if self.structure == "diag":
            return phi.square() @ inverse
        if self.structure == "kron":
            return (phi @ self.left).square() @ inverse @ self.right.square().T
        classes = self.eigenvalues.shape[1]
        turned = torch.einsum("nd,dkm->nkm", phi, self.left.view(-1, classes, inverse.numel()))
        return turned.square() @ inverse.flatten()

    def draw(self, x: Tensor, number: int) -> Tensor:
        logits, phi = self._look(x)
        return logits + phi @ self.deviation()

    def deviation(self) -> Tensor:
        """One draw ``(D, K)`` of the classifier's difference from its mean, the bias in the last row."""
        noise = torch.randn_like(self.eigenvalues) / (self.eigenvalues + self.precision).sqrt()
        if self.structure == "kron":
            return self.left @ noise @ self.right.T
        return (self.left @ noise.flatten()).view_as(noise) if self.structure == "full" else noise

    def learn(self, x: Tensor) -> Tensor:
        return self.plain(x)

    def log_proba(self, x: Tensor, samples: int | None = None, temperature: float = 1.0) -> Tensor:
        """As every posterior's; with ``probit`` and no number of samples the closed form, tempered as a whole."""
        if self.link == "mc" or samples is not None or not self.fitted:
            wanted = 0 if not self.fitted else self.samples if samples is None else samples
            return mixture(self.sample_log_proba(x, wanted, temperature))
        logits, phi = self._look(x)
        flattened = logits / (1 + math.pi / 8 * self._variance(phi)).sqrt()
        return (flattened.log_softmax(1) / temperature).log_softmax(1)

    @property
    def fitted(self) -> bool:
        """Whether the curvature was measured."""
        return bool(self.precision > 0)

    def _look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K)`` and features ``(B, D)`` with a 1 for the bias."""
        with self.taps.record(self.network) as found:
            logits = scores(self.network(x)).float()
        phi = found.get(EMBEDDING)
        if phi is None or phi.dim() != 2 or logits.shape[1] != self.eigenvalues.shape[1]:
            raise ModelError(
                f"{type(self.network).__name__} does not end in its last linear layer {self.classifier!r}",
                fix="take swag, sgld, vi or dropout",
            )
        phi = phi.float()
        return logits, phi if self.layer.bias is None else torch.cat([phi, torch.ones_like(phi[:, :1])], 1)
