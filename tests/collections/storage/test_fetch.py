"""Downloads against a real server on this machine that misbehaves on demand."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beir_hybrid
import beir_hybrid.collections.storage.fetch as module
from beir_hybrid.collections.storage.fetch import RemoteFile, fetch
from beir_hybrid.errors import BeirHybridError

BODY = random.Random(0).randbytes(200_003)
HALF = len(BODY) // 2
SIZE = len(BODY)


@dataclass
class Seen:
    """A request as the server saw it, and how much of a body it was given."""

    path: str
    range: str | None
    encoding: str | None
    sent: int = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        self.seen = Seen(self.path, self.headers.get("Range"), self.headers.get("Accept-Encoding"))
        with self.server.lock:
            self.server.seen.append(self.seen)
            steps = self.server.steps.get(self.path, [status(404)])
            step = steps.pop(0) if len(steps) > 1 else steps[0]
        with contextlib.suppress(ConnectionError):  # the client left
            step(self)

    @property
    def start(self) -> int:
        """Where the client wants to go on."""
        return int(self.seen.range.removeprefix("bytes=").removesuffix("-")) if self.seen.range else 0

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def body(self, data: bytes) -> None:
        for offset in range(0, len(data), 1 << 14):
            block = data[offset : offset + (1 << 14)]
            self.wfile.write(block)
            self.seen.sent += len(block)

    def good_head(self) -> None:
        if self.seen.range:
            place = f"bytes {self.start}-{SIZE - 1}/{SIZE}"
            self.head(206, Content_Range=place, Content_Length=SIZE - self.start)
        else:
            self.head(200, Content_Length=SIZE, Content_Type="application/octet-stream")

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.over, self.go = threading.Lock(), threading.Event(), threading.Event()
        self.seen: list[Seen] = []
        self.steps: dict[str, list[Step]] = {}
        self.scheme = "http"

    def url(self, path: str = "/file") -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path}"

    def serve(self, *steps: Step, path: str = "/file") -> RemoteFile:
        """Answer with `steps` one after the other, the last of them for ever."""
        self.steps[path] = list(steps)
        return RemoteFile(self.url(path), hashlib.sha256(BODY).hexdigest(), SIZE)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # of clients that were killed, or trust no certificate of ours


Step = Callable[[Handler], None]


def plain(handler: Handler) -> None:
    handler.good_head()
    handler.body(BODY[handler.start :])


def drops(at: int) -> Step:
    """Declare all, send what lies before `at`, hang up."""

    def step(handler: Handler) -> None:
        handler.good_head()
        handler.body(BODY[handler.start : max(at, handler.start)])

    return step


def resets(at: int) -> Step:
    """Like `drops`, but what the client has not read yet may be lost."""

    def step(handler: Handler) -> None:
        drops(at)(handler)
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return step


def sends(data: bytes, declared: bool = True, **headers: object) -> Step:
    """Another body, always from the start; its end is that of the connection unless its length is `declared`."""

    def step(handler: Handler) -> None:
        handler.head(200, **headers, **({"Content_Length": len(data)} if declared else {}))
        handler.body(data)

    return step


def stalls(at: int) -> Step:
    def step(handler: Handler) -> None:
        drops(at)(handler)
        handler.server.over.wait(20)

    return step


def status(code: int, **headers: object) -> Step:
    return lambda handler: handler.head(code, Content_Length=0, **headers)


def redirects(url: str) -> Step:
    return status(302, Location=url)


def hangs_up(handler: Handler) -> None:
    """No answer at all."""


def ranged(place: str, data: bytes) -> Step:
    """206 whatever was asked."""

    def step(handler: Handler) -> None:
        handler.head(206, Content_Range=place, Content_Length=len(data))
        handler.body(data)

    return step


def chunked(data: bytes, end: bool = True) -> Step:
    def step(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        for offset in range(0, len(data), 9_999):
            block = data[offset : offset + 9_999]
            handler.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        if end:
            handler.wfile.write(b"0\r\n\r\n")

    return step


CORRUPT = BODY[:777] + bytes([BODY[777] ^ 1]) + BODY[778:]
whole = sends(BODY)
short = sends(BODY[:-7])
corrupts = sends(CORRUPT)
refuses_range: Step = lambda handler: (status(416) if handler.seen.range else plain)(handler)  # noqa: E731


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as httpd:
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield httpd
        httpd.over.set()
        httpd.go.set()
        httpd.shutdown()


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASE_DELAY", 0.001)
    monkeypatch.setattr(module, "TIMEOUT", (5.0, 5.0))
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "a.json"


def part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def is_whole(path: Path) -> bool:
    """The published file is there and nothing else."""
    return path.read_bytes() == BODY and list(path.parent.iterdir()) == [path]


def refused(remote: RemoteFile, path: Path) -> str:
    """The error that `fetch` must raise: one paragraph that says what was wanted, from where and to where."""
    with pytest.raises(BeirHybridError) as caught:
        fetch(remote, path)
    assert not path.exists()
    message = str(caught.value)
    assert "\n" not in message
    for fact in (path.name, remote.url, f"{remote.size:,}", f"put it at {path}"):
        assert fact in message
    return message


def test_a_download_is_verified_and_leaves_nothing_else(server: Server, target: Path) -> None:
    remote = server.serve(plain)
    assert fetch(remote, target) == target
    assert is_whole(target)
    assert [(seen.range, seen.encoding) for seen in server.seen] == [(None, "identity")]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_is_there_is_not_asked_for(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = server.serve(plain)
    fetch(remote, target)
    fetch(remote, target)
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", "1")
    assert fetch(remote, target) == target
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([drops(HALF)], [None, HALF]),
        ([drops(10), drops(HALF), drops(SIZE - 1)], [None, 10, HALF, SIZE - 1]),
        ([sends(BODY[:HALF], declared=False)], [None, HALF]),
        ([chunked(BODY[:HALF], end=False)], [None, HALF]),
        ([ranged(f"bytes 0-{HALF - 1}/{SIZE}", BODY[:HALF])], [None, HALF]),
        ([hangs_up], [None, None]),
        ([short], [None, None]),
        ([corrupts], [None, None]),
        ([drops(HALF), status(503)], [None, HALF, HALF]),
        ([status(503)], [None, None]),
        ([status(500), status(502), status(408), status(429)], [None] * 5),
        ([drops(HALF), whole], [None, HALF]),
        ([drops(HALF), drops(HALF + 5), sends(BODY[:HALF], declared=False)], [None, HALF, HALF + 5, HALF]),
        ([drops(HALF), ranged(f"bytes 0-{SIZE - 1}/{SIZE}", BODY)], [None, HALF, None]),
        ([drops(HALF), ranged(f"bytes {HALF + 1}-{SIZE - 1}/{SIZE}", BODY[HALF + 1 :])], [None, HALF, None]),
        ([drops(HALF), ranged("pages 1-2/3", b"x")], [None, HALF, None]),
        ([drops(HALF), ranged(f"bytes {HALF}-{SIZE}/{SIZE + 1}", BODY[HALF:] + b"x")], [None, HALF, HALF]),
        ([drops(HALF), refuses_range], [None, HALF, None]),
        ([sends(BODY + b"x", declared=False)], [None, None]),
    ],
)
def test_it_goes_on_after_a_fault(server: Server, target: Path, faults: list[Step], ranges: list[int | None]) -> None:
    fetch(server.serve(*faults, plain), target)
    assert is_whole(target)
    asked = [seen.range and int(seen.range[len("bytes=") : -1]) for seen in server.seen]
    assert asked == ranges


def test_only_the_rest_is_sent(server: Server, target: Path) -> None:
    fetch(server.serve(drops(HALF), plain), target)
    assert [(seen.range, seen.sent) for seen in server.seen] == [(None, HALF), (f"bytes={HALF}-", SIZE - HALF)]


@pytest.mark.parametrize("step", [whole, sends(BODY, declared=False), chunked(BODY)])
def test_servers_without_ranges_or_lengths(server: Server, target: Path, step: Step) -> None:
    fetch(server.serve(step), target)
    assert is_whole(target)


def test_a_compressed_answer_is_unpacked(server: Server, target: Path) -> None:
    packed = gzip.compress(BODY)
    place = f"bytes {HALF}-{SIZE - 1}/{SIZE}"
    middle = lambda handler: handler.head(206, Content_Range=place, Content_Encoding="gzip")  # noqa: E731
    fetch(server.serve(drops(HALF), middle, sends(packed, Content_Encoding="gzip")), target)
    assert is_whole(target)
    assert [seen.range for seen in server.seen] == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize(
    ("step", "requests", "said"),
    [
        (corrupts, 2, "not the published file: its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}, twice"),
        (short, 2, "not the published file: it has 199,996 bytes of 200,003 expected, twice"),
        (sends(BODY + b"x"), 2, "not the published file: it has 200,004 bytes"),
        (sends(BODY + b"x", declared=False), 2, "not the published file: more than the 200,003 bytes expected"),
        (sends(b"<html>", Content_Type="text/html; charset=utf-8"), 1, "text/html and not the file"),
        (sends(BODY, Content_Type="Text/HTML"), 1, "text/html and not the file"),
        (status(404), 1, "HTTP 404 Not Found"),
        (status(403), 1, "HTTP 403 Forbidden"),
        (status(401), 1, "HTTP 401"),
        (status(410), 1, "HTTP 410"),
        (status(204), 1, "HTTP 204"),
        (status(304), 1, "HTTP 304"),
        (status(302), 1, "HTTP 302"),
        (status(503), module.ATTEMPTS, "HTTP 503, 5 times in a row"),
        (status(429), module.ATTEMPTS, "HTTP 429"),
        (hangs_up, module.ATTEMPTS, r"the connection failed \(ConnectionError\)"),
        (ranged("bytes 5-9/10", b"56789"), module.ATTEMPTS, "another part of the file"),
        (ranged(f"bytes 0-9/{'9' * 5000}", b"56789"), module.ATTEMPTS, "another part of the file"),
        (status(416), module.ATTEMPTS, "HTTP 416"),
        (sends(BODY, Content_Encoding="gzip"), module.ATTEMPTS, r"the connection failed \(DecodeError\)"),
        (redirects("/file"), module.MAX_REDIRECTS + 1, "redirects more than 10 times"),
        (redirects("http://example.test/file"), 1, "redirects to http://example.test, which is not https"),
        (redirects("http://example.test\\@127.0.0.1/file"), 1, "redirects to http://example.test, which is not https"),
        (redirects("ftp://127.0.0.1/file"), 1, "redirects to ftp://127.0.0.1, which is not https"),
        (redirects("http://[bad/file"), 1, "nothing can be sent to"),
    ],
)
def test_what_cannot_be_had(
    server: Server, target: Path, step: Step, requests: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever is sent elsewhere after all would be seen, and counted.
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert re.search(said, refused(server.serve(step), target))
    assert len(server.seen) == requests
    assert not part_of(target).exists()
    assert not list(target.parent.glob(f"*{target.name}*"))


def test_an_endless_body_is_cut_off(server: Server, target: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.head(200)
        while not handler.server.over.is_set() and handler.seen.sent < 1 << 28:
            handler.body(BODY)

    assert "more than" in refused(server.serve(endless), target)
    server.over.set()
    assert max(seen.sent for seen in server.seen) < 1 << 28
    assert not part_of(target).exists()


def test_a_page_is_fetched_where_one_is_wanted(server: Server, target: Path) -> None:
    page = target.with_suffix(".html")
    fetch(server.serve(sends(BODY, Content_Type="text/html")), page)
    assert is_whole(page)


def test_a_drop_leaves_the_part_for_the_next_call(server: Server, target: Path) -> None:
    remote = server.serve(drops(HALF))
    message = refused(remote, target)
    assert "the transfer ended early" in message or "the connection failed" in message
    assert "The 100,001 bytes that came are kept: run again to go on" in message
    assert len(server.seen) == 1 + module.ATTEMPTS  # the first brought something
    assert part_of(target).read_bytes() == BODY[:HALF]
    server.seen.clear()
    fetch(server.serve(plain), target)
    assert is_whole(target)
    assert [(seen.range, seen.sent) for seen in server.seen] == [(f"bytes={HALF}-", SIZE - HALF)]


def test_progress_earns_new_attempts(server: Server, target: Path) -> None:
    faults = [step for at in range(1, 8) for step in (drops(at * 20_000), status(503), status(503), hangs_up)]
    fetch(server.serve(*faults, plain), target)
    assert is_whole(target)


def test_the_same_bytes_again_are_no_progress(server: Server, target: Path) -> None:
    refused(server.serve(sends(BODY[:HALF], declared=False)), target)
    assert len(server.seen) == 1 + module.ATTEMPTS


@pytest.mark.parametrize(
    ("left", "ranges"),
    [
        (BODY, []),
        (BODY[:HALF], [f"bytes={HALF}-"]),
        (b"", [None]),
        (BODY + b"x", [None]),
        (CORRUPT, [None]),
        (CORRUPT[:HALF], [f"bytes={HALF}-", None]),
    ],
)
def test_a_part_that_was_left_is_checked(server: Server, target: Path, left: bytes, ranges: list[str | None]) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(left)
    fetch(server.serve(plain), target)
    assert is_whole(target)
    assert [seen.range for seen in server.seen] == ranges


def test_a_part_too_long_is_no_fault_of_the_server(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(BODY + b"x")
    fetch(server.serve(corrupts, plain), target)
    assert is_whole(target)


def test_a_stalled_server_is_left_and_asked_again(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", (5.0, 0.3))
    fetch(server.serve(stalls(HALF), stalls(HALF), stalls(HALF + 9), plain), target)
    assert is_whole(target)
    assert [seen.range for seen in server.seen] == [None, *[f"bytes={at}-" for at in (HALF, HALF, HALF + 9)]]


def test_retry_after_is_honoured_up_to_a_limit(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    fetch(server.serve(status(429, Retry_After=1), plain), target)
    assert 1 <= time.monotonic() - start < 5
    target.unlink()
    monkeypatch.setattr(module, "MAX_RETRY_AFTER", 0.1)
    start = time.monotonic()
    fetch(server.serve(status(503, Retry_After=3600), status(503, Retry_After="Wed, 21 Oct 2026"), plain), target)
    assert 0.1 <= time.monotonic() - start < 5
    assert len(server.seen) == 5


def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASE_DELAY", 0.02)
    monkeypatch.setattr(module, "MAX_DELAY", 0.1)
    waits = []
    for idle in (0, 1, 2, 3, 4, 50):
        start = time.monotonic()
        module._pause(idle, 0.0)
        waits.append(time.monotonic() - start)
    lower = [0.01, 0.01, 0.02, 0.04, 0.05, 0.05]
    assert all(low <= wait < low * 2 + 0.5 for low, wait in zip(lower, waits, strict=True))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_starts_where_the_part_ends(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = server.serve(plain)
    fetch(remote, target.with_name("other"))
    assert capsys.readouterr() == ("", "")
    part_of(target).write_bytes(BODY[:HALF])
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    fetch(remote, target)
    shown = re.findall(r"a\.json: +(\d+)%", terminal.getvalue())
    assert (shown[0], shown[-1]) == ("50", "100")


def test_nobody_listens(target: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: refused, and taken by nobody else
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/file"
        message = refused(RemoteFile(url, "0" * 64, 5), target)
    assert "the connection failed (ConnectionError), 5 times in a row" in message


@pytest.mark.parametrize(
    "url",
    [
        "http://example.test/a.json",
        "HTTP://example.test/a.json",
        "ftp://127.0.0.1/a.json",
        "file:///etc/passwd",
        "http://127.0.0.1@example.test/a.json",
        "http://example.test\\@127.0.0.1/a.json",
        "http://127.0.0.1.example.test/a.json",
        "a.json",
        "http://[bad/a.json",
        "",
    ],
)
def test_only_https_is_asked(server: Server, target: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    assert re.search(
        "is not https, and nothing was sent|is not an address", refused(RemoteFile(url, "0" * 64, 5), target)
    )
    assert not server.seen
    assert not target.parent.exists()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Server, target: Path, code: int) -> None:
    server.serve(drops(HALF), plain, path="/there/file")
    server.serve(status(code, Location="../there/file"), path="/second/x")
    fetch(server.serve(status(code, Location=f"http://localhost:{server.server_port}/second/x")), target)
    assert is_whole(target)
    there = [seen.range for seen in server.seen if seen.path == "/there/file"]
    assert there == [None, f"bytes={HALF}-"]


@pytest.fixture
def tls(server: Server, tmp_path: Path) -> Path:
    """Let the server speak TLS; returns its certificate, which nobody trusts yet."""
    if not shutil.which("openssl"):
        pytest.skip("makes its certificate with openssl, which is not here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.scheme = "https"
    return certificate


def test_https_with_a_certificate_that_is_trusted(
    server: Server, tls: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls))
    fetch(server.serve(drops(HALF), plain), target)
    assert is_whole(target)
    target.unlink()
    assert "which is not https" in refused(server.serve(redirects("http://example.test/file")), target)


def test_certificates_that_are_not_trusted(
    server: Server, tls: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BASE_DELAY", 100.0)  # not tried again
    assert "certificate is not one that this machine trusts" in refused(server.serve(plain), target)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    assert "/nowhere.pem" in refused(server.serve(plain), target)
    assert not server.seen


def test_offline_nothing_is_sent(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = server.serve(plain)
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert refused(remote, target).startswith("offline, and a.json (200,003 bytes) from http://127.0.0.1:")
    assert not server.seen
    assert not target.parent.exists()


def test_a_path_under_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    path = tmp_path / "file" / "a.json"
    with pytest.raises(BeirHybridError, match=rf"{re.escape(str(path))}: cannot be written \("):
        fetch(server.serve(plain), path)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_in_its_place(server: Server, target: Path) -> None:
    target.mkdir(parents=True)
    with pytest.raises(BeirHybridError, match="exists and is not a file; expected a"):
        fetch(server.serve(plain), target)
    assert not server.seen


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_without_leave_to_write(server: Server, target: Path) -> None:
    target.parent.mkdir(mode=0o500)
    with pytest.raises(BeirHybridError, match="cannot be written"):
        fetch(server.serve(plain), target)


def test_a_name_too_long(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match="cannot be written"):
        fetch(server.serve(plain), tmp_path / ("a" * 300))


PROGRAM = """
import signal, sys
from pathlib import Path
import beir_hybrid.collections.storage.fetch as module
module.BASE_DELAY = 0.001
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
url, sha256, size, path, most = sys.argv[1:]
if int(most):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
print("ready", flush=True)
try:
    module.fetch(module.RemoteFile(url, sha256, int(size)), Path(path))
except module.BeirHybridError as error:
    sys.exit(str(error))
"""


@contextlib.contextmanager
def process(remote: RemoteFile, path: Path, most: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Another process that fetches; it may write files of at most `most` bytes, if that is not 0."""
    arguments = [remote.url, remote.sha256, str(remote.size), str(path), str(most)]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(beir_hybrid.__file__).parents[1],
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        try:
            yield child
        finally:
            child.kill()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def waits(handler: Handler) -> None:
    """Send half, and the rest when told to."""
    handler.good_head()
    handler.body(BODY[:HALF])
    handler.server.go.wait(20)
    handler.body(BODY[HALF:])


def test_two_processes_download_once(server: Server, target: Path) -> None:
    remote = server.serve(waits)
    with process(remote, target) as first, process(remote, target) as second:
        until(lambda: bool(server.seen))
        time.sleep(0.4)  # in which the second would come
        assert first.poll() is None
        assert second.poll() is None
        assert not target.exists()
        server.go.set()
        assert (first.wait(20), second.wait(20)) == (0, 0)
    assert len(server.seen) == 1
    assert is_whole(target)


def test_threads_download_once(server: Server, target: Path) -> None:
    remote = server.serve(waits)
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(fetch, remote, target) for _ in range(6)]
        until(lambda: bool(server.seen))
        time.sleep(0.1)
        server.go.set()
        assert [job.result() for job in jobs] == [target] * 6
    assert len(server.seen) == 1
    assert is_whole(target)


def test_the_second_goes_on_where_the_first_gave_up(server: Server, target: Path) -> None:
    def half_then_gone(handler: Handler) -> None:
        drops(HALF)(handler)
        handler.server.go.wait(20)

    remote = server.serve(half_then_gone, status(404), plain)
    with process(remote, target) as first:
        until(lambda: bool(server.seen))
        with process(remote, target) as second:
            server.go.set()
            assert (first.wait(20) != 0) + (second.wait(20) != 0) == 1
    assert is_whole(target)
    assert [seen.range for seen in server.seen] == [None, *[f"bytes={HALF}-"] * 2]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_is_gone_on_with(server: Server, target: Path, number: int) -> None:
    def trickles(handler: Handler) -> None:
        drops(HALF - 9)(handler)
        time.sleep(0.05)  # else the bytes that follow come with those before
        handler.body(BODY[HALF - 9 : HALF])
        handler.server.over.wait(20)

    remote = server.serve(trickles, plain)
    with process(remote, target) as child:
        until(lambda: part_of(target).exists() and part_of(target).stat().st_size == HALF)
        child.send_signal(number)
        assert child.wait(20) != 0
    assert not target.exists()
    with process(remote, target) as child:
        assert child.wait(20) == 0
    assert is_whole(target)
    assert [(seen.range, seen.sent) for seen in server.seen] == [(None, HALF), (f"bytes={HALF}-", SIZE - HALF)]


def test_a_full_disk_is_one_error_and_no_loss(server: Server, target: Path) -> None:
    pytest.importorskip("resource")
    remote = server.serve(plain)
    with process(remote, target, most=HALF) as child:
        assert child.stderr
        message = child.stderr.read()
        assert child.wait(20) == 1
    assert message.startswith(f"{target}: cannot be written (File too large). ")
    assert len(message.splitlines()) == 1
    assert not target.exists()
    fetch(remote, target)
    assert is_whole(target)
    assert [seen.range for seen in server.seen] == [None, f"bytes={HALF}-"]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with Server() as httpd:
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield httpd
        httpd.shutdown()


OFFSETS = st.integers(0, SIZE)
HEALED = st.one_of(
    OFFSETS.map(drops),
    OFFSETS.map(resets),
    OFFSETS.map(lambda at: sends(BODY[:at], declared=False)),
    OFFSETS.map(lambda at: chunked(BODY[:at], end=False)),
    st.sampled_from([status(503), status(429), hangs_up, whole, refuses_range]),
)
FAULTS = st.one_of(
    HEALED,
    OFFSETS.map(lambda at: sends(BODY[:at])),
    st.integers(0, SIZE - 1).map(lambda at: sends(BODY[:at] + bytes([BODY[at] ^ 255]) + BODY[at + 1 :])),
    OFFSETS.map(lambda at: ranged(f"bytes {at}-{SIZE - 1}/{SIZE}", BODY[at:])),
    st.sampled_from([status(404), status(416), sends(BODY * 2, declared=False), sends(b"", Content_Type="text/html")]),
)


def fetch_through(server: Server, faults: list[Step]) -> BeirHybridError | None:
    """Fetch while the server has these faults and then none; whatever comes, no wrong file is there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        try:
            fetch(server.serve(*faults, plain, path=folder), path)
        except BeirHybridError as error:
            assert not path.exists()
            return error
        assert is_whole(path)
        return None


@settings(max_examples=60, deadline=None)
@given(faults=st.lists(HEALED, max_size=module.ATTEMPTS - 1))
def test_any_faults_that_pass_are_healed(shared_server: Server, faults: list[Step]) -> None:
    assert fetch_through(shared_server, faults) is None


@settings(max_examples=60, deadline=None)
@given(faults=st.lists(FAULTS, max_size=2 * module.ATTEMPTS))
def test_any_faults_end_in_the_file_or_one_error(shared_server: Server, faults: list[Step]) -> None:
    error = fetch_through(shared_server, faults)
    assert error is None or "a.json" in str(error)
