"""Stored words: which of their bits are what, by layout (docs/layouts.md)."""

from __future__ import annotations

import re

# mantissa bits, exponent bits; the sign is above.
_FLOATS = {"fp32": (23, 8), "fp16": (10, 5), "bf16": (7, 8), "fp8:e4m3": (3, 4), "fp8:e5m2": (2, 5)}
CHECK = "check"


def format_parts(name: str) -> list[str]:
    """The role of each bit of a value's word, from bit 0 on; empty for a format that is not known."""
    name = re.sub(r":(channel|tensor)$", "", name)
    if name in _FLOATS:
        mantissa, exponent = _FLOATS[name]
        return ["mantissa"] * mantissa + ["exponent"] * exponent + ["sign"]
    if found := re.fullmatch(r"int(\d+)", name):
        return ["value"] * (int(found[1]) - 1) + ["sign"]
    if found := re.fullmatch(r"fixed:(\d+)\.(\d+)(,trunc)?", name):
        return ["fraction"] * int(found[2]) + ["integer"] * int(found[1]) + ["sign"]
    return []


def bit_parts(layout: str, width: int) -> list[str]:
    """The role of each bit of a stored word; empty where the layout does not say it for this width."""
    name, _, code = layout.partition("+")
    parts = format_parts(name)
    if not parts or not code:
        return parts if len(parts) == width else []
    checks = _check_bits(code, len(parts), width)
    carried = iter(parts if len(parts) + len(checks) == width else _at_their_places(parts, checks))
    found = [CHECK if bit in checks else next(carried, "") for bit in range(width)]
    return found if "" not in found else []


def _at_their_places(parts: list[str], checks: set[int]) -> list[str]:
    """Roles in a code whose check bits replace bits of the word."""
    return [part for bit, part in enumerate(parts) if bit not in checks]


def _check_bits(code: str, value_bits: int, width: int) -> set[int]:
    """Bits of a stored word that do not carry the value."""
    kind, _, numbers = code.partition(":")
    if kind == "bch":
        check = width - value_bits - 1
        return set(range(check)) | {width - 1}
    if kind == "cep":
        return set(range(width // (int(numbers.removeprefix("d")) + 1)))
    if kind == "tmr":
        return set(range(18 if numbers == "sign-exponent" else 2 * (numbers.count(",") + 1)))
    if kind == "spw":
        return {bit for bit in range(width) if bit & (bit - 1) == 0}
    return {"mset": {0, 1}, "parity": {0}, "zero-space": {6}}.get(kind, set())


def bits_in_words(layout: str, width: int, check_words: bool) -> str:
    """As in "0–22 mantissa, 23–30 exponent, 31 sign"; empty where nothing is known."""
    if check_words:
        return "0 parity of all, the others Hamming" if "secded" in layout else ""
    parts = bit_parts(layout, width)
    runs: dict[str, list[str]] = {}
    begin = 0
    for bit in range(1, width + 1):
        if parts and (bit == width or parts[bit] != parts[begin]):
            run = str(begin) if bit - 1 == begin else f"{begin}–{bit - 1}"
            runs.setdefault(parts[begin], []).append(run)
            begin = bit
    return ", ".join(f"{' and '.join(bits)} {part}" for part, bits in runs.items())
