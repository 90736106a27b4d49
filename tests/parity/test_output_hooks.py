"""Faults in outputs of convolutions and linear layers, once more by hooks of PyTorch.

200 stored trials are run again in eager PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from program import DATA, h5py, needs, needs_packages, run, tensor_names, torch

if torch is not None:
    from make_checkpoint import ResNet20

WEIGHTS = DATA / "models/cifar10_resnet20.pth"
IMAGES, TRIALS = 16, 200
NEAR_TIE = 1e-4  # of the largest logit: rounding decides

pytestmark = [needs_packages, needs(WEIGHTS)]


def images() -> torch.Tensor:
    raw = np.fromfile(DATA / "cifar10/test_batch.bin", np.uint8).reshape(-1, 3073)[:IMAGES, 1:]
    mean = torch.tensor((0.49139968, 0.48215827, 0.44653124)).view(1, 3, 1, 1)
    std = torch.tensor((0.24703233, 0.24348505, 0.26158768)).view(1, 3, 1, 1)
    return (torch.from_numpy(raw.copy()).float().view(-1, 3, 32, 32) / 255 - mean) / std


def flip(output: torch.Tensor, sites: np.ndarray) -> torch.Tensor:
    """Bits of single values of single images, elements row-major in [C, H, W]."""
    output = output.contiguous().clone()
    words = output.view(torch.int32).view(len(output), -1)
    for site in sites:
        image = int(site["image"])
        for row in range(len(output)) if image < 0 else [image]:
            mask = np.uint32(1) << np.uint32(site["bit"])
            words[row, int(site["element"])] ^= int(mask.view(np.int32))
    return output


def logits(net: torch.nn.Module, x: torch.Tensor, faults: dict[str, np.ndarray]) -> torch.Tensor:
    modules = dict(net.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _m, _in, out, s=sites: flip(out, s))
        for name, sites in faults.items()
    ]
    with torch.no_grad():
        result = net(x)
    for hook in hooks:
        hook.remove()
    return result


@pytest.mark.parametrize(
    "faults", ["--single-bit", "--ber 1e-6", "--ber 1e-6 --fault-lifetime permanent"]
)
def test_trials_come_out_as_with_hooks(tmp_path: Path, faults: str):
    output = tmp_path / "r.h5"
    network = ["--model", "resnet20", "--dataset", "cifar10", "--checkpoint", WEIGHTS]
    images_of = ["--data", DATA / "cifar10", "--images", IMAGES]
    how = ["--fault-target", "activation", *faults.split(), "--repeat", TRIALS]
    run("inject", *network, *images_of, *how, "--output", output)
    with h5py.File(output) as file:
        names = tensor_names(file)
        trials, labels = file["trials"][:], torch.from_numpy(file["golden/labels"][:])
        sites, offsets = file["faults/sites"][:], file["faults/offsets"][:]
    net = ResNet20().eval()
    net.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    x = images()
    golden = logits(net, x, {}).argmax(1)
    wrong, ties = [], 0
    for row, trial in enumerate(trials):
        own = sites[offsets[row] : offsets[row + 1]]
        by_name = {names[t]: own[own["tensor"] == t] for t in np.unique(own["tensor"])}
        z = logits(net, x, by_name)
        due = ~z.isfinite().all(1)
        top = z.nan_to_num(0, 0, 0).topk(2).values
        near = int((~due & (top[:, 0] - top[:, 1] < NEAR_TIE * z.abs().amax(1))).sum())
        found = z.argmax(1)
        expected = {
            "due": due.sum(),
            "sdc_critical": (~due & (found != golden)).sum(),
            "correct": (~due & (found == labels)).sum(),
        }
        ties += near
        wrong += [
            f"trial {trial['id']} {name}: {trial[name]}, PyTorch {int(count)}"
            for name, count in expected.items()
            if abs(int(trial[name]) - int(count)) > near
        ]
    assert not wrong, wrong
    assert trials["due"].sum() + trials["sdc_critical"].sum() > 20
    assert ties < 0.01 * TRIALS * IMAGES
