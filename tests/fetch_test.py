"""jobs/fetch_models.sh against a server on loopback.

The script runs as a copy beside a table of small made files, so that nothing is downloaded; the
real table is only read. `sleep` is a stub, so that retries take no time.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

JOBS = Path(__file__).resolve().parents[1] / "jobs"
TIMEOUT = 60  # [s] for a script that hangs
BODY = random.Random(1).randbytes(100_000)
HALF = 50_000


class Handler(BaseHTTPRequestHandler):
    """Serves server.files as its other members say, and notes what was asked for."""

    def do_GET(self) -> None:  # noqa: N802
        server, span = self.server, self.headers["Range"]
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
            return
        server.requests.append((self.path, span))
        body = server.files.get(self.path)
        if body is None or server.refusals:
            self.send_error(404 if body is None else server.refusals.pop())
            return
        begin = int(re.fullmatch(r"bytes=(\d+)-", span)[1]) if span and server.ranges else 0
        if begin and begin >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        end = server.cuts.pop() if server.cuts else len(body)
        self.wfile.write(body[begin:end])
        self.wfile.flush()
        if end < len(body):
            server.go_on.wait(TIMEOUT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.files, server.requests = {}, []
    server.ranges = True
    server.cuts = []  # where answers end, the next one last
    server.refusals = []  # status codes before the first real answer
    server.go_on = threading.Event()  # until then an answer that ends early keeps its connection
    server.go_on.set()
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Script:
    """A copy of the script in a folder of its own; fetches into `to`."""

    def __init__(self, root: Path) -> None:
        self.root, self.to = root, root / "data"
        shutil.copy(JOBS / "fetch_models.sh", root)
        (root / "bin").mkdir()
        (root / "bin" / "sleep").write_text("#!/bin/sh\n")
        (root / "bin" / "sleep").chmod(0o755)
        # Nothing else of the environment: a proxy, say, would be asked for 127.0.0.1.
        self.environment = {
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
            "HOME": str(root),
            "LC_ALL": "C",
        }

    def table(self, *rows: tuple[str, ...]) -> None:
        lines = ["# name, hash, address", *("\t".join(row) for row in rows)]
        (self.root / "models.tsv").write_text("\n".join(lines) + "\n")

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", self.root / "fetch_models.sh", *arguments],
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=TIMEOUT)
        return process.returncode, out, err

    def files(self) -> set[str]:
        """What lies in the folder, the lock aside."""
        names = {path.name for path in self.to.iterdir()} if self.to.is_dir() else set()
        return names - {".fetch_models.lock"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def script(tmp_path, server):
    """With the weights `net`, whose row has the first digits of the hash only."""
    script = Script(tmp_path)
    server.files["/net-1.pt"] = BODY
    script.table(("net", sha256(BODY)[:8], f"{server.address}/net-1.pt"))
    return script


def archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


# The folder inside is the one that src/io/cifar.cpp looks for in --data.
IMAGES = {f"cifar-10-batches-py/{name}": BODY for name in ("data_batch_1", "test_batch")}


@pytest.fixture
def data_set(script, server):
    """With the data set `images`."""
    packed = archive(IMAGES)
    server.files["/images.tar.gz"] = packed
    script.table(("images", sha256(packed), f"{server.address}/images.tar.gz"))
    return script


def assert_fetched(script: Script) -> None:
    assert script.files() == {"net.pth"}
    assert (script.to / "net.pth").read_bytes() == BODY


def test_fresh(script, server):
    code, out, err = script.run("net")
    assert (code, err) == (0, "")
    assert "data/net.pth" in out
    assert_fetched(script)
    assert server.requests == [("/net-1.pt", None)]


def test_the_constants_of_weights_are_printed_as_options(script, server):
    address = f"{server.address}/net-1.pt"
    script.table(("net", sha256(BODY)[:8], address, "0.1,0.2,0.3", "0.4,0.5,0.6"))
    for _ in range(2):  # fetched, and there already
        code, out, _ = script.run("net")
        assert code == 0 and out.endswith("normalised by --mean 0.1,0.2,0.3 --std 0.4,0.5,0.6\n")


def test_another_folder(script):
    assert script.run("--to", "deep/er", "net")[0] == 0
    assert (script.root / "deep/er/net.pth").read_bytes() == BODY


def test_what_is_there_is_not_fetched_again(script, server):
    assert script.run("net")[0] == 0
    assert script.run("net", "net")[0] == 0
    assert len(server.requests) == 1


def test_another_file_of_that_name_is_left_alone(script, server):
    script.to.mkdir()
    (script.to / "net.pth").write_bytes(b"my own")
    code, _, err = script.run("net")
    assert code == 65
    assert all(word in err for word in ("data/net.pth", sha256(BODY)[:8], sha256(b"my own")))
    assert (script.to / "net.pth").read_bytes() == b"my own"
    assert server.requests == []


def test_a_cut_connection_is_taken_up_where_it_broke(script, server):
    server.cuts = [70_000, HALF]
    assert script.run("net")[0] == 0
    assert_fetched(script)
    spans = [span for _, span in server.requests]
    assert spans == [None, f"bytes={HALF}-", "bytes=70000-"]


def test_another_run_fetches_the_rest_only(script, server):
    script.to.mkdir()
    (script.to / "net.pth.part").write_bytes(BODY[:HALF])
    assert script.run("net")[0] == 0
    assert_fetched(script)
    assert server.requests == [("/net-1.pt", f"bytes={HALF}-")]


def test_the_rest_comes_from_where_the_address_leads(script, server):
    script.table(("net", sha256(BODY), f"{server.address}/moved/net-1.pt"))
    script.to.mkdir()
    (script.to / "net.pth.part").write_bytes(BODY[:HALF])
    assert script.run("net")[0] == 0
    assert_fetched(script)
    assert server.requests == [("/net-1.pt", f"bytes={HALF}-")]


def test_a_whole_part_needs_no_server(script, server):
    script.to.mkdir()
    (script.to / "net.pth.part").write_bytes(BODY)
    assert script.run("net")[0] == 0
    assert_fetched(script)
    assert server.requests == []


def test_a_server_without_ranges_starts_over(script, server):
    server.ranges = False
    script.to.mkdir()
    (script.to / "net.pth.part").write_bytes(BODY[:HALF])
    assert script.run("net")[0] == 0
    assert_fetched(script)
    assert [span for _, span in server.requests] == [f"bytes={HALF}-", None]


def test_a_part_longer_than_the_file_starts_over(script, server):
    script.to.mkdir()
    (script.to / "net.pth.part").write_bytes(BODY + b"more")
    assert script.run("net")[0] == 0
    assert_fetched(script)


@pytest.mark.parametrize("digits", [8, 64])
def test_a_wrong_hash(script, server, digits):
    expected = sha256(b"published")[:digits]
    script.table(("net", expected, f"{server.address}/net-1.pt"))
    code, _, err = script.run("net")
    assert code == 65
    assert all(word in err for word in ("data/net.pth", expected, sha256(BODY)))
    assert err.count("\n") == 1
    assert script.files() == set()


def test_a_damaged_part_is_given_up(script):
    script.to.mkdir()
    (script.to / "net.pth.part").write_bytes(b"x" * HALF)
    assert script.run("net")[0] == 65
    assert script.files() == set()
    assert script.run("net")[0] == 0
    assert_fetched(script)


def test_404_is_final(script, server):
    server.files.clear()
    code, _, err = script.run("net")
    assert code == 71
    assert f"{server.address}/net-1.pt" in err
    assert script.files() == set()
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(script, server):
    server.refusals = [503, 429, 500]
    assert script.run("net")[0] == 0
    assert_fetched(script)


def test_a_server_that_stays_busy(script, server):
    server.refusals = [503] * 100
    assert script.run("net")[0] == 71
    assert len(server.requests) == 4
    assert script.files() == set()


def test_no_server(script):
    script.table(("net", sha256(BODY), "http://127.0.0.1:1/net-1.pt"))
    code, _, err = script.run("net")
    assert code == 71
    assert "http://127.0.0.1:1/net-1.pt" in err


def test_a_folder_that_cannot_be(script):
    assert script.run("--to", "models.tsv/data", "net")[0] == 71


@pytest.mark.parametrize(
    "arguments", [("net", "nett"), ("net", "#"), ("net", ""), (), ("--too", "x"), ("net", "--to")]
)
def test_wrong_usage_fails_before_anything_is_fetched(script, server, arguments):
    code, _, err = script.run(*arguments)
    assert code == 64
    assert err.startswith("fetch_models.sh: ") and err.count("\n") == 1
    assert server.requests == [] and not script.to.exists()


def test_a_data_set_is_unpacked(data_set, server):
    (data_set.to / "images.unpacking").mkdir(parents=True)
    (data_set.to / "images.unpacking" / "left over").write_bytes(b"")
    assert data_set.run("images")[0] == 0
    assert data_set.files() == {"images"}
    folder = data_set.to / "images"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {*IMAGES, "SHA256SUMS"}
    assert all((folder / name).read_bytes() == data for name, data in IMAGES.items())
    (data_set.to / "images.tar.gz.part").write_bytes(b"left over")
    assert data_set.run("images")[0] == 0
    assert data_set.files() == {"images"}
    assert len(server.requests) == 1


def test_a_data_set_that_changed_is_left_alone(data_set, server):
    assert data_set.run("images")[0] == 0
    changed = data_set.to / "images" / "cifar-10-batches-py" / "test_batch"
    changed.write_bytes(b"x")
    code, _, err = data_set.run("images")
    assert code == 65
    assert "test_batch" in err and "data/images is not" in err
    assert changed.read_bytes() == b"x"
    assert len(server.requests) == 1


def test_an_archive_that_cannot_be_unpacked_leaves_no_folder(data_set, server):
    server.files["/images.tar.gz"] = BODY
    data_set.table(("images", sha256(BODY), f"{server.address}/images.tar.gz"))
    assert data_set.run("images")[0] == 71
    assert not (data_set.to / "images").exists()


def test_a_mirror_has_the_file_names(script, server):
    script.table(("net", sha256(BODY), "https://no.invalid/deep/net-1.pt"))
    server.files = {"/mirror/net-1.pt": BODY}
    script.environment["SENTINEL_MIRROR"] = f"{server.address}/mirror/"
    assert script.run("net")[0] == 0
    assert_fetched(script)


def test_a_folder_as_mirror(script):
    script.table(("net", sha256(BODY), "https://no.invalid/deep/net-1.pt"))
    (script.root / "net-1.pt").write_bytes(BODY)
    script.environment["SENTINEL_MIRROR"] = script.root.as_uri()
    assert script.run("net")[0] == 0
    assert_fetched(script)


def wait_for_bytes(script: Script) -> None:
    part = script.to / "net.pth.part"
    for _ in range(TIMEOUT * 100):
        if part.exists() and part.stat().st_size:
            return
        time.sleep(0.01)
    raise AssertionError("nothing arrived")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_nothing_wrong_and_is_taken_up(script, server, stop):
    server.cuts = [HALF]
    server.go_on.clear()
    process = script.start("net")
    wait_for_bytes(script)
    os.killpg(process.pid, stop)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == -stop
    assert script.files() == {"net.pth.part"}
    arrived = (script.to / "net.pth.part").stat().st_size
    assert script.run("net")[0] == 0
    assert_fetched(script)
    assert [span for _, span in server.requests] == [None, f"bytes={arrived}-"]


def test_two_at_once_fetch_once(script, server):
    server.cuts = [HALF]
    server.go_on.clear()
    first = script.start("net")
    wait_for_bytes(script)
    second = script.start("net")
    assert "waiting" in second.stdout.readline()
    server.go_on.set()
    for process in (first, second):
        process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
    assert_fetched(script)
    assert [span for _, span in server.requests] == [None, f"bytes={HALF}-"]


# ---- the real table ------------------------------------------------------------------------------


def real_rows() -> list[list[str]]:
    lines = (JOBS / "models.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def test_the_real_table_can_be_checked_and_mirrored():
    rows = real_rows()
    assert len(rows) > 60 and all(len(row) in (3, 5) for row in rows)
    names = [row[0] for row in rows]
    files = [row[2].rsplit("/", 1)[1] for row in rows]
    assert len(set(names)) == len(names) and len(set(files)) == len(files)
    for (name, digits, url, *constants), file in zip(rows, files):
        assert re.fullmatch(r"[a-z0-9_]+", name) and re.fullmatch(r"https://[!-~]+", url)
        if file.endswith(".tar.gz"):
            assert re.fullmatch(r"[0-9a-f]{64}", digits) and not constants, name
        else:
            ending = re.search(r"-([0-9a-f]{8,10})\.pth?$", file)
            assert ending and digits.startswith(ending[1]), name
            three = r"(0\.\d+,){2}0\.\d+"
            assert [bool(re.fullmatch(three, text)) for text in constants] == [True, True], name
            assert digits == ending[1] or len(digits) == 64, name


def test_the_list_names_them_all():
    listed = subprocess.check_output(["bash", JOBS / "fetch_models.sh", "--list"], text=True)
    assert [line.split() for line in listed.splitlines()] == [
        [row[0], row[2]] for row in real_rows()
    ]
