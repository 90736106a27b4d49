"""The broken, foreign and hostile files of test_bad_input.py."""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np

IMAGE_BYTES = 3072


class Call:
    """Unpickling this runs `function(*args)`."""

    def __init__(self, function, *args) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def write_zip(path: Path, entries: dict[str, bytes]) -> None:
    """As torch.save lays it out: stored, one folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)


def write_pickles(folder: Path, marker: Path) -> None:
    """Pickles that would create `marker` if anything in them were called."""
    run = Call(os.system, f"touch '{marker}'")
    evaluate = Call(eval, f"open({str(marker)!r}, 'w')")
    nested = collections.OrderedDict([("conv1.weight", run)])
    write_zip(folder / "call_zip.pth", {"data.pkl": pickle.dumps(run, 2), "version": b"3\n"})
    write_zip(folder / "call_nested.pth", {"data.pkl": pickle.dumps(nested, 2), "version": b"3\n"})
    write_zip(folder / "call_eval.pth", {"data.pkl": pickle.dumps(evaluate, 2), "version": b"3\n"})
    (folder / "call_plain.pth").write_bytes(pickle.dumps(run, 2))
    # The pre-1.6 format: magic number, protocol version, system, then the object.
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    legacy = b"".join(pickle.dumps(part, 2) for part in [*head, nested])
    (folder / "call_legacy.pth").write_bytes(legacy)
    (folder / "call_protocol4.pth").write_bytes(pickle.dumps(run, 4))


def write_vgg(path: Path, torch) -> None:
    """A thin vgg11_bn with the names of pytorch-cifar-models."""
    layers, channels = [], 3
    for width, pool in [(8, 1), (8, 1), (8, 0), (8, 1), (8, 0), (8, 1), (8, 0), (8, 1)]:
        layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.BatchNorm2d(width)]
        layers += [torch.nn.ReLU()] + [torch.nn.MaxPool2d(2)] * pool
        channels = width
    net = torch.nn.Module()
    net.features = torch.nn.Sequential(*layers)
    net.classifier = torch.nn.Sequential(
        *(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Dropout()),
        *(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Dropout()),
        torch.nn.Linear(8, 10),
    )
    torch.save(net.state_dict(), path)


def cifar_folder(folder: Path, test: bytes, label_bytes: int = 1) -> None:
    """Good training images of the binary release, and `test` as its test images."""
    folder.mkdir()
    good = bytes(label_bytes + IMAGE_BYTES)
    if label_bytes == 2:
        (folder / "train.bin").write_bytes(good)
        (folder / "test.bin").write_bytes(test)
        return
    for batch in range(1, 6):
        (folder / f"data_batch_{batch}.bin").write_bytes(good)
    (folder / "test_batch.bin").write_bytes(test)


def write_folders(folder: Path) -> None:
    good = bytes(1 + IMAGE_BYTES)
    cifar_folder(folder / "cifar_good", good * 4)
    cifar_folder(folder / "cifar_empty", b"")
    cifar_folder(folder / "cifar_short", good * 3 + good[:1000])
    cifar_folder(folder / "cifar_label", good + b"\x0a" + bytes(IMAGE_BYTES))
    cifar_folder(folder / "cifar100", bytes(2 + IMAGE_BYTES) * 4, 2)
    cifar_folder(folder / "cifar_part", good)
    (folder / "cifar_part" / "data_batch_3.bin").unlink()
    (folder / "nothing_here").mkdir()


JOBS = {
    "unknown_key": "[campaign]\nrepeat = 3\nbanana = 1\n",
    "wrong_type": "[campaign]\n\nrepeat = 'many'\n",
    "nested": "[campaign]\nrepeat = { a = 1 }\n",
    "date": "[campaign]\nrepeat = 2024-01-01\n",
    "invalid": "[campaign]\nrepeat = = 3\n",
    "unclosed": "[campaign\n",
    "unknown_table": "[campaign]\nrepeat = 3\n[fly]\nhigh = true\n",
    "no_table": "[evaluate]\nimages = 3\n",
    "loose_key": "repeat = 3\n",
    "array_of_tables": "[[campaign]]\nrepeat = 3\n",
    "list_for_one": "[campaign]\nrepeat = [1, 2]\n",
    "bad_flag": "[campaign]\nfresh = 'perhaps'\n",
    "bad_ratio": "[campaign]\nhardening-ratio = 1.5\noutput = 'x.h5'\nber = 1e-6\n",
    "bad_word": "[campaign]\nengine = 'warp'\n",
    "two_counts": "[campaign]\nfault-count = 'exact:3'\nsingle-bit = true\noutput = 'x.h5'\n",
    "empty": "",
}


def write_jobs(folder: Path) -> None:
    for name, text in JOBS.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "not_utf8.toml").write_bytes(b"[campaign]\nrepeat = '\xff\xfe'\n")


def write_without_record(good: Path, plain: Path) -> None:
    """The checkpoint as plain PyTorch would have saved it."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(plain, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith("sentinelnn.json"):
                target.writestr(entry.filename, source.read(entry))


def write_other_files(folder: Path, checkpoint: Path) -> None:
    good = checkpoint.read_bytes()
    write_without_record(checkpoint, folder / "plain.pth")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_text("These are not the weights you are looking for.\n" * 100)
    for name, share in [("start", 0.001), ("half", 0.5), ("end", 0.9999)]:
        (folder / f"cut_{name}.pth").write_bytes(good[: int(len(good) * share)])
    with h5py.File(folder / "numbers.h5", "w") as file:
        file["numbers"] = np.arange(5)
    (folder / "folder.pth").mkdir()
