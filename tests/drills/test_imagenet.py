"""ImageNet's layout through the whole program, on a few made images."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import pytest

BROKEN = b"\xff\xd8\xff\xe0\0\x10JFIF\0"


def png(gray: int) -> bytes:
    """Nine pixels of one gray."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + bytes([gray] * 3)) * 3))
    return b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def data(scratch) -> Path:
    """Five images per split, each its own class; the third test image is broken."""
    folder = scratch / "imagenet"
    place = folder / "ILSVRC/Data/CLS-LOC"
    names = [f"n{number:08}" for number in range(1000)]
    for number, name in enumerate(names[:5]):
        (place / "train" / name).mkdir(parents=True)
        (place / "train" / name / f"{name}_1.JPEG").write_bytes(png(50 * number))
    (place / "val").mkdir()
    for number in range(5):
        image = place / f"val/ILSVRC2012_val_{number + 1:08}.JPEG"
        image.write_bytes(BROKEN if number == 2 else png(50 * number))
    index = {str(number): [name, "a thing"] for number, name in enumerate(names)}
    (folder / "imagenet_class_index.json").write_text(json.dumps(index))
    labels = {f"ILSVRC2012_val_{number + 1:08}.JPEG": names[number] for number in range(5)}
    (folder / "ILSVRC2012_val_labels.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture(scope="module")
def network(sentinelnn, data, scratch) -> list[str | Path]:
    path = scratch / "imagenet.pth"
    selection = ["--model", "resnet20", "--dataset", "imagenet", "--data", data, "--skip-broken"]
    train = sentinelnn.run(["train", *selection, "--epochs", "1", "--output", path])
    assert train.code == 0, train.err
    return ["--data", data, "--checkpoint", path]


def test_a_broken_image_ends_the_program(sentinelnn, network):
    for more in ([], ["--images", "3", "--threads", "2"]):
        outcome = sentinelnn.run(["evaluate", *network, *more])
        assert outcome.code == 65 and len(outcome.messages) == 1, outcome.err
        assert "val/ILSVRC2012_val_00000003.JPEG: is a broken JPEG file: " in outcome.messages[0]


def test_or_is_left_out(sentinelnn, network):
    first = sentinelnn.run(["evaluate", *network, "--images", "2", "--json"])
    assert first.code == 0 and json.loads(first.out)["images"] == 2, first.err
    for ranks in (0, 2):
        rest = sentinelnn.run(["evaluate", *network, "--skip-broken", "--json"], ranks)
        assert rest.code == 0 and json.loads(rest.out)["images"] == 4, rest.err
        assert rest.err.count("left out: ") == 1
        assert "1 of 5 images cannot be read and are left out" in rest.err
    more = sentinelnn.run(["evaluate", *network, "--skip-broken", "--images", "5"])
    assert more.code == 64 and "5 images are asked for" in more.messages[0]


def test_faults_into_a_network_for_imagenet(sentinelnn, network, tmp_path):
    """A replay reads the images as the campaign did, without the broken one."""
    result = tmp_path / "r.h5"
    job = ["inject", *network, "--skip-broken", "--images", "3", "--ber", "1e-6", "--repeat", "2"]
    done = sentinelnn.run([*job, "--output", result])
    assert done.code == 0, done.err
    again = sentinelnn.run(["replay", result, "--trials", "0-1"])
    assert again.code == 0, again.err


# ---- folders named by class numbers ----

CLASSES = [0, 1, 2, 3, 9, 10, 11, 12, 99, 100, 101, 110, 111, 199, 200, 500, 501, 990, 998, 999]


@pytest.fixture(scope="module")
def by_gray(scratch) -> Path:
    """A network that tells CLASSES by the gray of an image in [0, 1]: 12 more for each."""
    torch = pytest.importorskip("torch", reason="python3-torch makes the file")
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000)
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3)[:, :, None, None])
        net[3].weight.zero_()
        net[3].bias.fill_(-1000)
        for place, label in enumerate(CLASSES):  # largest where -(x - gray)^2 is
            gray = 12 * place / 255
            net[3].weight[label, 0] = 2000 * gray
            net[3].bias[label] = -1000 * gray**2
    path = scratch / "gray.ts"
    torch.jit.trace(net.eval(), torch.rand(1, 3, 224, 224)).save(str(path))
    return path


@pytest.fixture(scope="module")
def numbered(scratch) -> Path:
    """As ImageNetV2: val/0 to val/999."""
    folder = scratch / "numbered"
    for number in range(1000):
        (folder / f"val/{number}").mkdir(parents=True)
    for place, label in enumerate(CLASSES):
        (folder / f"val/{label}/{place}.png").write_bytes(png(12 * place))
    return folder


def test_folders_named_by_numbers_are_class_numbers(sentinelnn, by_gray, numbered):
    words = ["evaluate", "--model", by_gray, "--dataset", "imagenet", "--mean", "none"]
    outcome = sentinelnn.run([*words, "--data", numbered])
    assert outcome.code == 0, outcome.err
    assert "20 of 20 test images right" in outcome.out
    said = "1000 classes are named by whole numbers, 0 to 999, taken as class numbers"
    assert outcome.err.count(said) == 1
    assert "chance" not in outcome.err


def test_class_numbers_from_1_are_refused(sentinelnn, by_gray, scratch):
    folder = scratch / "from1"
    for number in (1, 1000):
        (folder / f"val/{number}").mkdir(parents=True)
        (folder / f"val/{number}/a{number}.png").write_bytes(png(0))
    words = ["evaluate", "--model", by_gray, "--dataset", "imagenet", "--data", folder]
    outcome = sentinelnn.run(words)
    assert outcome.code == 65 and len(outcome.messages) == 1, outcome.err
    assert "named 1 to 1000, but class numbers are 0 to 999" in outcome.messages[0]


def test_what_numbers_the_classes_is_said(sentinelnn, network):
    outcome = sentinelnn.run(["evaluate", *network, "--images", "1"])
    assert outcome.code == 0, outcome.err
    said = r"ILSVRC2012_val_labels.json: classes are numbered by \S+/imagenet_class_index.json"
    assert len(re.findall(said, outcome.err)) == 1
