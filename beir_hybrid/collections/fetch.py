"""Files from their publishers: verified before they are seen, whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_file, offline

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two blocks."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at a fixed address, with the checksum and the size that it must have."""

    url: str
    sha256: str
    size: int


def fetch(remote: RemoteFile, path: Path) -> Path:
    """Return `path`, downloaded from `remote` if it is not there yet.

    Raises:
        BeirHybridError: offline, not reachable, or what came is not the published file.
    """
    if path.is_file():
        return path
    wanted = f"{path.name} ({remote.size:,} bytes) from {remote.url}"
    by_hand = f"Download it elsewhere and put it at {path}, or name a folder that has it with --data-dir."
    if offline():
        raise BeirHybridError(f"offline, and {wanted} is not in the cache. {by_hand}")
    import requests
    from tqdm.auto import tqdm

    digest, size = hashlib.sha256(), 0
    with atomic_file(path) as temporary:
        try:
            with (
                requests.get(remote.url, stream=True, timeout=TIMEOUT) as response,
                open(temporary, "wb") as file,
                tqdm(total=remote.size, desc=path.name, unit="B", unit_scale=True, disable=None) as bar,
            ):
                response.raise_for_status()
                for block in response.iter_content(1 << 16):
                    size += len(block)
                    if size > remote.size:
                        break
                    digest.update(block)
                    file.write(block)
                    bar.update(len(block))
        except requests.RequestException as error:
            raise BeirHybridError(f"cannot fetch {wanted}: {type(error).__name__}. {by_hand}") from error
        if size != remote.size or digest.hexdigest() != remote.sha256:
            raise BeirHybridError(
                f"what {remote.url} sent is not the published file (at least {size:,} bytes of {remote.size:,} "
                f"expected, or another checksum than {remote.sha256}). {by_hand}"
            )
    return path
