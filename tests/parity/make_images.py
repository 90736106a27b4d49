#!/usr/bin/python3
"""Makes images of awkward sizes and kinds as a data set in Kaggle's layout of ImageNet, and what
Pillow and torchvision make of them.

Usage: make_images.py FOLDER
Image i has label i. FOLDER/expected.f32 holds float32 [N, 3, 224, 224] in the order of the file
names. Prints the versions that made them.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy
import PIL
import torch
import torchvision
from PIL import Image, features
from torchvision import transforms

SIZES = [(257, 301), (640, 427), (33, 500), (500, 33), (224, 224), (256, 259), (3, 700)]
SIZES += [(1500, 1001)]
ADOBE = b"\xff\xee\x00\x0eAdobe"


def waves(width: int, height: int, channels: int) -> numpy.ndarray:
    """[height, width, channels] uint8: smooth waves under noise."""
    noise = numpy.random.default_rng([width, height, channels])
    y, x = numpy.mgrid[0:height, 0:width]
    planes = [numpy.sin(x / (5 + 3 * c) + c) * numpy.cos(y / (9 + c)) for c in range(channels)]
    values = 127 + 100 * numpy.stack(planes, -1) + noise.normal(0, 20, (height, width, channels))
    return values.clip(0, 255).astype(numpy.uint8)


def png(path: Path, rows: numpy.ndarray, width: int, bits: int, colour: int) -> None:
    """PNG files of kinds that Pillow cannot write. `rows` [height, bytes in a row] uint8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


# One entry: orientation 6, a quarter turn.
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def save_jpegs(stem: str, width: int, height: int) -> None:
    colours = Image.fromarray(waves(width, height, 3))
    for name, options in {
        "444": {"quality": 95, "subsampling": 0},
        "422": {"quality": 85, "subsampling": 1},
        "420": {"quality": 75, "subsampling": 2},
        "progressive": {"progressive": True},
        "turned": {"exif": TURNED},
    }.items():
        colours.save(f"{stem}_{name}.JPEG", **options)
    Image.fromarray(waves(width, height, 1)[..., 0]).save(f"{stem}_gray.JPEG")
    cmyk = Path(f"{stem}_cmyk.JPEG")
    Image.fromarray(waves(width, height, 4), "CMYK").save(cmyk)
    data = cmyk.read_bytes()  # with another transform in Adobe's segment the same numbers are YCCK
    place = data.index(ADOBE) + len(ADOBE) + 6
    Path(f"{stem}_ycck.JPEG").write_bytes(data[:place] + b"\2" + data[place + 1 :])


def save_pngs(stem: str, width: int, height: int) -> None:
    colours = Image.fromarray(waves(width, height, 3))
    gray = Image.fromarray(waves(width, height, 1)[..., 0])
    colours.save(f"{stem}_rgb.png")
    colours.quantize(17).save(f"{stem}_palette.png")
    colours.quantize(200).save(f"{stem}_clear.png", transparency=3)
    gray.save(f"{stem}_l.png")
    gray.convert("1").save(f"{stem}_1bit.png")
    Image.fromarray(waves(width, height, 4), "RGBA").save(f"{stem}_rgba.png")
    Image.fromarray(waves(width, height, 2), "LA").save(f"{stem}_la.png")
    deep = waves(width, height, 1)[..., 0].astype(numpy.int32) * 4  # beyond 255 as well
    Image.fromarray(deep).save(f"{stem}_gray16.png")
    for name, colour, channels in (("rgb16", 2, 3), ("la16", 4, 2), ("rgba16", 6, 4)):
        rows = waves(width * 2, height, channels).reshape(height, -1)
        png(Path(f"{stem}_{name}.png"), rows, width, 16, colour)
    png(Path(f"{stem}_2bits.png"), waves((width + 3) // 4, height, 1)[..., 0], width, 2, 0)


def write_tables(folder: Path, stems: list[str]) -> None:
    synsets = [f"n{number:08} thing" for number in range(1000)]
    (folder / "LOC_synset_mapping.txt").write_text("\n".join(synsets) + "\n")
    rows = ["ImageId,PredictionString"]
    rows += [f"{stem},n{number:08} 1 2 3 4 " for number, stem in enumerate(stems)]
    (folder / "LOC_val_solution.csv").write_text("\n".join(rows) + "\n")


def main() -> None:
    folder = Path(sys.argv[1])
    val = folder / "ILSVRC/Data/CLS-LOC/val"
    val.mkdir(parents=True)
    for width, height in SIZES:
        save_jpegs(f"{val}/{width}x{height}", width, height)
        save_pngs(f"{val}/{width}x{height}", width, height)
    paths = sorted(val.iterdir(), key=lambda path: path.name)
    write_tables(folder, [path.stem for path in paths])
    view = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images = torch.stack([view(Image.open(path).convert("RGB")) for path in paths])
    images.numpy().tofile(folder / "expected.f32")
    turbo = features.version("libjpeg_turbo")
    pillow = f"Pillow {PIL.__version__} (libjpeg-turbo {turbo})"
    print(f"{pillow}, torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
