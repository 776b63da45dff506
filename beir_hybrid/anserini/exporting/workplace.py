"""A hidden folder beside the one that is to be written: what a killed export did is found there again."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import as_one_error, move_folder


@dataclass(frozen=True)
class Workplace:
    """Where an export into `target` is put together.

    Attributes:
        request: What is asked for: another request finds nothing of this one but the embeddings.
    """

    target: Path
    request: Mapping[str, Any]

    @property
    def root(self) -> Path:
        """The hidden folder."""
        return self.target.parent / f".{self.target.name}.export"

    @property
    def embeddings(self) -> Path:
        """Where vectors are kept meanwhile, for whatever request needs the same ones."""
        return self.root / "embeddings"

    @property
    def folder(self) -> Path:
        """What becomes the target."""
        digest = hashlib.sha256(json.dumps(self.request, sort_keys=True).encode()).hexdigest()
        return self.root / digest[:16]

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other process puts the same target together.

        Raises:
            BeirHybridError: nothing can be written there, or the file system has no locks.
        """
        path = self.root / "lock"
        while True:
            with as_one_error(self.target):
                self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire()
            except FileNotFoundError:  # whoever had it is done, and has cleared up
                continue
            except (OSError, NotImplementedError) as error:
                raise BeirHybridError(f"{path}: cannot be locked ({error}); choose a folder on another disk.") from None
            if path.exists():
                break
            lock.release()
        try:
            yield
        finally:
            lock.release()

    def finish(self, replace: bool) -> None:
        """Give the finished folder its name.

        Raises:
            BeirHybridError: the target was made by another process meanwhile, or cannot be written.
        """
        move_folder(self.folder, self.target, replace=replace)

    def clear(self) -> None:
        """Remove the hidden folder and all that is in it; only for the process whose turn it is.

        It is renamed first: whoever comes next makes one of its own, and nothing is removed from that.
        """
        with contextlib.suppress(OSError):  # it is gone, or cannot go: nothing depends on it
            away = Path(tempfile.mkdtemp(prefix=f"{self.root.name}.", suffix=".old", dir=self.root.parent))
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.root, away / "was")
        for old in self.root.parent.glob(
            f"{glob.escape(self.root.name)}.*.old"
        ):  # ours, and what a killed process left
            shutil.rmtree(old, ignore_errors=True)
