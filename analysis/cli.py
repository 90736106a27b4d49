"""What the analysis programs share: options, one-line errors, the project's exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hdf5 import ResultError

USAGE, DATA, ENVIRONMENT = 64, 65, 71


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (--help lists the options)\n")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows the files to read and exits with 64 on bad usage."""
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="result file (HDF5)")
    parser.add_argument(
        "--rankings", type=Path, nargs="+", default=[], metavar="FILE",
        help="ranking files, or trials of channel-FI, of the same network: shown and compared too",
    )  # fmt: skip
    return parser


def run(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Calls main; what goes wrong becomes one line on stderr and an exit code."""
    try:
        return main(argv[1:])
    except ResultError as error:
        code, message = DATA, str(error)
    except OSError as error:
        code, message = ENVIRONMENT, str(error)
    print(f"{Path(argv[0]).name}: {message}", file=sys.stderr)
    return code
