"""An HDF5 file of ours, held open: checked tables, arrays and attributes, errors of one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

# A published file never changes, and locks fail on read-only and on some parallel file systems.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from schema import KINDS, NEWEST, OPTIONAL, SINCE_2  # noqa: E402


HARMLESS, MOST_COMPRESSION = 1 << 26, 2000  # bytes; deflate shrinks to a thousandth at best


class ResultError(Exception):
    """A file that is missing, none of ours, or broken; one line that says which and why."""


class Store:
    """One file whose attribute `schema` is one of those wanted."""

    def __init__(self, path: str | os.PathLike[str], *schemas: str) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            self.schema, self.version = self._check_schema(schemas)
        except ResultError:
            self._file.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def __contains__(self, path: str) -> bool:
        return self._item(path) is not None

    def _item(self, path: str) -> h5py.HLObject | None:
        """None where the file has nothing of this name; a link that leads nowhere is an error."""
        try:
            return self._file[path] if path in self._file else None
        except (KeyError, OSError, RuntimeError) as error:
            raise ResultError(f"{self.path}: /{path} cannot be read: {_line(error)}") from error

    def attributes(self, where: str = "/") -> dict[str, Any]:
        """Attributes of a group; none where the file has no such group."""
        item = self._item(where)
        if item is None:
            return {}
        try:
            return {name: _plain(value) for name, value in item.attrs.items()}
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise ResultError(
                f"{self.path}: attributes of /{where} cannot be read: {_line(error)}"
            ) from error

    def integer(self, attributes: dict[str, Any], name: str, where: str) -> int:
        """An attribute that is an integer; 0 where it is absent."""
        value = attributes.get(name, 0)
        if not isinstance(value, (int, np.integer)):
            raise ResultError(f"{self.path}: {where}: attribute {name} is no integer")
        return int(value)

    def number(self, attributes: dict[str, Any], name: str, where: str) -> float:
        """An attribute that is a finite number, not below 0; 0 where it is absent."""
        value = attributes.get(name, 0)
        if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise ResultError(f"{self.path}: {where}: attribute {name} is no number from 0 on")
        return float(value)

    def table(self, path: str, dtype: np.dtype) -> pd.DataFrame:
        """A compound dataset with the columns of `dtype` at least; empty where it is absent. What
        the file's schema version does not have is filled in (schema.SINCE_2)."""
        data = self.array(path) if path in self else np.zeros(0, dtype)
        optional = OPTIONAL.get(path.rpartition("/")[2], {})
        if not len(data):  # of earlier versions it may have fewer columns
            return _with_optional(_frame(np.zeros(0, dtype)), optional)
        self._check_optional(path, data, optional)
        untold = SINCE_2.get(path.rpartition("/")[2], {}) if self.version < 2 else {}
        for name in dtype.names or ():
            if name in untold:
                continue
            if name not in (data.dtype.names or ()):
                raise ResultError(
                    f"{self.path}: /{path} has no column {name}: not schema {self.version}"
                )
            if data.dtype[name].kind not in KINDS[dtype[name].kind]:
                raise ResultError(f"{self.path}: /{path}: column {name} has a type of another kind")
        return _with_optional(_filled(_frame(data), dtype, untold), optional)

    def _check_optional(self, path: str, data: np.ndarray, optional: dict[str, int | str]) -> None:
        for name, usual in optional.items():
            kinds = "SO" if isinstance(usual, str) else "ui"
            if name in (data.dtype.names or ()) and data.dtype[name].kind not in kinds:
                raise ResultError(f"{self.path}: /{path}: column {name} has a type of another kind")

    def numbers(self, path: str, kinds: str) -> np.ndarray:
        """An array whose type is of one of these kinds, such as "ui" for integers."""
        array = self.array(path)
        if array.dtype.kind not in kinds:
            raise ResultError(f"{self.path}: /{path} is of another type than numbers of its kind")
        return array

    def array(self, path: str) -> np.ndarray:
        """A dataset of one dimension."""
        try:
            data = self._file[path]
            array = None
            if isinstance(data, h5py.Dataset):
                self._check_storage(path, data)
                array = data[()]
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ResultError(f"{self.path}: /{path} cannot be read: {_line(error)}") from error
        if not isinstance(array, np.ndarray) or array.ndim != 1:
            raise ResultError(f"{self.path}: /{path} is no dataset of one dimension")
        return array

    def _check_storage(self, path: str, data: h5py.Dataset) -> None:
        """Data of other files are not read, nor more than the stored bytes can hold."""
        if data.is_virtual or data.external:
            raise ResultError(f"{self.path}: /{path} keeps data in other files, which are not read")
        claimed = data.size * data.dtype.itemsize
        if claimed > HARMLESS and claimed > MOST_COMPRESSION * data.id.get_storage_size():
            raise ResultError(f"{self.path}: /{path} claims more rows than it stores")

    def members(self, path: str) -> list[str]:
        """Names in a group; none where the file has no such group."""
        group = self._item(path)
        if group is None:
            return []
        if not isinstance(group, h5py.Group):
            raise ResultError(f"{self.path}: /{path} is no group")
        return list(group)

    def in_order(self, path: str) -> list[str]:
        """Names in a group by their attribute index; HDF5 lists them alphabetically."""

        def index(name: str) -> int:
            where = f"{path}/{name}"
            return self.integer(self.attributes(where), "index", where)

        return sorted(self.members(path), key=index)

    def _check_schema(self, schemas: tuple[str, ...]) -> tuple[str, int]:
        attributes = self.attributes()
        schema = str(attributes.get("schema"))
        if schema not in schemas:
            kinds = " or ".join(name.removeprefix("sentinelnn-") for name in schemas)
            wanted = " or ".join(schemas)
            raise ResultError(
                f"{self.path}: not a SentinelNN {kinds} (no attribute schema = {wanted})"
            )
        version = self.integer(attributes, "schema_version", "/")
        if not 1 <= version <= NEWEST[schema]:
            known = "1" if NEWEST[schema] == 1 else f"1 to {NEWEST[schema]}"
            raise ResultError(f"{self.path}: schema version {version}, this reader knows {known}")
        return schema, version


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ResultError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ResultError(f"{path}: not a readable HDF5 file: {_line(error)}") from error
    outside = file.id.links.visit(_external, info=True)
    if outside is not None:
        file.close()
        raise ResultError(f"{path}: /{outside} is a link to another file, which is not followed")
    return file


def _external(name: bytes, link: h5py.h5l.LinkInfo) -> str | None:
    """A name ends the visit."""
    return name.decode("utf-8", "replace") if link.type == h5py.h5l.TYPE_EXTERNAL else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):  # of bytes that are no UTF-8, h5py makes surrogates
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value


def _frame(data: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({name: _column(data[name]) for name in data.dtype.names or ()})


def _filled(frame: pd.DataFrame, dtype: np.dtype, untold: dict[str, int | str]) -> pd.DataFrame:
    """The table with these columns too, in the order of `dtype`."""
    if not untold:
        return frame
    for name, value in untold.items():
        kind = object if isinstance(value, str) else dtype[name]
        frame[name] = np.full(len(frame), value, kind)
    known = list(dtype.names or ())
    return frame[known + [name for name in frame if name not in known]]


def _with_optional(frame: pd.DataFrame, optional: dict[str, int | str]) -> pd.DataFrame:
    for name, value in optional.items():
        if name not in frame:
            kind = object if isinstance(value, str) else np.int32
            frame[name] = np.full(len(frame), value, kind)
    return frame


def _column(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "SO":
        return np.array([_plain(value) for value in values.tolist()], dtype=object)
    return values


def json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"info": text} if text else {}
    return value if isinstance(value, dict) else {"info": value}
