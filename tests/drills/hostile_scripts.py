"""TorchScript files that do more than a network, written into the archive of a harmless one."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

FORWARD = "x: Tensor) -> Tensor:\n"


class Archive:
    """The records of a TorchScript file, without its folder."""

    def __init__(self, path: Path) -> None:
        self.records: dict[str, bytes] = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                self.records[name.split("/", 1)[1]] = archive.read(name)

    @property
    def network(self) -> str:
        """The record of the network's class."""
        return next(name for name in self.records if name.endswith("hostile_net.py"))

    def text(self, name: str = "") -> str:
        return self.records[name or self.network].decode()

    def put(self, text: str, name: str = "") -> None:
        self.records[name or self.network] = text.encode()

    def before(self, lines: str) -> None:
        """Lines at the begin of forward."""
        text = self.text()
        assert FORWARD in text
        self.put(text.replace(FORWARD, FORWARD + lines, 1))

    def attribute(self, line: str) -> None:
        """A line in the head of the network's class."""
        known = "  training : bool\n"
        assert known in self.text()
        self.put(self.text().replace(known, f"{known}  {line}\n", 1))

    def write(self, path: Path, twice: str = "") -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in self.records.items():
                archive.writestr(f"net/{name}", data)
            if twice:
                archive.writestr(f"net/{twice}", self.records[twice])


def line(code: str) -> Callable[[Archive], None]:
    return lambda archive: archive.before("".join(f"    {row}\n" for row in code.split("\n")))


def setstate(archive: Archive) -> None:
    text = archive.text()
    archive.put(
        text + "  def __setstate__(self: __torch__.hostile_net.Net,\n"
        "    state: Tensor) -> NoneType:\n"
        '    _0 = torch.save(state, "owned")\n    return None\n'
    )


def hooks(archive: Archive) -> None:
    archive.attribute("__forward_hooks__ = [forward, ]")


def helper(archive: Archive) -> None:
    archive.records["code/__torch__/helper.py"] = (
        b'def nothing(x: Tensor) -> Tensor:\n  _0 = torch.from_file("owned", True, 4)\n  return x\n'
    )
    archive.before("    x0 = __torch__.helper.nothing(x, )\n")


def method_style(archive: Archive) -> None:
    """`set_` is a name that the file defines."""
    archive.records["code/__torch__/other.py"] = b"def set_(x: Tensor) -> Tensor:\n  return x\n"
    archive.before("    _s = (x).set_(x, )\n")


def needed(code: str, question: str) -> Callable[[Archive], None]:
    """LibTorch leaves out what nobody asks for."""
    asked = f'if torch.eq({question}, 77):\n  ops.prim.RaiseException("77")\nelse:\n  pass'
    return line(f"{code}\n{asked}")


def default(archive: Archive) -> None:
    """LibTorch computes it while it reads the file."""
    head = "x: Tensor=torch.zeros([1000000000000])) -> Tensor:"
    archive.put(archive.text().replace("x: Tensor) -> Tensor:", head, 1))


def class_constant(archive: Archive) -> None:
    archive.attribute("odd = [training]")


def no_network(archive: Archive) -> None:
    archive.records["data.pkl"] = pickle.dumps(7, 2)


def circle(archive: Archive) -> None:
    archive.records["code/__torch__/a.py"] = (
        b"def one(x: Tensor) -> Tensor:\n  return __torch__.a.two(x, )\n"
        b"def two(x: Tensor) -> Tensor:\n  return __torch__.a.one(x, )\n"
    )
    archive.before("    x0 = __torch__.a.one(x, )\n")


def chain(archive: Archive, name: str = "y") -> None:
    code = "def f0(x: Tensor) -> Tensor:\n  return x\n"
    for i in range(1, 5000):
        code += f"def f{i}(x: Tensor) -> Tensor:\n"
        code += f"  {name} = __torch__.a.f{i - 1}(x, )\n  return {name}\n"
    archive.put(code, "code/__torch__/a.py")
    archive.before("    x0 = __torch__.a.f4999(x, )\n")


def chain_of_blocks(archive: Archive) -> None:
    """Neither the definitions nor the blocks are too many alone."""
    code = "def f0(x: Tensor) -> Tensor:\n  return x\n"
    for i in range(1, 60):
        code += f"def f{i}(x: Tensor) -> Tensor:\n"
        code += "".join("  " * (k + 1) + "if torch.eq(torch.dim(x), 4):\n" for k in range(60))
        code += "  " * 61 + f"y = __torch__.a.f{i - 1}(x, )\n"
        code += "".join("  " * (k + 1) + "else:\n" + "  " * (k + 2) + "y = x\n"
                        for k in reversed(range(60)))  # fmt: skip
        code += "  return y\n"
    archive.put(code, "code/__torch__/a.py")
    archive.before("    x0 = __torch__.a.f59(x, )\n")


def hidden_chain(archive: Archive) -> None:
    """Old files begin with a statement of this name, which is left out there."""
    chain(archive, "op_version_set")


def deep_blocks(archive: Archive) -> None:
    rows = [" " * (4 + 2 * i) + "if True:\n" for i in range(2000)]
    archive.before("".join(rows) + " " * 4004 + "pass\n")


def nested_constants(archive: Archive) -> None:
    archive.records["constants.pkl"] = b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b"."


def nested_types(archive: Archive) -> None:
    kind = "List[" * 3000 + "int" + "]" * 3000
    tag = b"ctorch.jit._pickle\nrestore_type_tag\n(]X" + len(kind).to_bytes(4, "little")
    archive.records["constants.pkl"] = b"\x80\x02(" + tag + kind.encode() + b"tRt."


def module_call(archive: Archive) -> None:
    archive.records["constants.pkl"] = pickle.dumps((print,), 2)


def custom_class(archive: Archive) -> None:
    archive.attribute("packed : __torch__.torch.classes.quantized.Conv2dPackedParamsBase")


def holds_itself(archive: Archive) -> None:
    archive.before("    l = annotate(List[Any], [])\n    _0 = torch.append(l, l)\n")


def tuple_chain(archive: Archive) -> None:
    """LibTorch 1.13 takes twice as long for each tuple that is put into the next."""
    rows = [f"    l{i} = (l{i - 1}, 1)\n" for i in range(1, 60)]
    archive.before("    l0 = 1\n" + "".join(rows))


def type_chain(archive: Archive) -> None:
    kind = "Tuple[" * 60 + "int" + ", int]" * 60
    archive.before(f"    y = uninitialized({kind})\n")


def named_chain(archive: Archive) -> None:
    code = "class N0(NamedTuple):\n  a : int\n"
    for i in range(1, 60):
        code += f"class N{i}(NamedTuple):\n  a : __torch__.a.N{i - 1}\n  b : int\n"
    archive.put(code, "code/__torch__/a.py")
    archive.before("    y = uninitialized(__torch__.a.N59)\n")


def enum(archive: Archive) -> None:
    archive.put("class Color(Enum):\n  R = 1\n", "code/__torch__/a.py")
    archive.attribute("color : __torch__.a.Color")


def doubling(first: str, next_one: str) -> Callable[[Archive], None]:
    rows = [next_one.format(s=f"s{i - 1}") for i in range(1, 60)]
    return line("\n".join(f"s{i} = {row}" for i, row in enumerate([first, *rows])))


# name -> (change of the archive, part of the message)
HOSTILE: dict[str, tuple[Callable[[Archive], None], str]] = {
    "setstate": (setstate, "__setstate__"),
    "hooks": (hooks, "hooks of modules are refused"),
    "from_file": (line('y = torch.from_file("owned", True, 4)'), "'torch.from_file'"),
    "helper": (helper, "helper.py, line 2: the operator 'torch.from_file'"),
    "unreached": (line('if False:\n  y = torch.save(x, "owned")\nelse:\n  pass'), "'torch.save'"),
    "method": (method_style, "operator aten::set_ in __torch__.hostile_net.Net.forward"),
    "ops": (line('ops.image.write_file("owned", x)'), "'ops.image.write_file'"),
    "print": (line('print("owned")'), "'print'"),
    "fork": (line("y = fork(x)"), "'fork'"),
    "memory": (line("y = torch.as_strided(x, [1000], [1000])"), "'torch.as_strided'"),
    "set": (line("y = (x).set_(x)"), "'set_'"),
    "class": (custom_class, "torch.classes"),
    "brackets": (line("y = " + "(" * 100_000 + "1" + ")" * 100_000), "nested deeper"),
    "attributes": (line("y = x" + ".x" * 100_000), "nested deeper"),
    "lists": (
        line("y = annotate(" + "List[" * 5000 + "int" + "]" * 5000 + ", [])"),
        "nested deeper",
    ),
    "ternaries": (line("y = " + "1 if True else " * 50_000 + "2"), "nested deeper"),
    "minus": (line("y = " + "-" * 100_000 + "1"), "nested deeper"),
    "blocks": (deep_blocks, "which PyTorch never writes"),
    "constants": (nested_constants, "nested deeper"),
    "types": (nested_types, "nested deeper"),
    "pickle": (module_call, "print"),
    "default": (default, "is no literal"),
    "holds_itself": (holds_itself, "the type Any"),
    "tuple_chain": (tuple_chain, "deeper than any network"),
    "type_chain": (type_chain, "nested deeper than that of any network"),
    "named_chain": (named_chain, "a class inside of a NamedTuple"),
    "enum": (enum, "an Enum, which is not supported"),
    "constant": (class_constant, "no attribute of a class"),
    "number": (no_network, "no network"),
    "circle": (circle, "by itself"),
    "chain": (chain, "use each other"),
    "chain_of_blocks": (chain_of_blocks, "blocks in blocks"),
    "hidden_chain": (hidden_chain, "use each other"),
    "glued": (line("y = [1for z in (x, x)]"), "a number that goes on as a name"),
    "texts": (doubling('"0123456789"', "torch.add({s}, {s})"), "texts or tuples of themselves"),
    "tuples": (doubling("(1, 2)", "({s}, {s})"), "deeper than any network"),
    "division": (line("y = torch.remainder(7, torch.sub(1, 1))"), "divides constants"),
    "unrolled": (line("for y in (1, 2, 3):\n  pass"), "a loop over something else"),
}

# The same, but what is wrong shows only in the walk over made images.
RUNNING: dict[str, tuple[Callable[[Archive], None], str]] = {
    "endless": (line("while True:\n  y = torch.add(1, 1)"), "loop forever"),
    "huge": (
        needed("y = torch.zeros([1000000, 1000000])", "torch.dim(y)"),
        "bytes, which no network",
    ),
    "view": (
        needed("y = torch.expand(torch.zeros([1]), [4000000000000])", "torch.dim(y)"),
        "elements",
    ),
    "list": (
        needed("y = torch.mul([1], torch.mul(torch.size(x, 0), 1000000000))", "torch.len(y)"),
        "list that is too long",
    ),
    "zero": (
        needed("y = torch.remainder(7, torch.sub(torch.size(x, 1), 3))", "y"),
        "by zero or -1",
    ),
    "nested_lists": (
        needed("a = torch.mul([1], 1000)\nb = torch.mul([a], 1000)\nc = torch.mul([b], 1000)\n"
               "d = torch.mul([c], 1000)", "torch.len(d)"),
        "list that is too long",
    ),
    "inserted": (
        needed("a = torch.mul([1], 2000)\nb = [a]\nfor i in range(1000):\n"
               "  _1 = torch.insert(b, 0, a)", "torch.len(b)"),
        "list that is too long",
    ),
    "grown_later": (
        needed("a = torch.mul([1], 1)\nb = torch.mul([a], 300)\nc = torch.mul([b], 300)\n"
               "d = torch.mul([c], 5)\n_1 = torch.extend(a, torch.mul([1], 900000))",
               "torch.len(d)"),
        "list that is too long",
    ),
    "text_of_tensor": (
        needed("y = str(torch.ones([10000, 10000]))", "torch.len(y)"),
        "writes a tensor as text",
    ),
    "weight_norm": (
        needed("y = torch._weight_norm(torch.ones([64, 2]), torch.ones([1, 1]), 0)", "torch.dim(y)"),
        "another number of norms",
    ),
    "pixel_shuffle": (
        needed("y = torch.pixel_shuffle(torch.ones([1, 4, 2, 2]), 4294967296)", "torch.dim(y)"),
        "shuffles by a number",
    ),
    "channel_shuffle": (
        needed("y = torch.native_channel_shuffle(torch.ones([0, 4, 4]), 4)", "torch.dim(y)"),
        "shuffles nothing",
    ),
    "pooling": (
        needed("y = torch.max_pool2d(torch.ones([1, 1, 4000, 4000]), [2000, 2000], [1, 1])",
               "torch.dim(y)"),
        "pools more",
    ),
    "in_place": (
        needed('y = torch.div_(torch.full([4], 7, dtype=4), -1, rounding_mode="trunc")',
               "torch.dim(y)"),
        "by zero or -1",
    ),  # fmt: skip
    "growing": (
        needed('s = "abcdefgh"\nfor i in range(60):\n  s = torch.add(s, s)', "torch.len(s)"),
        "a text that is too long",
    ),
}
