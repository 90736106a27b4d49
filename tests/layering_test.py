"""The module table of CMakeLists.txt is the only truth about who may include whom.

A block of the table is a layer, the lowest first. Fails on a module that uses one of its own block or
of a block below it in the table, on an include of a module that the table does not list, on MPI,
HDF5, CLI11 or TorchScript outside their one home, on LibTorch in a module that is not marked TORCH,
and on the name of an option outside app. Runs with pytest, or alone:
`layering_test.py [ROOT]` prints what is wrong.
"""

from __future__ import annotations

import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# An include that matches may stand in this module only.
HOMES = (
    (re.compile(r"(?:^|/)mpi\.h$"), "comm"),
    (re.compile(r"(?:^|/)(?:hdf5(?:_hl)?\.h|H5[A-Za-z0-9_]*\.h(?:pp)?)$"), "store"),
    (re.compile(r"(?:^|/)CLI/"), "app"),
    (re.compile(r"(?:^|/)(?:caffe2/|torch/(?:script\.h$|csrc/jit/|jit\.h$))"), "models"),
)
# Only modules marked TORCH in the table link LibTorch and may include this; so may the program.
TORCH = re.compile(r"(?:^|/)(?:ATen|torch|c10|caffe2)/")

# What may hold an option's name: a text, in public headers a comment too. Characters are skipped.
TEXT = re.compile(
    r"""'(?:[^'\\\n]|\\.)'|"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/""", re.DOTALL
)
OPTION = re.compile(r"""(?<![\w-])--(?:[a-z][a-z-]*|\{|(?="$))""")

FOREIGN = re.compile(r"\bdesign \d\d\b", re.IGNORECASE)

TABLE_LINE = re.compile(r"^sentinel_module\(\s*(?P<name>\w+)(?P<rest>[^)]*)\)", re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"](?P<path>[^>"]+)[>"]', re.MULTILINE)
SOURCES = {".cpp", ".hpp", ".h", ".cu", ".cuh"}


def table_lines(root: Path) -> list[re.Match[str]]:
    return list(TABLE_LINE.finditer((root / "CMakeLists.txt").read_text()))


def module_table(root: Path) -> dict[str, set[str]]:
    """Module -> the modules it may include, from the sentinel_module lines."""
    table = {}
    for line in table_lines(root):
        words = line["rest"].split("LIBS")[0].split("USES")
        table[line["name"]] = set(words[1].split()) if len(words) > 1 else set()
    table["app"] = set(table)
    return table


def layers(root: Path) -> dict[str, int]:
    """Module -> its layer: one more at each empty line between two lines of the table."""
    level, end, found = 0, 0, {}
    for line in table_lines(root):
        level += "\n\n" in line.string[end : line.start()]
        end, found[line["name"]] = line.end(), level
    return found | {"app": level + 1}


def torch_modules(root: Path) -> set[str]:
    """The modules that the table marks TORCH, and the program."""
    return {line["name"] for line in table_lines(root) if "TORCH" in line["rest"].split()} | {"app"}


def table_errors(table: dict[str, set[str]], level: dict[str, int]) -> list[str]:
    """Every dependency must lead to a lower layer, which also rules out cycles."""
    return [
        f"CMakeLists.txt: {module} must not use {used}: not in a block above"
        for module, uses in table.items()
        for used in sorted(uses)
        if level.get(used, level[module]) >= level[module]
    ]


def include_errors(root: Path, table: dict[str, set[str]]) -> list[str]:
    errors = []
    torch = torch_modules(root)
    for module in table:
        for file in sources(root, module):
            for path in INCLUDE.findall(file.read_text()):
                found = wrong(path, module, table, torch)
                errors += [f"{file.relative_to(root)}: {error}" for error in found]
    return errors


def sources(root: Path, module: str) -> list[Path]:
    folders = (root / "src" / module, root / "include" / "sentinel" / module)
    files = [file for folder in folders for file in folder.rglob("*")]
    return sorted(file for file in files if file.suffix in SOURCES)


def wrong(path: str, module: str, table: dict[str, set[str]], torch: set[str]) -> list[str]:
    """What is wrong with this include in a file of the module."""
    found = [
        f"<{path}> belongs to {home} only"
        for pattern, home in HOMES
        if pattern.search(path) and module != home
    ]
    if TORCH.search(path) and module not in torch:
        found.append(f"<{path}>: {module} is not marked TORCH (module table of CMakeLists.txt)")
    own = re.match(r"(?:sentinel/)?(\w+)/", path)
    if own and own[1] in table and own[1] not in {module, *table[module]}:
        found.append(f'"{path}": {module} does not use {own[1]} (module table of CMakeLists.txt)')
    return found


def circle_errors(root: Path, table: dict[str, set[str]]) -> list[str]:
    """A circle of each module that has one."""
    errors = []
    for module in table:
        try:
            TopologicalSorter(rooms(root, module)).prepare()
        except CycleError as error:
            errors.append(f"{module}: a circle of includes, {' -> '.join(reversed(error.args[1]))}")
    return errors


def rooms(root: Path, module: str) -> dict[str, set[str]]:
    """Name of each room, such as "sampler" -> rooms of the module that it includes."""
    own = re.compile(rf"(?:sentinel/)?{module}/(\w+)\.\w+$")
    found: dict[str, set[str]] = {}
    for file in sources(root, module):
        names = [own.match(path) for path in INCLUDE.findall(file.read_text())]
        included = {name[1] for name in names if name} - {file.stem}
        found.setdefault(file.stem, set()).update(included)
    return found


def foreign_references(root: Path) -> list[str]:
    """Sources name pages of this repository alone, no numbered page of another, over line ends too."""
    parts = ("include", "src", "tests", "analysis")
    files = sorted(path for part in parts for path in (root / part).rglob("*"))
    found = []
    for path in files:
        if path.suffix not in SOURCES | {".py"} or path.name == "layering_test.py":
            continue
        text = re.sub(r"\n\s*(?://+|#)?\s*", " ", path.read_text())
        found += [
            f"{path.relative_to(root)}: refers to a page outside the repository: '{match.group()}'"
            for match in FOREIGN.finditer(text)
        ]
    return found


def option_errors(root: Path, table: dict[str, set[str]]) -> list[str]:
    """Only app knows how options are called; messages of all others say spelled(Setting::kName)."""
    errors = []
    for module in table.keys() - {"app"}:
        for file in sources(root, module):
            for match in TEXT.finditer(file.read_text()):
                private_comment = match[0].startswith("/") and file.is_relative_to(root / "src")
                for option in [] if private_comment else OPTION.findall(match[0]):
                    errors.append(f"{file.relative_to(root)}: names the option {option}")
    return sorted(errors)


def unlisted_folders(root: Path, table: dict[str, set[str]]) -> list[str]:
    """Code outside the table would escape every check."""
    parents = (root / "src", root / "include" / "sentinel")
    folders = [folder for parent in parents if parent.is_dir() for folder in parent.iterdir()]
    return [
        f"{folder.relative_to(root)}: not in the module table of CMakeLists.txt"
        for folder in sorted(folders)
        if folder.is_dir() and folder.name not in table
    ]


def check(root: Path) -> list[str]:
    """Every violation under root, one line each."""
    table = module_table(root)
    return (
        table_errors(table, layers(root))
        + include_errors(root, table)
        + circle_errors(root, table)
        + unlisted_folders(root, table)
        + foreign_references(root)
        + option_errors(root, table)
    )


# ---- the tree, and trees that must fail --------------------------------------------------------


def test_this_tree() -> None:
    assert {"core", "comm", "store", "campaign"} <= set(module_table(ROOT))
    assert sum(len(sources(ROOT, module)) for module in module_table(ROOT)) > 20
    assert check(ROOT) == []


GOOD_TABLE = """\
sentinel_module(core                LIBS OpenSSL::Crypto)

sentinel_module(comm    USES core   LIBS MPI::MPI_C)
sentinel_module(graph   TORCH USES core)
"""


def tree(root: Path, table: str, files: dict[str, str]) -> Path:
    (root / "CMakeLists.txt").write_text(table)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_good_tree_passes(tmp_path: Path) -> None:
    files = {
        "src/core/a.cpp": '#include "sentinel/core/a.hpp"\n#include <vector>\n',
        "src/comm/b.cpp": '#include <mpi.h>\n#include "sentinel/core/a.hpp"\n',
        "src/app/main.cpp": '#include <CLI/CLI.hpp>\n#include "sentinel/graph/g.hpp"\n',
    }
    assert check(tree(tmp_path, GOOD_TABLE, files)) == []


def test_a_reference_to_a_page_elsewhere_fails_over_a_line_end_too(tmp_path: Path) -> None:
    files = {"include/sentinel/core/a.hpp": "/// What happens (design\n/// 02, Outcome).\n"}
    assert "outside the repository: 'design 02'" in check(tree(tmp_path, GOOD_TABLE, files))[0]


def test_an_option_fails_outside_app(tmp_path: Path) -> None:
    files = {
        "src/app/main.cpp": 'f("--seed");',
        "src/core/a.cpp": "if (c == '\"') --depth;  // srun --mpi=pmix\n f(\"a\\\" -- b\", 1);\n",
    }
    assert check(tree(tmp_path, GOOD_TABLE, files)) == []
    wrong_files = {
        "src/core/b.cpp": 'f("give\\" another"\n  " --half-width --{} --");',
        "include/sentinel/core/b.hpp": "/// Parses --ber.\n",
    }
    assert check(tree(tmp_path, GOOD_TABLE, wrong_files)) == [
        "include/sentinel/core/b.hpp: names the option --ber",
        "src/core/b.cpp: names the option --",
        "src/core/b.cpp: names the option --half-width",
        "src/core/b.cpp: names the option --{",
    ]


def test_an_include_that_the_table_lacks_fails(tmp_path: Path) -> None:
    files = {"src/core/a.cpp": '#include "sentinel/comm/b.hpp"\n'}
    assert "core does not use comm" in check(tree(tmp_path, GOOD_TABLE, files))[0]


def test_another_modules_private_header_fails_too(tmp_path: Path) -> None:
    files = {"include/sentinel/graph/g.hpp": '#include "comm/b.hpp"\n'}
    assert "graph does not use comm" in check(tree(tmp_path, GOOD_TABLE, files))[0]


def test_confined_headers_fail_outside_their_home(tmp_path: Path) -> None:
    for header in (
        "mpi.h",
        "openmpi/mpi.h",
        "hdf5.h",
        "hdf5/serial/hdf5.h",
        "hdf5/serial/hdf5_hl.h",
        "hdf5/serial/H5Fpublic.h",
        "CLI/CLI.hpp",
        "torch/script.h",
        "torch/csrc/jit/api/module.h",
    ):
        files = {"src/graph/g.cpp": f"  # include <{header}>\n"}
        errors = check(tree(tmp_path, GOOD_TABLE, files))
        assert len(errors) == 1 and "src/graph/g.cpp" in errors[0] and header in errors[0]


def test_headers_that_only_end_alike_pass(tmp_path: Path) -> None:
    files = {"src/graph/g.cpp": "#include <my_mpi.h>\n#include <notATen/x.h>\n"}
    assert check(tree(tmp_path, GOOD_TABLE, files)) == []


def test_libtorch_needs_the_mark_in_the_table(tmp_path: Path) -> None:
    for header in ("ATen/ATen.h", "torch/cuda.h", "c10/util/Exception.h"):
        text = f"#include <{header}>\n"
        marked = {"src/graph/g.cpp": text, "src/app/main.cpp": text}
        assert check(tree(tmp_path, GOOD_TABLE, marked)) == []
        errors = check(tree(tmp_path, GOOD_TABLE, {"src/core/a.cpp": text}))
        assert len(errors) == 1 and header in errors[0] and "core is not marked TORCH" in errors[0]
        (tmp_path / "src/core/a.cpp").unlink()


def test_an_upward_or_circular_table_fails(tmp_path: Path) -> None:
    table = GOOD_TABLE.replace("(core   ", "(core USES comm ")
    assert "core must not use comm" in check(tree(tmp_path, table, {}))[0]
    sideways = GOOD_TABLE.replace("TORCH USES core", "TORCH USES core comm")
    assert "graph must not use comm" in check(tree(tmp_path, sideways, {}))[0]


def test_a_circle_of_rooms_fails(tmp_path: Path) -> None:
    files = {
        "src/core/a.cpp": '#include "sentinel/core/a.hpp"\n#include "core/b.hpp"\n',
        "src/core/b.hpp": '#include "sentinel/core/a.hpp"\n',
        "src/core/c.cpp": '#include "core/b.hpp"\n',
    }
    (error,) = check(tree(tmp_path, GOOD_TABLE, files))
    assert error in {f"core: a circle of includes, {way}" for way in ("a -> b -> a", "b -> a -> b")}
    (tmp_path / "src/core/b.hpp").write_text("")
    assert check(tmp_path) == []


def test_modules_without_a_table_line_fail(tmp_path: Path) -> None:
    table = GOOD_TABLE + "\nsentinel_module(top USES graph extra)\n"
    assert check(tree(tmp_path, table, {})) == [
        "CMakeLists.txt: top must not use extra: not in a block above"
    ]
    files = {"src/graph/g.cpp": "", "src/stray/s.cpp": ""}
    assert check(tree(tmp_path, GOOD_TABLE, files)) == [
        "src/stray: not in the module table of CMakeLists.txt"
    ]


if __name__ == "__main__":
    problems = check(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT)
    print("\n".join(problems) or "layering: nothing wrong")
    sys.exit(1 if problems else 0)
