#!/usr/bin/python3
"""Saves random networks with the names and shapes that users' files have, images and logits.

Usage: make_zoo.py FOLDER NAME:SIZE ...
For each network NAME.pth (state_dict), NAME.images [2, 3, SIZE, SIZE] and NAME.logits [2, 10], both
float32. What pytorch-cifar-models has are torchvision's networks with other strides, and RepVGG.
"""

import pathlib
import sys

import torch
import torchvision.models as zoo
from torch import nn

SEED = 20
CLASSES = 10


class RepBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        if inputs == outputs and stride == 1:
            self.rbr_identity = nn.BatchNorm2d(inputs)
        self.rbr_dense = self.branch(inputs, outputs, 3, stride)
        self.rbr_1x1 = self.branch(inputs, outputs, 1, stride)

    @staticmethod
    def branch(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
        both = nn.Sequential()
        both.add_module("conv", nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False))
        both.add_module("bn", nn.BatchNorm2d(outputs))
        return both

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.rbr_dense(x) + self.rbr_1x1(x)
        return torch.relu(total + self.rbr_identity(x) if hasattr(self, "rbr_identity") else total)


class RepVgg(nn.Module):
    def __init__(self, width: float, last: float) -> None:
        super().__init__()
        before = min(64, int(64 * width))
        self.stage0 = RepBlock(3, before, 1)
        for stage, blocks in enumerate((2, 4, 14, 1)):
            after = int(64 * 2**stage * (last if stage == 3 else width))
            modules = []
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                modules.append(RepBlock(before, after, stride))
                before = after
            self.add_module(f"stage{stage + 1}", nn.Sequential(*modules))
        self.linear = nn.Linear(before, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stage0(x)))))
        return self.linear(x.mean([2, 3]))


def cifar_mobilenet(width: float) -> nn.Module:
    settings = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2]]
    settings += [[6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
    net = zoo.MobileNetV2(CLASSES, width, settings)
    net.features[0][0].stride = (1, 1)
    return net


def cifar_shufflenet(*widths: int) -> nn.Module:
    net = zoo.ShuffleNetV2([4, 8, 4], list(widths), CLASSES)
    net.conv1[0].stride = (1, 1)
    net.maxpool = nn.Identity()
    return net


class CifarResnet(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        before = 16
        for number, width in enumerate((16, 32, 64), 1):
            modules = []
            for block in range(blocks):
                stride = 2 if number > 1 and block == 0 else 1
                project = None
                if stride > 1:
                    conv = nn.Conv2d(before, width, 1, stride, bias=False)
                    project = nn.Sequential(conv, nn.BatchNorm2d(width))
                modules.append(zoo.resnet.BasicBlock(before, width, stride, project))
                before = width
            self.add_module(f"layer{number}", nn.Sequential(*modules))
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean([2, 3]))


def cifar_vgg(setting: str) -> nn.Module:
    net = nn.Sequential()
    net.add_module("features", zoo.vgg.make_layers(zoo.vgg.cfgs[setting], batch_norm=True))
    net.add_module("flatten", nn.Flatten())
    hidden = [nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU()]
    net.add_module("classifier", nn.Sequential(*hidden, nn.Dropout(), nn.Linear(512, CLASSES)))
    return net


CIFAR = {
    "resnet20": lambda: CifarResnet(3),
    "resnet32": lambda: CifarResnet(5),
    "resnet44": lambda: CifarResnet(7),
    "resnet56": lambda: CifarResnet(9),
    "vgg11_bn": lambda: cifar_vgg("A"),
    "vgg13_bn": lambda: cifar_vgg("B"),
    "vgg16_bn": lambda: cifar_vgg("D"),
    "vgg19_bn": lambda: cifar_vgg("E"),
    "mobilenetv2_x0_5": lambda: cifar_mobilenet(0.5),
    "mobilenetv2_x0_75": lambda: cifar_mobilenet(0.75),
    "mobilenetv2_x1_0": lambda: cifar_mobilenet(1.0),
    "mobilenetv2_x1_4": lambda: cifar_mobilenet(1.4),
    "shufflenetv2_x0_5": lambda: cifar_shufflenet(24, 48, 96, 192, 1024),
    "shufflenetv2_x1_0": lambda: cifar_shufflenet(24, 116, 232, 464, 1024),
    "shufflenetv2_x1_5": lambda: cifar_shufflenet(24, 176, 352, 704, 1024),
    "shufflenetv2_x2_0": lambda: cifar_shufflenet(24, 244, 488, 976, 2048),
    "repvgg_a0": lambda: RepVgg(0.75, 2.5),
    "repvgg_a1": lambda: RepVgg(1, 2.5),
    "repvgg_a2": lambda: RepVgg(1.5, 2.75),
}


def made(name: str) -> nn.Module:
    if name in CIFAR:
        return CIFAR[name]()
    options = {"num_classes": CLASSES}
    if name == "googlenet":
        options |= {"transform_input": True, "init_weights": False}
    return zoo.__dict__[name.replace("imagenet_", "")](**options)


def randomise(net: nn.Module, size: int) -> None:
    """Gives every layer an effect: normalisations with own scales and statistics of images."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
            module.momentum = 0.5
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 3, size, size))
    net.eval()


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    for argument in sys.argv[2:]:
        name, size = argument.split(":")
        torch.manual_seed(SEED)
        net = made(name)
        randomise(net, int(size))
        images = torch.randn(2, 3, int(size), int(size))
        with torch.no_grad():
            logits = net(images)
        torch.save(net.state_dict(), folder / f"{name}.pth")
        (folder / f"{name}.images").write_bytes(images.numpy().tobytes())
        (folder / f"{name}.logits").write_bytes(logits.numpy().tobytes())


if __name__ == "__main__":
    main()
