"""Files at the rim: where the cache is, and writing that happens whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from beir_hybrid.errors import BeirHybridError


def cache_root() -> Path:
    """The folder for what is downloaded or converted: `BEIR_HYBRID_CACHE`, else the user's cache folder."""
    if own := os.environ.get("BEIR_HYBRID_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "beir_hybrid"


def offline() -> bool:
    """Whether the user has forbidden the network (`BEIR_HYBRID_OFFLINE` or `HF_HUB_OFFLINE`)."""
    return any(
        os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}
        for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE")
    )


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` to write; on success it is fsynced and renamed to `path`.

    On failure the temporary file is removed and what stood at `path` before stays as it was.

    Raises:
        BeirHybridError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    with as_one_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _fsync(temporary)
            os.replace(temporary, path)
            _fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, replace: bool = False, new: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path` to fill; on success it is fsynced and renamed to `path`.

    Where `path` exists by then, it is kept and ours dropped (another process was first), unless `replace` is true; with
    `new` that is an error, for what is there need not be the same.

    Raises:
        BeirHybridError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    with as_one_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            _into_place(temporary, path, replace, new)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def move_folder(source: Path, path: Path, *, replace: bool = False) -> None:
    """Give the finished folder `source`, on the same disk, the name `path`, whole or not at all.

    Raises:
        BeirHybridError: `path` exists (and `replace` is false), or cannot be written.
    """
    with as_one_error(path):
        _into_place(source, path, replace, new=True)


def _into_place(source: Path, path: Path, replace: bool, new: bool) -> None:
    for entry in sorted(source.rglob("*")):
        _fsync(entry)
    _fsync(source)
    if replace and path.exists():
        retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
        os.replace(path, retired / "was")
        os.replace(source, path)
        shutil.rmtree(retired, ignore_errors=True)
    elif path.exists():
        _was_first(path, new)
    else:
        try:
            os.rename(source, path)
        except OSError:
            if not path.exists():
                raise
            _was_first(path, new)
    _fsync(path.parent)


def _was_first(path: Path, new: bool) -> None:
    """Another process made the folder: as good as ours, unless ours was to be `new`."""
    if new:
        raise BeirHybridError(f"{path}: was made by another process meanwhile, and is left as it is; run again.")


def expanded(path: str | Path) -> Path:
    """The path with `~` as a home folder.

    Raises:
        BeirHybridError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BeirHybridError(f"{path}: {error}; write the path in full.") from None


def check_target(folder: Path, what: str, marker: str, replace: bool) -> None:
    """Refuse, before any work is done, a folder that its result could not be written to.

    Args:
        what: What is to be written, for the error: `a model`.
        marker: A file that such a folder has; one without it holds something else, and is never replaced.
        replace: Whether the user lets what is there be replaced.

    Raises:
        BeirHybridError: the folder exists without leave to replace it, or holds something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / marker).is_file()):
        raise BeirHybridError(f"{folder}: exists and is not {what}; name another folder.")
    if not replace:
        raise BeirHybridError(f"{folder}: exists already; name another folder, or replace it (--overwrite).")


def check_writable(path: Path) -> None:
    """Find out before any work is done that `path` could not be written afterwards.

    Raises:
        BeirHybridError: its folder cannot be made, or nothing can be written there.
    """
    with as_one_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, by a hard link; a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as readable JSON (sorted by nothing: the caller's order is the reader's)."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read the JSON file `path`; `what` names it in errors.

    Raises:
        BeirHybridError: it is missing, unreadable, not UTF-8 or not JSON; says the line.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))  # else json guesses UTF-16 and 32
    except FileNotFoundError:
        raise BeirHybridError(f"{path}: no such file; expected {what}.") from None
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}); expected {what}.") from None
    except json.JSONDecodeError as error:
        raise BeirHybridError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}); expected {what}. "
            "The file may be cut short: fetch or write it again."
        ) from None
    except UnicodeDecodeError as error:
        raise BeirHybridError(f"{path}: not UTF-8 at byte {error.start}; expected {what}.") from None
    except RecursionError:
        raise BeirHybridError(f"{path}: nested too deeply to be {what}.") from None


def file_states(files: Sequence[Path], what: str) -> list[list[object]]:
    """What tells files from what they were before: their paths, sizes and times.

    Raises:
        BeirHybridError: one is missing; says that `what` was expected.
    """
    try:
        found = [(path.resolve(), path.stat()) for path in files]
    except (OSError, ValueError) as error:  # a ValueError for a path with a zero byte
        path, fault = getattr(error, "filename", None), getattr(error, "strerror", None) or error
        raise BeirHybridError(f"{path or files}: cannot be read ({fault}); expected {what}.") from None
    return [[str(path), one.st_size, one.st_mtime_ns, one.st_ctime_ns] for path, one in found]


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def as_one_error(path: Path) -> Iterator[None]:
    """Turn what the file system refuses while `path` is written into the one exception of this package."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # raised by a library for its own reasons, not by the file system
            raise
        raise BeirHybridError(
            f"{path}: cannot be written ({error.strerror or error}). Nothing was left half written. "
            "Free space, or choose a folder that you may write to."
        ) from error


def _fsync(path: Path) -> None:
    # Windows has no descriptor for a folder; there the rename alone must do.
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def let_go(array: Any) -> None:
    """Drop the pages of a mapped file that were read: they count as this process's memory until then.

    Reading a corpus a block at a time would else seem to take all of it. Does nothing to anything else, nor where
    something could have been written to the pages.
    """
    import numpy as np  # here alone: files are written without it

    if not isinstance(array, np.memmap) or array.mode != "r" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
