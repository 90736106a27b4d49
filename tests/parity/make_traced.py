#!/usr/bin/python3
"""Saves networks of torchvision as users trace and script them, images and logits.

Usage: make_traced.py FOLDER NAME:SIZE ...
For each network NAME.ts, NAME.images [2, 3, SIZE, SIZE] and NAME.logits [2, 10], both float32.
NAME is torchvision's, "odd" or "effects", "scripted_" before it for torch.jit.script.
"""

import pathlib
import sys
import warnings

import torch
import torch.nn.functional as F
import torchvision.models as zoo
from make_zoo import CLASSES, SEED, randomise
from torch import nn

OPTIONS = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"init_weights": False, "aux_logits": False},
}


class Odd(nn.Module):
    """What networks of other people are written like."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, 8, (3, 5), padding="same")
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, (1, 3), padding=(0, 1)) for _ in range(2))
        self.gate = nn.Conv2d(8, 8, 1)
        self.hidden = nn.Linear(8 * 4, 24, bias=False)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(24, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean) / 0.5
        x = torch.clamp(self.stem(x), 0, 6)
        x = self.norm(self.wide(x))
        x.relu_()
        parts = torch.split(x, 4, dim=1)
        outputs = []
        for i, block in enumerate(self.blocks):
            outputs.append(F.silu(block(parts[i])) + parts[i])
        x = torch.cat(outputs, 1) * F.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x += x[:, 0:8].clamp(min=0)
        n, c, h, w = x.size()
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = F.max_pool2d(F.avg_pool2d(x, 3, 2, 1), 3, stride=2, ceil_mode=True)
        x = F.adaptive_avg_pool2d(x, (2, 2))
        x = self.drop(torch.relu(self.hidden(x.view(x.size(0), -1))))
        return self.last(x)


class Effects(nn.Module):
    """What does the same as a graph's operators under other names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad2d((2, 2, 4, 4)), nn.Conv2d(3, 8, 3, 2, 1))
        self.first = nn.Conv2d(8, 8, 3)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(self.stem(x), (0, 0, 0, 0))
        x = x * torch.sigmoid(x)
        y = self.first(F.pad(x, (1, 1, 1, 1)))
        x = torch.sigmoid(y) * y - self.second(x)
        x = torch.add(F.relu(x), x, alpha=-0.5)
        x = F.avg_pool2d(x, 2, 2, 0, ceil_mode=True, count_include_pad=False)
        x = F.avg_pool2d(x, 3, 1, 1, divisor_override=9)
        return self.last(x.mean((2, 3)))


def made(name: str) -> nn.Module:
    if name == "odd":
        return Odd()
    if name == "effects":
        return Effects()
    return zoo.__dict__[name](num_classes=CLASSES, **OPTIONS.get(name, {}))


def main() -> None:
    warnings.filterwarnings("ignore")
    folder = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    for argument in sys.argv[2:]:
        name, size = argument.split(":")
        torch.manual_seed(SEED)
        plain = name.replace("scripted_", "")
        net = made(plain)
        randomise(net, int(size))
        images = torch.randn(2, 3, int(size), int(size))
        with torch.no_grad():
            logits = net(images)
            # The example has another number of images than any that follow.
            script = torch.jit.script(net) if plain != name else torch.jit.trace(net, images[:1])
        script.save(str(folder / f"{name}.ts"))
        (folder / f"{name}.images").write_bytes(images.numpy().tobytes())
        (folder / f"{name}.logits").write_bytes(logits.numpy().tobytes())


if __name__ == "__main__":
    main()
