"""Lets torchvision import beside a torch that its compiled half was not built for.

The Python half of torchvision asks at import for two operators of object detection, which PyPI's build (for
CUDA) cannot give beside a CPU torch. Declared without an implementation they let everything else of torchvision,
and so timm, run as it is. Used only by the processes that the tests of timm start.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
