"""Numbers of a segmentation network, summed up over batches of pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..shapes import IGNORE


class Confusion:
    """Which class was taken for which, counted batch by batch, so that no score maps are kept.

    ``IoU_k = M_kk / (sum_j M_kj + sum_j M_jk - M_kk)``; the mean is over classes that occur in labels or
    predictions. Pixels labelled -100 are left out.

    Args:
        classes: number of classes K.

    Example:
        >>> seen = Confusion(2)
        >>> seen.add(torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1, 1]))
        >>> {name: round(value, 3) for name, value in seen.metrics().items()}
        {'miou': 0.5, 'accuracy': 0.667, 'class_accuracy': 0.75, 'nll': 0.794}
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.matrix = torch.zeros(classes, classes, dtype=torch.int64)
        self.sums: dict[str, float] = {}

    def add(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Count rows: scores ``(N, K)``, labels ``(N,)``, and the teacher's scores where there is one."""
        given = labels != IGNORE
        logits, labels = logits[given].float(), labels[given]
        guess = logits.argmax(1)
        self.count(guess, labels)
        found = {"nll": cross_entropy(logits, labels, reduction="sum")}
        if teacher is not None:
            teacher = teacher[given].float()
            found["agreement"] = (guess == teacher.argmax(1)).sum()
            log_s, log_t = logits.log_softmax(1), teacher.log_softmax(1)
            found["teacher_kl"] = (log_t.exp() * (log_t - log_s)).sum()
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def count(self, guess: Tensor, labels: Tensor) -> None:
        """Count predicted classes against labels, both of any equal shape."""
        guess, labels = guess.flatten().cpu(), labels.flatten().cpu()
        given = labels != IGNORE
        pairs = labels[given] * self.classes + guess[given]
        self.matrix += torch.bincount(pairs, minlength=self.classes**2).view(self.classes, self.classes)

    def merge(self, others: list[tuple[Tensor, dict[str, float]]]) -> None:
        """Take the counts of all processes instead of one's own."""
        self.matrix = torch.stack([matrix for matrix, _ in others]).sum(0)
        self.sums = {name: sum(sums.get(name, 0.0) for _, sums in others) for name in others[0][1]}

    def iou(self) -> Tensor:
        """Intersection over union per class ``(K,)``; NaN for a class that does not occur."""
        hit = self.matrix.diagonal().double()
        union = self.matrix.sum(0) + self.matrix.sum(1) - self.matrix.diagonal()
        return torch.where(union > 0, hit / union, torch.nan)

    def metrics(self) -> dict[str, float]:
        """Fractions in [0, 1]; ``nll`` and ``teacher_kl`` in nats per pixel."""
        total = max(int(self.matrix.sum()), 1)
        hit = self.matrix.diagonal().double()
        of_class = self.matrix.sum(1)
        recall = (hit / of_class)[of_class > 0]
        return {
            "miou": float(torch.nan_to_num(self.iou().nanmean())),
            "accuracy": float(hit.sum()) / total,
            "class_accuracy": float(recall.mean()) if len(recall) else 0.0,
            **{name: value / total for name, value in self.sums.items()},
        }
