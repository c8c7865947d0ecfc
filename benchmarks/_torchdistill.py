"""A run of KD by torchdistill (from PyPI): its box, its data loader, and the loop of its image classification example.

torchdistill holds the parts of a run and leaves the loop to its users; ``train`` transcribes the loop of its
``examples/torchvision/image_classification.py`` (train an epoch, evaluate, keep the best checkpoint).

Packages are looked for in ``torchdistill`` and ``vision`` of the virtual environment, where ``make bench`` puts them
without their dependencies: torchvision from PyPI is built for CUDA and does not load its compiled half beside a CPU
build of PyTorch. Its Python half only asks at import for two operators of object detection; declared without an
implementation, they let it, and so torchdistill, import. Nothing that a run here uses is replaced.
"""

from __future__ import annotations

import copy
import logging
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.data import Data

sys.path += [str(Path(sys.prefix) / name) for name in ("torchdistill", "vision")]
try:
    import torchvision
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: make bench puts torchvision and torchdistill into {sys.prefix}") from None
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
from torchdistill.common.constant import def_logger
from torchdistill.common.main_util import save_ckpt
from torchdistill.core.distillation import get_distillation_box
from torchdistill.misc.log import MetricLogger, SmoothedValue
from torchvision import transforms

def_logger.setLevel(logging.WARNING)
DEVICE = torch.device("cpu")


class Images(torchvision.datasets.FashionMNIST):
    """torchvision's Fashion-MNIST (one PIL image for each sample) on images that are already read."""

    def __init__(self, split: Any, change: Any) -> None:
        self.data, self.targets = split.images[:, 0], split.labels
        self.transform, self.target_transform = change, None


def datasets(data: Data, augmented: bool) -> dict[str, Images]:
    """Both splits, with the transforms of torchdistill's sample configurations for CIFAR."""
    plain = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    moved = [transforms.RandomCrop(data.size[0], padding=4), transforms.RandomHorizontalFlip()]
    return {
        "train": Images(data.train, transforms.Compose([*moved, *plain] if augmented else plain)),
        "val": Images(data.validation, transforms.Compose(plain)),
    }


def config(batch: int, rate: float, temperature: float, alpha: float) -> dict[str, Any]:
    """As its sample configurations for KD on CIFAR, with the data loaded in this process."""

    def loader(split: str, sampler: type) -> dict[str, Any]:
        return {
            "dataset_id": split,
            "sampler": {"class_or_func": sampler, "kwargs": {}},
            "kwargs": {"batch_size": batch, "num_workers": 0},
        }

    loss = {
        "key": "KDLoss",
        "kwargs": {
            "student_module_path": ".",
            "student_module_io": "output",
            "teacher_module_path": ".",
            "teacher_module_io": "output",
            "temperature": temperature,
            "alpha": alpha,
            "reduction": "batchmean",
        },
    }
    return {
        "num_epochs": 1,
        "train_data_loader": loader("train", torch.utils.data.RandomSampler),
        "val_data_loader": {**loader("val", torch.utils.data.SequentialSampler), "requires_supp": False},
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": {"lr": rate, "momentum": 0.9, "weight_decay": 5e-4}},
        "scheduler": {"key": "MultiStepLR", "kwargs": {"milestones": [60, 120, 160], "gamma": 0.2}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
        },
    }


def train(teacher: nn.Module, student: nn.Module, data: dict[str, Images], settings: dict[str, Any]) -> None:
    """One run on copies of the networks, its checkpoint in a temporary folder."""
    teacher, student = copy.deepcopy(teacher).eval(), copy.deepcopy(student)
    box = get_distillation_box(teacher, student, data, settings, DEVICE, [], False, 1)
    best = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(box.num_epochs):
            box.pre_epoch_process(epoch=epoch)
            _epoch(box, epoch)
            accuracy = _evaluate(student, box.val_data_loader)
            if accuracy > best:
                best = accuracy
                place = str(Path(folder) / "best.pt")
                save_ckpt(student, box.optimizer, box.lr_scheduler, best, Namespace(), place)
            box.post_epoch_process()
    box.clean_modules()


def _epoch(box: Any, epoch: int) -> None:
    logger = MetricLogger(delimiter="  ")
    logger.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
    logger.add_meter("img/s", SmoothedValue(window_size=10, fmt="{value}"))
    for images, labels, extra in logger.log_every(box.train_data_loader, 100, f"Epoch: [{epoch}]"):
        start = time.time()
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        loss = box.forward_process(images, labels, extra)
        box.post_forward_process(loss=loss)
        logger.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
        logger.meters["img/s"].update(len(images) / (time.time() - start))
        if torch.isnan(loss) or torch.isinf(loss):
            raise SystemExit(f"torchdistill's loss is {float(loss)}")


@torch.inference_mode()
def _evaluate(model: nn.Module, loader: Any) -> float:
    model.eval()
    logger = MetricLogger(delimiter="  ")
    for images, labels in logger.log_every(loader, 1000, "Validation:"):
        found = model(images.to(DEVICE)).topk(5).indices == labels[:, None]
        logger.meters["acc1"].update(found[:, 0].float().mean().item(), n=len(images))
        logger.meters["acc5"].update(found.any(1).float().mean().item(), n=len(images))
    return float(logger.acc1.global_avg)
