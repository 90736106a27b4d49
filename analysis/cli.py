"""What the analysis programs share: options, one-line errors, the project's exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

from hdf5 import ResultError
from outputs import OutputError
from text import printable

USAGE, DATA, ENVIRONMENT = 64, 65, 71


class OneLineParser(argparse.ArgumentParser):
    """Exits with 64 on bad usage, and says why in one line."""

    def error(self, message: str) -> NoReturn:
        warn(f"{self.prog}: {message} (--help lists the options)")
        self.exit(USAGE)

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:
        """argparse would not tell that it cannot be written."""
        if file is not None:
            file.write(message)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows the files to read and exits with 64 on bad usage."""
    parser = OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="result file (HDF5)")
    parser.add_argument(
        "--rankings", type=Path, nargs="+", default=[], metavar="FILE",
        help="ranking files, or trials of channel-FI, of the same network: shown and compared too",
    )  # fmt: skip
    return parser


def run(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Calls main; what goes wrong becomes one line on stderr and an exit code."""
    code, message = _outcome(main, argv[1:])
    lost = _lost_output()
    if lost == errno.EPIPE:
        _end_by_broken_pipe()
    if lost and code == 0:
        code, message = ENVIRONMENT, f"not everything could be printed: {os.strerror(lost)}"
    if message:
        warn(f"{Path(argv[0]).name}: {message}")
    return code


def warn(message: str) -> None:
    """One line on stderr, without anything that a terminal obeys; lost where it cannot be written."""
    try:
        os.write(2, f"{printable(message)}\n".encode())
    except OSError:
        pass


def _outcome(main: Callable[[list[str]], int], words: list[str]) -> tuple[int, str]:
    """Exit code, and what went wrong."""
    try:
        return main(words), ""
    except SystemExit as end:  # of argparse
        return (end.code if isinstance(end.code, int) else USAGE), ""
    except OutputError as error:
        return USAGE, str(error)
    except ResultError as error:
        return DATA, str(error)
    except BrokenPipeError:
        _end_by_broken_pipe()
        return 0, ""
    except OSError as error:
        return ENVIRONMENT, str(error)


def _lost_output() -> int:
    """Why something that was printed is lost (errno); 0 where nothing is."""
    if sys.stdout is None:
        return errno.EBADF
    try:
        sys.stdout.flush()
        return 0
    except OSError as error:
        # The rest of the buffer must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return error.errno or errno.EIO


def _end_by_broken_pipe() -> None:
    """As a tool ends whose reader has enough: without a word."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
