"""Stored words against PyTorch's rounding and against values of an independent implementation.

The program words_tool (SENTINELNN_WORDS_TOOL) does ours. What needs ../shared/data
(SENTINELNN_TEST_DATA) is skipped where it is absent.
"""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from program import DATA, ROOT, h5py, needs_packages, torch

pytestmark = needs_packages

TOOL = os.environ.get("SENTINELNN_WORDS_TOOL", ROOT / "build/release/tests/words_tool")
NETWORKS = {"resnet20": "cifar10_resnet20.pth", "vgg11": "cifar10_vgg11_bn.pth"}
SEED = 5


def tool(command: str, layout: str, given: np.ndarray, kind: str) -> np.ndarray:
    done = subprocess.run(
        [TOOL, command, layout], input=given.tobytes(), stdout=subprocess.PIPE, check=True
    )
    return np.frombuffer(done.stdout, kind)


def encode(layout: str, values: np.ndarray, scales: np.ndarray | float = 1) -> np.ndarray:
    given = np.empty((values.size, 2), np.float32)
    given[:, 0].view(np.uint32)[:] = values.reshape(-1).view(np.uint32)  # NaN as they are
    given[:, 1] = scales
    return tool("encode", layout, given, "u8")


def decode(layout: str, words: np.ndarray, scales: np.ndarray | float = 1) -> np.ndarray:
    given = np.zeros(words.size, [("word", "u8"), ("scale", "f4"), ("unused", "f4")])
    given["word"] = words.reshape(-1)
    given["scale"] = scales
    return tool("decode", layout, given, "f4")


def read(layout: str, stored: np.ndarray, check: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words and flags [blocks, words] of stored words [blocks, words] and check words."""
    given = np.column_stack([stored, check]).astype(np.uint64)
    words = tool("read", layout, given, "u8").reshape(len(stored), -1, 2)
    return words[:, :, 0], words[:, :, 1]


def any_floats(count: int) -> np.ndarray:
    """Half of any bits, denormal and infinite ones among them, half as weights are."""
    rng = np.random.default_rng(SEED)
    values = rng.integers(0, 1 << 32, count, np.uint32).view(np.float32).copy()
    values[::2] = rng.normal(0, 0.1, len(values[::2])).astype(np.float32)
    return values


# ---- PyTorch -------------------------------------------------------------------------------------


def test_int8_is_pytorchs_qint8() -> None:
    weights = np.random.default_rng(SEED).normal(0, 0.05, (1000, 1000)).astype(np.float32)
    scales = tool("scale", "int8", np.abs(weights).max(1), "f4")
    theirs = torch.quantize_per_channel(
        torch.from_numpy(weights),
        torch.from_numpy(scales.copy()),
        torch.zeros(1000, dtype=torch.int64),
        0,
        torch.qint8,
    )
    ours = encode("int8", weights, np.repeat(scales, 1000)).astype(np.uint8).view(np.int8)
    assert np.count_nonzero(ours != theirs.int_repr().numpy().reshape(-1)) == 0
    values = decode("int8", ours.view(np.uint8), np.repeat(scales, 1000))
    assert np.array_equal(values, theirs.dequantize().numpy().reshape(-1))


@pytest.mark.parametrize(("layout", "kind"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_half_precision_is_pytorchs(layout: str, kind: str) -> None:
    values = any_floats(1_000_000)
    halves = torch.from_numpy(values).to(getattr(torch, kind))
    theirs = halves.view(torch.int16).numpy().view(np.uint16)
    numbers = ~np.isnan(values)
    ours = encode(layout, values)
    assert np.array_equal(ours[numbers], theirs[numbers])
    assert np.isnan(decode(layout, ours[~numbers])).all()
    words = np.arange(1 << 16, dtype=np.uint16)
    back = torch.from_numpy(words.view(np.int16)).view(getattr(torch, kind)).float().numpy()
    assert np.array_equal(decode(layout, words), back, equal_nan=True)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_8_bit_floats_are_those_of_ml_dtypes(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = getattr(ml_dtypes, f"float8_{name}")
    layout = "fp8:" + name[:4]
    top = float(ml_dtypes.finfo(kind).max)
    values = any_floats(1_000_000)
    values = np.clip(values[~np.isnan(values)], -top, top)
    assert np.array_equal(encode(layout, values), values.astype(kind).view(np.uint8))
    words = np.arange(256, dtype=np.uint8)
    back = words.view(kind).astype(np.float32)
    assert np.array_equal(decode(layout, words), back, equal_nan=True)


# ---- Check values --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[tuple]:
    """Check values and weights of a network."""
    path = DATA / f"reference/memory_{request.param}.h5"
    if not path.exists():
        pytest.skip(f"no test data in {DATA}; point SENTINELNN_TEST_DATA at it")
    state = torch.load(DATA / "models" / NETWORKS[request.param], map_location="cpu")
    with h5py.File(path) as file:
        yield file, state


def checksum(words: np.ndarray, width: int) -> int:
    return zlib.crc32(words.astype(f"<u{max(1, width // 8)}").tobytes())


def check_layer(layout: str, group: h5py.Group, weights: np.ndarray, width: int) -> None:
    scales = np.ones(1, np.float32)
    if "scales" in group:
        rows = weights.reshape(1 if layout.endswith(":tensor") else len(weights), -1)
        scales = tool("scale", layout, np.abs(rows).max(1), "f4")
        assert np.array_equal(scales, group["scales"][:])
    scales = np.repeat(scales, weights.size // scales.size)
    words = encode(layout, weights, scales)
    name = "crc32_words" + ("_fp32_reciprocal" if layout.startswith("int") else "")
    assert checksum(words, width) == group.attrs[name], f"words of {layout}"
    theirs = group["words"][:]
    assert np.array_equal(decode(layout, theirs, scales[: theirs.size]), group["values"][:])
    if not layout.startswith("int"):
        assert np.array_equal(words[: theirs.size], theirs)


def test_words_and_values_of_formats(network: tuple) -> None:
    file, state = network
    checked = 0
    for layout, group in file["formats"].items():
        for layer, values in group.items():
            check_layer(layout, values, state[layer].numpy(), int(group.attrs["width"]))
            checked += 1
    assert checked == 17 * 3


def limbs(values: np.ndarray) -> list[int]:
    """Stored words of any width as integers."""
    rows = values.reshape(len(values), -1)
    return [sum(int(limb) << (64 * j) for j, limb in enumerate(row)) for row in rows]


def bit(word: int, position: int) -> int:
    return word >> position & 1


def secded_parts(stored: list[int], words: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Data words and check words of codewords whose bits stand at their positions."""
    data = [p for p in range(3, 256) if p & (p - 1)][: words * width]
    checks = [0] + [1 << j for j in range(8) if 1 << j < data[-1]]
    split = np.empty((len(stored), words), np.uint64)
    check = np.empty(len(stored), np.uint64)
    for i, code in enumerate(stored):
        joined = sum(bit(code, p) << d for d, p in enumerate(data))
        split[i] = [joined >> (w * width) & ((1 << width) - 1) for w in range(words)]
        check[i] = sum(bit(code, p) << j for j, p in enumerate(checks))
    return split, check


def parts(code: str, group: h5py.Group, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Their stored blocks as ours: words [blocks, words] and check words."""
    none = np.zeros(len(stored), np.uint64)
    if code == "zero-space":
        return np.array([[w >> (8 * i) & 255 for i in range(8)] for w in limbs(stored)]), none
    if code.startswith("secded"):
        words, width = int(group.attrs["words_per_block"]), int(group.attrs["word_bits"])
        return secded_parts(limbs(stored), words, width)
    return stored.reshape(-1, 1), none


def expected(code: str, errors: h5py.Group) -> tuple[np.ndarray, np.ndarray]:
    """Words and flags that must be read; of bch: the only nearest codeword."""
    words = errors["decoded"][:].astype(np.uint64)
    flags = np.repeat(errors["status"][:][:, None] == 2, words.shape[1], 1)
    if code.startswith("bch"):
        words = errors["nearest_message"][:][:, None].astype(np.uint64)
        flags = errors["nearest_count"][:][:, None] > 1
    elif code == "zero-space":  # seven bits, the last byte's too
        words = words & 63 | words >> 1 & 64
    elif code.startswith("secded"):
        flags[:] = False
    return words, flags


def check_code(code: str, name: str, group: h5py.Group) -> None:
    layout = name.replace("int7in8", "int7") + "+" + code
    per_block = int(group.attrs["words_per_block"])
    message = group["message"][:].reshape(-1, per_block)
    if code == "zero-space":
        message = message & 127
    stored, check = parts(code, group, group["stored"][:])
    ours = tool("store", layout, message, "u8").reshape(len(message), -1)
    assert np.array_equal(ours, np.column_stack([stored, check])), f"{layout} stores"
    words, flags = read(layout, *parts(code, group, group["errors/received"][:]))
    wanted, flagged = expected(code, group["errors"])
    assert np.array_equal(flags, flagged), f"{layout} flags"
    mask = ~np.uint64(1) if code == "parity" else ~np.uint64(0)  # theirs reads bit 0 as 0
    assert np.array_equal(words & mask, np.where(flagged, 0, wanted & mask)), f"{layout} reads"
    if code.startswith("secded"):
        zero = read(layout + ",zero", *parts(code, group, group["errors/received"][:]))
        assert np.array_equal(zero[1].all(1), group["errors/status"][:] == 2)
        assert np.array_equal(zero[1].any(1), group["errors/status"][:] == 2)


def test_stored_and_read_words_of_codes(network: tuple) -> None:
    file, _ = network
    checked = 0
    for code, formats in file["codes"].items():
        for name, group in formats.items():
            check_code(code, name, group)
            checked += 1
    assert checked == 30
