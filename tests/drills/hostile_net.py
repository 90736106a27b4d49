"""Networks that keep state, follow the number of images, or write files; and harmless ones that look
like these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Dict, List, Tuple  # noqa: UP035, TorchScript of old Pythons

import torch
from torch import nn


class Net(nn.Module):
    """Harmless."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=8)
        self.fc = nn.Linear(4, 10)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x)


class Writes(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("payload", torch.tensor(list(b"owned\n"), dtype=torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        file = torch.from_file("owned", True, self.payload.numel(), dtype=torch.uint8)
        self.payload = file.copy_(self.payload)
        return self.logits(x)


class State(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.ones(3)

    @torch.jit.export
    def __getstate__(self):
        return self.w, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[torch.Tensor, bool]):
        self.w = state[0]
        self.training = state[1]
        torch.save(state[0], "owned")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.w.sum()


class Outer(Net):
    def __init__(self) -> None:
        super().__init__()
        self.inner = State()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(self.inner(x))


# ---- refused while they are walked ----


class Counts(Net):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.logits(x)


class InPlace(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.scale.mul_(0.5)
        return self.logits(x * self.scale)


class Remembers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: List[int] = [1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(3)
        return self.logits(x)


class Many(Net):
    """Another network from 65 images on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(0) > 64:
            x = x.relu()
        return self.logits(x)


class ManyByLength(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = torch.jit.annotate(List[int], [])
        for _ in range(x.numel() // (3 * 32 * 32 * 100)):
            n.append(1)
        if len(n) > 0:
            x = x.relu()
        return self.logits(x)


class ManyByTensor(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(torch.tensor([x.shape[0] / 2.0]).sum() > 32):
            x = x.relu()
        return self.logits(x)


class ManyByShape(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = x.shape[:2]
        if sizes[0] // 64 > 0:
            x = x.relu()
        return self.logits(x)


class ManyInArgument(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x * (1.0 + float(x.size(0) // 64)))


class ByValue(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            x = x.relu()
        return self.logits(x)


class Inside(Net):
    """A tensor within a tuple counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: tuple[torch.Tensor, int] = (torch.ones(1), 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inside[0].add_(1)
        if bool(self.inside[0].sum() > 9):
            x = torch.relu(x)
        return self.logits(x)


class Moves(Net):
    """Statistics of constants move at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("var", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nn.functional.batch_norm(torch.ones(2, 2), self.mean, self.var, training=True)
        if bool(self.mean.sum() > 1.9):
            x = torch.relu(x)
        return self.logits(x)


class Draws(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x * torch.ones([1, 1, 1, 1]).bernoulli_(0.9))


class Drops(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x * nn.functional.dropout(torch.ones([1]), 0.001, True))


class OtherName(Net):
    """Both names of the images are clamped, which only large values show."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x)
        first = y.detach()
        y.clamp_(0.0, 6.0)
        return self.logits(first)


class Returned(Net):
    """What is returned was changed by another name at last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.logits(x)
        first = y.detach()
        y.clamp_(0.0, 6.0)
        return first


class ManyByText(Net):
    """The number is in a list in a dictionary, and then in a text."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = {"images": [1]}
        sizes["images"].append(x.size(0))
        message = f"{sizes['images'][1]} images"
        if len(message) > len("64 images"):
            x = x.relu()
        return self.logits(x)


class First(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x[:64])


class Unwritten(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(torch.empty(1).sum() > 1e-30):
            x = x.relu()
        return self.logits(x)


PATH = "depends on the number of images"
STATEFUL: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "counter": (Counts, "sets the attribute 'calls'"),
    "in_place": (InPlace, "changes a parameter, buffer, attribute or constant"),
    "list": (Remembers, "changes a parameter, buffer, attribute or constant"),
    "tuple": (Inside, "changes a parameter, buffer, attribute or constant"),
    "statistics": (Moves, "normalises by the batch"),
    "random": (Draws, "draws random numbers"),
    "dropout": (Drops, "is active: call eval()"),
    "names": (OtherName, "changed in place by another name"),
    "size": (Many, PATH),
    "length": (ManyByLength, PATH),
    "tensor": (ManyByTensor, PATH),
    "shape": (ManyByShape, PATH),
    "argument": (ManyInArgument, PATH),
    "text": (ManyByText, PATH),
    "first": (First, "takes another number of images than all"),
    "empty": (Unwritten, "gives memory that nothing has written"),
    "returned": (Returned, "returns a tensor that was changed in place by another name"),
    "value": (ByValue, "operator aten::sum in the network itself is not supported"),
}


# ---- imported ----


class Checks(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 4:
            raise ValueError(f"4 dimensions are wanted, not {x.dim()}")
        if x.size(2) != x.size(3):
            raise ValueError("square images are wanted")
        if self.training:
            x = x + torch.rand_like(x)
        return self.logits(x)


class Wants(Net):
    """Only raises for some numbers of images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(0) > 1000:
            raise ValueError("too many images")
        return self.logits(x)


class Views(Net):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(4 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.wide(x.view(x.size(0), -1))


class Shapes(Views):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        features = 1
        for size in x.shape[1:]:
            features *= size
        return self.wide(x.view(-1, features))


class Loops(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts: List[torch.Tensor] = []
        for part in torch.chunk(x, 3, dim=1):
            parts.append(torch.relu(part))
        i = 0
        while i < x.size(1):
            i += 1
        return self.logits(torch.cat(parts, 1))


class Backbone(Net):
    """Gives its stages by their names, as torchvision's IntermediateLayerGetter does."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: Dict[str, str] = {"conv": "out"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._assert(x.dim() == 4, f"4 dimensions are wanted, not {x.dim()}: {x.shape}")
        out: Dict[str, torch.Tensor] = {}
        for name in ["image", "conv"]:
            if name == "conv":
                x = torch.relu(self.conv(x))
            if name in self.stages:
                out[self.stages[name]] = x
        return self.fc(out["out"].mean((2, 3)))


HARMLESS: dict[str, type[nn.Module]] = {
    "checks": Checks,
    "wants": Wants,
    "views": Views,
    "shapes": Shapes,
    "loops": Loops,
    "backbone": Backbone,
    "traced_views": Views,
    "traced_shapes": Shapes,
    "traced_loops": Loops,
}
