"""Direct transcriptions of the losses on embeddings and memories, as the reference implementations write them."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from _transcribed import VECTORS, Inputs, Pair, Size, normal, two, whole
from torch import Tensor

from limbeck import losses
from limbeck.methods.candidates import Candidates
from limbeck.methods.crd import Memory

SAMPLES, NEGATIVES, QUEUE = 50_000, 16_384, 16_384
CONSTANTS = torch.tensor([9e4, 9e4])
"""What divides the exponentials once the first batch has settled it."""
CONTRAST: tuple[Size, ...] = ((64, 128),)
"""Rows and width at which a memory is asked: 64 rows against 16,384 negatives each."""


def unit(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(1, keepdim=True).pow(0.5)


def contrast(x: Tensor, negatives: int, samples: int) -> Tensor:
    noise, n = negatives / samples, len(x)
    pull = torch.div(x[:, 0], x[:, 0] + (noise + 1e-7)).log().sum()
    push = torch.div(torch.full_like(x[:, 1:], noise), x[:, 1:] + (noise + 1e-7)).log().sum()
    return -(pull + push) / n


def score(v: Tensor, memory: Tensor, chosen: Tensor, constant: Tensor) -> Tensor:
    weight = torch.index_select(memory, 0, chosen.view(-1)).detach().view(*chosen.shape, v.shape[1])
    return torch.exp(torch.bmm(weight, v[:, :, None]).squeeze(2) / 0.07) / constant


def crd(s: Tensor, t: Tensor, bank_s: Tensor, bank_t: Tensor, chosen: Tensor) -> Tensor:
    v_s, v_t, k, n = unit(s), unit(t), chosen.shape[1] - 1, len(bank_s)
    of_s, of_t = score(v_s, bank_t, chosen, CONSTANTS[0]), score(v_t, bank_s, chosen, CONSTANTS[1])
    return contrast(of_s, k, n) + contrast(of_t, k, n)


def remembered(size: Size) -> Inputs:
    n, width = size
    banks = [F.normalize(normal(SAMPLES, width, seed=seed)) for seed in (2, 3)]
    s, t = normal(*size, grad=True), normal(*size, seed=1, grad=True)
    return s, t, *banks, whole(SAMPLES, n, 1 + NEGATIVES)


def ours_remembering(s: Tensor, t: Tensor, memory: Memory, chosen: Tensor) -> Tensor:
    return memory(s, t, chosen[:, 0], chosen)


def remembering(s: Tensor, t: Tensor, memory: Memory, chosen: Tensor) -> Tensor:
    """Scores, and what the module does after them: both memories move towards the new embeddings."""
    value = crd(s, t, memory.memory_v1, memory.memory_v2, chosen)
    with torch.no_grad():
        for bank, v in ((memory.memory_v1, unit(s)), (memory.memory_v2, unit(t))):
            new = torch.index_select(bank, 0, chosen[:, 0]).mul_(0.5).add_(v.mul(0.5))
            bank.index_copy_(0, chosen[:, 0], unit(new))
    return value


def with_memory(size: Size) -> Inputs:
    s, t, bank_s, bank_t, chosen = remembered(size)
    memory = Memory(SAMPLES, size[1], NEGATIVES, 0.07, 0.5)
    memory.memory_v1, memory.memory_v2 = bank_s, bank_t
    memory.params[2:4] = CONSTANTS
    return s, t, memory, chosen


@functools.cache
def labels_of_all() -> Tensor:
    return torch.arange(SAMPLES) % 100


@functools.cache
def others() -> list[np.ndarray]:
    return [np.flatnonzero(labels_of_all().numpy() != label) for label in range(100)]


@functools.cache
def drawer() -> Candidates:
    return Candidates(labels_of_all(), NEGATIVES)


def candidates(ids: Tensor) -> Tensor:
    """As the released data set draws; each row is copied to a tensor, since NumPy's memory is not on record."""
    rows = []
    for i in ids.tolist():
        drawn = np.random.choice(others()[i % 100], NEGATIVES, replace=False)
        rows.append(torch.tensor(np.hstack((np.asarray([i]), drawn))))
    return torch.stack(rows)


def crd_batch(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    v_s, v_t = unit(s), unit(t)
    negative, own = y[:, None] != y, torch.eye(len(y))
    k = negative.sum(1, keepdim=True)
    total = torch.zeros(())
    for anchor, other, constant in ((v_s, v_t, CONSTANTS[0]), (v_t, v_s, CONSTANTS[1])):
        e = torch.exp(anchor @ other.detach().T / 0.07) / constant
        total = total - (torch.log(e / (e + k)) * own + torch.log(k / (e + k)) * negative).sum() / len(y)
    return total


def labelled(size: Size) -> Inputs:
    return normal(*size, grad=True), normal(*size, seed=1, grad=True), whole(100, size[0])


def dcd(s: Tensor, t: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    logits = scale * F.normalize(s) @ F.normalize(t).T + bias
    other = logits.T
    value = F.cross_entropy(logits, torch.arange(len(s)))
    return value + 0.5 * F.kl_div(F.log_softmax(logits, 1), F.softmax(other, 1), reduction="batchmean")


def scaled(size: Size) -> Inputs:
    s, t = normal(*size, grad=True), normal(*size, seed=1, grad=True)
    return s, t, torch.tensor(14.3, requires_grad=True), torch.tensor(0.1)


def rrd(s: Tensor, t: Tensor, queue: Tensor) -> Tensor:
    with torch.no_grad():
        target = F.softmax(F.normalize(t) @ queue.T / 0.02, 1)
    return -(target * F.log_softmax(F.normalize(s) @ queue.T / 0.1, 1)).sum(1).mean()


def queued(size: Size) -> Inputs:
    return *two(size), F.normalize(normal(QUEUE, size[1], seed=2))


def itrd_correlation(s: Tensor, t: Tensor) -> Tensor:
    s, t = ((x - x.mean(0)) / x.std(0) for x in (s, t))
    return torch.log2((torch.einsum("nd,nd->d", s, t) / len(s) - 1).abs().pow(3).sum())


def itrd_mutual(s: Tensor, t: Tensor) -> Tensor:
    s, t = F.normalize(s), F.normalize(t)
    own, other = s @ s.T, t @ t.T
    both = own * other
    own, both = own / own.trace(), both / both.trace()
    return own.pow(2).sum() - both.pow(2).sum()


def first(call):  # type: ignore[no-untyped-def]
    """A loss that also gives its constants, with settled ones."""
    return lambda *args: call(*args, constants=CONSTANTS)[0]


EMBEDDINGS: dict[str, Pair] = {
    "crd": Pair(first(losses.crd), crd, remembered, CONTRAST, goal=0.5),
    "crd/memory": Pair(ours_remembering, remembering, with_memory, CONTRAST, goal=0.5),
    "crd/candidates": Pair(
        lambda ids: drawer()(ids), candidates, lambda size: (torch.arange(size[0]),), CONTRAST
    ),
    "crd_batch": Pair(first(losses.crd_batch), crd_batch, labelled, VECTORS),
    "dcd": Pair(lambda s, t, scale, bias: losses.dcd(s, t, scale, bias=bias), dcd, scaled, VECTORS),
    "rrd": Pair(losses.rrd, rrd, queued, VECTORS),
    "itrd_correlation": Pair(losses.itrd_correlation, itrd_correlation, two, VECTORS),
    "itrd_mutual": Pair(losses.itrd_mutual, itrd_mutual, two, VECTORS),
}
