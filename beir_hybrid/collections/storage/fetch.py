"""Files from their publishers: verified before they are seen, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import as_one_error, offline

if TYPE_CHECKING:
    import requests

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two blocks."""
ATTEMPTS = 5
"""How many attempts in a row may bring nothing new."""
BASE_DELAY = 1.0
"""Seconds before the second attempt; doubled before each one that follows."""
MAX_DELAY = 30.0
MAX_RETRY_AFTER = 60.0
"""The longest that a server may ask to wait, in seconds."""
MAX_REDIRECTS = 10
BLOCK = 1 << 16
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True)
class RemoteFile:
    """A file at a fixed address, with the checksum and the size that it must have."""

    url: str
    sha256: str
    size: int


def fetch(remote: RemoteFile, path: Path) -> Path:
    """Return `path`, downloaded from `remote` if it is not there yet.

    What arrives is kept in a hidden part file beside `path`, so that a download that was cut off goes on where it
    stopped. Several processes may ask at once: one downloads, the others wait and find the file.

    Raises:
        BeirHybridError: offline, not reachable, not writable, or what came is not the published file.
    """
    path = Path(path)
    with as_one_error(path):
        if path.is_file():
            return path
        download = _Download(remote, path)
        if offline():
            raise BeirHybridError(f"offline, and {download.wanted} is not in the cache. {download.by_hand}")
        if path.exists():
            raise BeirHybridError(f"{path}: exists and is not a file; expected {download.wanted}. Move it away.")
        download.check_address(remote.url)
        path.parent.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock

        # Not `.{name}.lock`: it stays after a failure, and would be among what a user's `*{name}*` finds.
        lock = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.lock")
        with FileLock(lock):
            if not path.is_file():  # else another process was first
                download.run()
            # Safe only now: whoever waits for the lock, or makes it anew, finds the file and downloads nothing.
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)
    return path


class _Passing(Exception):
    """A failure that another attempt may heal, after `wait` seconds if the server asked for them."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _OtherFile(Exception):
    """What the server has is not the published file; `received`: some of it is in the part file."""

    def __init__(self, reason: str, received: bool) -> None:
        super().__init__(reason)
        self.received = received


class _Download:
    """One download into the part file: how much of it is there, and the checksum of that."""

    def __init__(self, remote: RemoteFile, path: Path) -> None:
        self.remote, self.path = remote, path
        self.part = path.with_name(f".{path.name}.part")
        self.have, self.digest = 0, hashlib.sha256()
        self.wanted = f"{path.name} ({remote.size:,} bytes) from {remote.url}"
        self.by_hand = f"Download it elsewhere and put it at {path}, or name a folder that has it with --data-dir."

    def run(self) -> None:
        """Download, retry what may pass, verify and publish."""
        import requests

        self._take_over()
        most, idle, others = self.have, 0, 0
        with requests.Session() as session:
            while True:
                try:
                    if self.have < self.remote.size:
                        self._attempt(session)
                    return self._publish()
                except _OtherFile as error:
                    if error.received:
                        self._drop()
                        most = 0
                    others += 1
                    if others > 1:
                        raise self._error(f"what it sends is not the published file: {error}, twice") from error
                except _Passing as error:
                    idle = 0 if self.have > most else idle + 1
                    most = max(most, self.have)
                    if idle >= ATTEMPTS:
                        if not self.have:
                            self._drop()
                        kept = f". The {self.have:,} bytes that came are kept: run again to go on" if self.have else ""
                        raise self._error(f"{error}, {ATTEMPTS} times in a row{kept}") from error
                    _pause(idle, error.wait)

    def check_address(self, url: str) -> None:
        """Refuse an address that is not https, before anything is sent there."""
        # The parser of what sends: another one may read another host from an odd address.
        from urllib3.util import parse_url

        try:
            parsed = parse_url(url)
        except ValueError as error:
            raise self._error(f"{url!r} is not an address ({error})") from error
        if parsed.scheme == "https" or (parsed.scheme == "http" and parsed.host in LOOPBACK):
            return
        place = "it" if url == self.remote.url else f"it redirects to {parsed.scheme}://{parsed.host}, which"
        raise self._error(f"{place} is not https, and nothing was sent there")

    def _attempt(self, session: requests.Session) -> None:
        """Ask for what is missing, and add what comes to the part file."""
        import requests
        from tqdm.auto import tqdm
        from urllib3.exceptions import HTTPError

        size, name, reason = self.remote.size, self.path.name, "the transfer ended early"
        try:
            with self._ask(session) as response:
                self._accept(response)
                with (
                    open(self.part, "ab") as file,
                    tqdm(desc=name, total=size, initial=self.have, unit="B", unit_scale=True, disable=None) as bar,
                ):
                    # read1 gives what is there: read would lose up to a block whenever the connection drops.
                    while block := response.raw.read1(BLOCK, decode_content=True):
                        if self.have + len(block) > size:
                            raise _OtherFile(f"more than the {size:,} bytes expected", received=True)
                        file.write(block)
                        file.flush()  # so that a killed process loses nothing that came
                        self.digest.update(block)
                        self.have += len(block)
                        bar.update(len(block))
        except (requests.RequestException, HTTPError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise self._error("the server's certificate is not one that this machine trusts") from error
            reason = f"the connection failed ({type(error).__name__})"
        if self.have < size:
            raise _Passing(reason)

    def _ask(self, session: requests.Session) -> requests.Response:
        """Send the request, and follow redirects as long as they are safe."""
        import requests

        # Ranges and sizes must be those of the file, not of a compressed form of it.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={self.have}-"} if self.have else {})
        url = self.remote.url
        for _ in range(MAX_REDIRECTS + 1):
            self.check_address(url)
            try:
                response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
                if (target := session.get_redirect_target(response)) is None:
                    return response
                response.close()
                url = urljoin(url, target)
            except (ValueError, OSError) as error:  # no address, or settings (proxy, certificates) that do not work
                if isinstance(error, requests.RequestException) and not isinstance(error, ValueError):
                    raise
                raise self._error(f"nothing can be sent to {url} ({error})") from error
        raise self._error(f"it redirects more than {MAX_REDIRECTS} times")

    def _accept(self, response: requests.Response) -> None:
        """Raise unless the body that follows goes on where the part file ends; empty that if it starts at zero."""
        status, headers = response.status_code, response.headers
        if status in {408, 429} or status >= 500:
            asked = re.fullmatch(r"[0-9]{1,9}", headers.get("Retry-After", "").strip())
            raise _Passing(f"the server answers HTTP {status}", float(asked[0]) if asked else 0.0)
        if status == 416:
            self._drop()
            raise _Passing("the server refuses to go on in the middle (HTTP 416)")
        if status not in {200, 206}:
            raise self._error(f"the server answers HTTP {status} {response.reason}")
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html" and self.path.suffix.lower() not in {".html", ".htm"}:
            raise self._error(
                "what came is text/html and not the file (of a login or a proxy?): open the address in a browser"
            )
        encoded = headers.get("Content-Encoding", "identity").strip().lower() != "identity"
        if status == 206:
            found = re.fullmatch(
                r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", headers.get("Content-Range", "").strip()
            )
            if not found or int(found[1]) != self.have or encoded:
                self._drop()
                raise _Passing("the server sends another part of the file than asked for")
            declared = found[2]
        else:
            declared = "*" if encoded else headers.get("Content-Length", "*").strip()
        if re.fullmatch(r"[0-9]{1,18}", declared) and int(declared) != self.remote.size:
            raise _OtherFile(f"it has {int(declared):,} bytes of {self.remote.size:,} expected", received=False)
        if status == 200:
            self._drop()

    def _take_over(self) -> None:
        """Go on with the part that an earlier download left, if there is one."""
        if self.part.is_file() and self.part.stat().st_size <= self.remote.size:
            with open(self.part, "rb") as file:
                while block := file.read(BLOCK):
                    self.digest.update(block)
                    self.have += len(block)
        else:
            self._drop()

    def _drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.have, self.digest = 0, hashlib.sha256()

    def _publish(self) -> None:
        checksum = self.digest.hexdigest()
        if checksum != self.remote.sha256.lower():
            raise _OtherFile(f"its SHA-256 is {checksum}, expected {self.remote.sha256}", received=True)
        with open(self.part, "ab") as file:
            os.fsync(file.fileno())
        os.replace(self.part, self.path)

    def _error(self, reason: str) -> BeirHybridError:
        return BeirHybridError(f"cannot fetch {self.wanted}: {reason}. {self.by_hand}")


def _pause(idle: int, asked: float) -> None:
    """Wait before the next attempt: longer each time, and never all clients at the same moment."""
    delay = min(BASE_DELAY * 2 ** max(idle - 1, 0), MAX_DELAY)
    time.sleep(max(random.uniform(delay / 2, delay), min(asked, MAX_RETRY_AFTER)))
