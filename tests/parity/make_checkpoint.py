#!/usr/bin/python3
"""Saves a random network in both formats of torch.save, with images and the logits of PyTorch.

Usage: make_checkpoint.py resnet20|vgg11_bn FOLDER
Writes net.pth, net.legacy.pth, images.bin [16, 3, 32, 32] and logits.bin [16, 10], both float32.
"""

import pathlib
import sys

import torch
from torch import nn
from torch.nn import functional

SEED = 20


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride != 1:
            self.downsample = nn.Sequential(
                conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return functional.relu(shortcut + self.bn2(self.conv2(inner)))


def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    later = [Residual(outputs, outputs, 1) for _ in range(2)]
    return nn.Sequential(Residual(inputs, outputs, stride), *later)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, 1)
        self.layer2 = stage(16, 32, 2)
        self.layer3 = stage(32, 64, 2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Vgg11(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for widths in ([64], [128], [256, 256], [512, 512], [512, 512]):
            for width in widths:
                convolution = nn.Conv2d(inputs, width, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        hidden = [nn.Linear(512, 512), nn.ReLU(), nn.Dropout()]
        hidden += [nn.Linear(512, 512), nn.ReLU(), nn.Dropout()]
        self.classifier = nn.Sequential(*hidden, nn.Linear(512, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


def randomise(net: nn.Module) -> None:
    """Gives batch normalisations an effect: own scales and shifts, statistics of random images."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
    net.train()
    with torch.no_grad():
        for _ in range(8):
            net(torch.randn(32, 3, 32, 32))
    net.eval()


def main() -> None:
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = {"resnet20": ResNet20, "vgg11_bn": Vgg11}[name]()
    randomise(net)
    images = torch.randn(16, 3, 32, 32)
    with torch.no_grad():
        logits = net(images)
    torch.save(net.state_dict(), folder / "net.pth")
    legacy = {"_use_new_zipfile_serialization": False}
    torch.save(net.state_dict(), folder / "net.legacy.pth", **legacy)
    (folder / "images.bin").write_bytes(images.numpy().tobytes())
    (folder / "logits.bin").write_bytes(logits.numpy().tobytes())


if __name__ == "__main__":
    main()
