"""Limbeck's losses in a training loop of your own: tensors in, a tensor out."""

import torch
from torch.nn import functional as F

from limbeck import losses
from limbeck.data import DataConfig, load
from limbeck.models import build

torch.manual_seed(0)
torch.set_num_threads(1)
data = load(DataConfig(name="digits"))
images, labels = data.train.fetch(torch.arange(len(data.train)))
shape = {"classes": 10, "channels": 1, "size": data.size}


def train(network, loss, epochs):
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for ids in torch.randperm(len(labels)).split(64):
            optimiser.zero_grad()
            loss(network(images[ids]), images[ids], labels[ids]).backward()
            optimiser.step()
    network.eval()
    x, y = data.test.fetch(torch.arange(len(data.test)))
    with torch.no_grad():
        return (network(x).argmax(1) == y).float().mean().item()


teacher, student = build("resnet8", **shape), build("cnn", **shape, widths=(8, 16))
print(f"teacher {train(teacher, lambda z, x, y: F.cross_entropy(z, y), epochs=5):.1%}")


def distil(logits, x, y):
    with torch.no_grad():
        taught = teacher(x)
    soft = 0.1 * F.cross_entropy(logits, y) + 0.9 * losses.kd(logits, taught, temperature=4.0)
    return soft + losses.bickd(logits, taught, y)  # reconstructed


print(f"student {train(student, distil, epochs=5):.1%}")
