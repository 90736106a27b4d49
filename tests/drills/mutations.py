"""Damages of a valid result file: every dataset, column and attribute, one at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

FLOATS = (float("nan"), float("inf"), -float("inf"), 1e300, -1.0, 0.0)
FOREIGN = "/dev/zero"  # must never be opened
ROWS_CLAIMED = 1 << 40


@dataclass(frozen=True)
class Mutation:
    name: str
    apply: Callable[[h5py.File], None]

    def write(self, source: Path, target: Path) -> Path:
        shutil.copy(source, target)
        with h5py.File(target, "r+") as file:
            self.apply(file)
        return target


def all_mutations(path: Path) -> list[Mutation]:
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        found = [*_of_attributes("/", file)]
        for name in names:
            item = file[name]
            found += _of_attributes(name, item)
            found += _of_links(name)
            if isinstance(item, h5py.Dataset):
                found += _of_dataset(name, item)
    return found


def _values(dtype: np.dtype) -> list:
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        return [*{info.min, info.max, 0} | ({-1} if dtype.kind == "i" else set())]
    if dtype.kind == "f":
        return list(FLOATS)
    if dtype.kind == "S":
        return [b"", b"\xff\x1b[2J$"[: dtype.itemsize], b"x" * dtype.itemsize]
    return []


def _of_attributes(name: str, item: h5py.HLObject) -> Iterator[Mutation]:
    for key, value in item.attrs.items():
        if key.startswith("unit_"):
            continue
        text = isinstance(value, (str, bytes))
        others = ["", "x" * 60000, "[" * 60000] if text else _values(np.asarray(value).dtype)
        # Another type, and many values for one.
        for other in [*others, 7.5 if text else "seven", np.zeros(3, "i4"), h5py.Empty("f8")]:
            yield Mutation(f"{name} @{key} = {_short(other)}", _set_attribute(name, key, other))
        yield Mutation(f"{name} @{key} missing", _drop_attribute(name, key))


def _of_dataset(name: str, data: h5py.Dataset) -> Iterator[Mutation]:
    rows = data[()]
    if rows.ndim and len(rows):
        for column in rows.dtype.names or (None,):
            for row in dict.fromkeys((0, len(rows) - 1)):
                yield from _of_values(name, rows, column, row)
        yield Mutation(f"{name} without rows", _replace(name, rows[:0]))
        yield Mutation(f"{name} a row less", _replace(name, rows[:-1]))
        yield Mutation(f"{name} a row twice", _replace(name, np.append(rows, rows[-1:], axis=0)))
        yield Mutation(f"{name} of rank + 1", _replace(name, rows[:, None]))
        yield Mutation(f"{name} a scalar", _replace(name, rows.flat[0]))
    yield Mutation(f"{name} of texts", _replace(name, np.full(max(1, rows.size), b"text")))
    for column in rows.dtype.names or ():
        rest = [other for other in rows.dtype.names if other != column]
        yield Mutation(f"{name}.{column} missing", _replace(name, rows[rest].copy()))
        yield Mutation(f"{name}.{column} a text", _replace(name, _as_text(rows, column)))
    yield Mutation(f"{name} virtual", _virtual(name, rows.dtype, rows.shape))
    yield Mutation(f"{name} external", _external(name, rows.dtype, rows.shape))
    yield Mutation(f"{name} of 2^40 rows", _claimed(name, rows.dtype))
    yield Mutation(f"{name} of a million zeros", _zeros(name, rows.dtype))


def _of_values(name: str, rows: np.ndarray, column: str | None, row: int) -> Iterator[Mutation]:
    dtype = rows.dtype[column] if column else rows.dtype
    for value in _values(dtype):
        where = f"{name}[{row}]" + (f".{column}" if column else "")
        changed = rows.copy()
        (changed[column] if column else changed)[row] = value
        if changed.tobytes() != rows.tobytes():
            yield Mutation(f"{where} = {_short(value)}", _replace(name, changed))


def _of_links(name: str) -> Iterator[Mutation]:
    yield Mutation(f"{name} missing", lambda file: file.__delitem__(name))
    links = {"itself": None, "nowhere": h5py.SoftLink("/not/there")}
    links["another file"] = h5py.ExternalLink(FOREIGN, "/")
    for what, link in links.items():
        yield Mutation(f"{name} a link to {what}", _link(name, link))


def _set_attribute(name: str, key: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file[name].attrs.__setitem__(key, value)


def _drop_attribute(name: str, key: str) -> Callable[[h5py.File], None]:
    return lambda file: file[name].attrs.__delitem__(key)


def _replace(name: str, rows: np.ndarray) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        del file[name]
        file[name] = rows

    return apply


def _link(name: str, link: object) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        parent = file[name].parent
        del file[name]
        parent[name.rpartition("/")[2]] = parent if link is None else link

    return apply


def _virtual(name: str, dtype: np.dtype, shape: tuple) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        del file[name]
        layout = h5py.VirtualLayout(shape=shape or (1,), dtype=dtype)
        layout[:] = h5py.VirtualSource(FOREIGN, "data", shape=shape or (1,))
        file.create_virtual_dataset(name, layout)

    return apply


def _external(name: str, dtype: np.dtype, shape: tuple) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        del file[name]
        where = [(FOREIGN, 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(name, shape=shape or (1,), dtype=dtype, external=where)

    return apply


def _claimed(name: str, dtype: np.dtype) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape=(ROWS_CLAIMED,), dtype=dtype, chunks=(1024,))

    return apply


def _zeros(name: str, dtype: np.dtype) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        del file[name]
        rows = np.zeros(1_000_000, dtype)
        file.create_dataset(name, data=rows, chunks=(100_000,), compression="gzip")

    return apply


def _as_text(rows: np.ndarray, column: str) -> np.ndarray:
    kinds = [(n, "S8" if n == column else rows.dtype[n]) for n in rows.dtype.names]
    changed = np.zeros(rows.shape, kinds)
    for other in rows.dtype.names:
        changed[other] = b"text" if other == column else rows[other]
    return changed


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 40 else text[:30] + "..."
