"""Your own data set, networks and method: any Dataset, any nn.Module, one short class."""

import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset

import limbeck
from limbeck.methods import Method, Term


class Digits(Dataset):
    """Any map-style data set that gives (image, class id)."""

    def __init__(self, ids):
        pixels, self.labels = load_digits(return_X_y=True)
        self.images, self.ids = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8), ids

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return self.images[self.ids[i]], int(self.labels[self.ids[i]])


class Margin(Method):
    """Match the gap between the teacher's two favourite classes."""

    name, paper, status = "margin", "an example", "control"

    def forward(self, student, teacher, batch):
        top = self.taught(teacher).logits.topk(2, dim=1)
        gap = student.logits.gather(1, top.indices).diff(dim=1)
        return {"margin": Term((gap - top.values.diff(dim=1)).square().mean(), 0.1)}


def network(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


torch.manual_seed(0)
data = Digits(range(1000)), Digits(range(1000, 1700))
loop = {"epochs": 5, "precision": "fp32", "threads": 1}
folder = tempfile.mkdtemp()
big, small = network(256), network(16)
limbeck.train(big, data, output=f"{folder}/teacher", train=loop, quiet=True)
run = limbeck.distill(small, big, data, method=Margin, output=f"{folder}/student", train=loop, quiet=True)
print(f"{run.accuracy:.1%}", run.results["last"]["test"]["agreement"])
