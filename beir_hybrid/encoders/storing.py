"""Encoding into a store: shard by shard, by as many processes as there are, and on from where it was cut short.

Processes share the work by locks, one for each shard, which the system frees when a process dies. So several GPUs are
several processes on one folder (torchrun, or as many commands in as many terminals), and so are several machines with
one disk, if its file system has locks. Nobody is told who does what: each takes the next shard that nobody has.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from beir_hybrid.encoders.dense import DenseEncoder, Side
from beir_hybrid.encoders.digests import model_digest, texts_digest
from beir_hybrid.encoders.shards import (
    DTYPES,
    MANIFEST,
    VERSION,
    count_shards,
    find_shards,
    read_manifest,
    rows_of,
    write_shard,
)
from beir_hybrid.encoders.store import SHARD_ROWS, EmbeddingStore
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import as_one_error, check_writable, write_json

if TYPE_CHECKING:
    from beir_hybrid.encoders.encoding import FloatArray

logger = logging.getLogger(__name__)
_LOCKS = ".locks"
_KEY = ("model", "prompt", "max_tokens", "precision", "dimension", "dtype", "rows", "texts")


def encode_to_store(
    encoder: DenseEncoder,
    texts: Sequence[str],
    side: Side,
    folder: str | Path,
    *,
    dtype: str = "float32",
    shard_rows: int = SHARD_ROWS,
    digest: str | None = None,
    progress: bool = True,
) -> EmbeddingStore:
    """Encode `texts` into `folder`, or what of them is missing there, and open it.

    Each shard is written whole or not at all. A run that was killed goes on with the missing shards when it is called
    again, and on the same machine the files are the same, byte for byte, as those of an unbroken run: a batch has rows
    of one shard only. Several processes may do this at once on one folder and share the work; each comes back when all
    shards are there. An encoder with `auto` takes the precision in which the store was begun.

    Args:
        texts: Read once, a shard at a time: they may be on disk and larger than memory.
        dtype: `float32`, or `float16`, of half the size.
        shard_rows: Rows of a shard; a store that was begun keeps its own.
        digest: What names these texts, so that they are not read for it: `texts_digest(texts)`, or any other name by
            which the same texts in the same order are known, such as a digest of the collection and the side.
        progress: Show a bar, if standard error is a terminal.

    Raises:
        BeirHybridError: the folder holds embeddings of another model or of other texts, or something else; it is
            damaged (also when it is read: each shard's SHA-256 is checked first), or cannot be written; a vector is
            not finite.
    """
    folder = Path(folder)
    key = _key(encoder, texts, side, dtype, digest)
    manifest = _agreed(folder, key, encoder, texts, side, max(1, shard_rows))
    if len(find_shards(folder, manifest)) < count_shards(manifest):
        check_writable(folder / MANIFEST)
        _fill(folder, manifest, encoder, texts, side, progress)
    return EmbeddingStore.open(folder, verify=True)


def store_for(
    encoder: DenseEncoder,
    texts: Sequence[str],
    side: Side,
    cache_root: str | Path,
    *,
    dtype: str = "float32",
    digest: str | None = None,
) -> Path:
    """The folder below `cache_root` for these embeddings: whoever asks for the same ones is given the same folder.

    With `precision="auto"` the folder is the same whatever is chosen, since that is written in the store itself.
    """
    key = _key(encoder, texts, side, dtype, digest)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return Path(cache_root) / f"{side}-{name}"


def _key(encoder: DenseEncoder, texts: Sequence[str], side: Side, dtype: str, digest: str | None) -> dict[str, Any]:
    """All that the vectors depend on; the precision may be `auto` still."""
    if dtype not in DTYPES:
        raise unknown("type of embeddings", dtype, DTYPES)
    values = (
        model_digest(encoder.model),
        encoder.prompt(side),
        encoder.model.max_seq_length,
        encoder.wanted_precision,
        encoder.model.get_embedding_dimension(),
        dtype,
        len(texts),
        digest or texts_digest(texts),
    )
    return dict(zip(_KEY, values, strict=True))


def _agreed(
    folder: Path, key: Mapping[str, Any], encoder: DenseEncoder, texts: Sequence[str], side: Side, shard_rows: int
) -> dict[str, Any]:
    """The manifest of a store of just these embeddings, which is made where there is none."""
    if not (folder / MANIFEST).exists():
        _refuse_foreign(folder)
        with as_one_error(folder):
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        # Under a lock, so that of two processes only one finds out which precision is faster.
        with _locked(folder, "manifest", wait=True):
            if not (folder / MANIFEST).exists():
                precision = encoder.settle_precision(texts, side)
                about = {"name": encoder.name, "side": side, "batch_tokens": encoder.batch_tokens}
                probe = encoder.precision_probe
                manifest = {"version": VERSION, **key, "precision": precision, "shard_rows": shard_rows, **about}
                write_json(folder / MANIFEST, manifest | ({"precision_probe": probe} if probe else {}))
    manifest = read_manifest(folder)
    wanted = dict(key) | ({"precision": manifest.get("precision")} if key["precision"] == "auto" else {})
    differing = [f"{name} is {_short(manifest.get(name))}, not {_short(wanted[name])}" for name in _KEY
                 if manifest.get(name) != wanted[name]]  # fmt: skip
    if differing:
        raise BeirHybridError(
            f"{folder}: holds other embeddings: {'; '.join(differing)}. Nothing was changed; name another folder, or "
            "delete this one."
        )
    return manifest


def _fill(
    folder: Path, manifest: Mapping[str, Any], encoder: DenseEncoder, texts: Sequence[str], side: Side, progress: bool
) -> None:
    from tqdm.auto import tqdm

    there = find_shards(folder, manifest)
    missing = [number for number in range(count_shards(manifest)) if number not in there]
    # Under torchrun each begins at another place, so that they seldom reach for the same lock. Else all begin at 0.
    first = len(missing) * _environment("RANK", 0) // max(1, _environment("WORLD_SIZE", 1))
    missing = missing[first:] + missing[:first]
    with (
        as_one_error(folder),
        tqdm(
            total=manifest["rows"],
            initial=sum(rows_of(manifest, number) for number in there),
            desc=f"Encoding {'questions' if side == 'query' else 'passages'}",
            unit="text",
            disable=None if progress else True,
        ) as bar,
    ):
        # First all that nobody has; then wait for what others have, since they may die.
        for wait in (False, True):
            for number in list(missing):
                with _locked(folder, f"{number:06}", wait) as ours:
                    if not ours:
                        continue
                    if not any(folder.glob(f"{number:06}.*.npy")):
                        _write_shard(folder, manifest, number, encoder, texts, side, bar.update)
                    else:
                        bar.update(rows_of(manifest, number))
                missing.remove(number)
    # All shards are there, so no lock is asked for any more but by those who are about to find that out.
    for path in (folder / _LOCKS).iterdir():
        path.unlink(missing_ok=True)


def _write_shard(
    folder: Path,
    manifest: Mapping[str, Any],
    number: int,
    encoder: DenseEncoder,
    texts: Sequence[str],
    side: Side,
    advance: Callable[[int], object],
) -> None:
    for leftover in folder.glob(f".{number:06}.*.part"):  # of a process that was killed: the lock is ours
        leftover.unlink(missing_ok=True)
    start = number * manifest["shard_rows"]
    block = list(texts[start : start + rows_of(manifest, number)])
    vectors = _encode_once(encoder, block, side, manifest["precision"], advance).astype(manifest["dtype"])
    write_shard(folder, number, vectors)
    logger.info("%s: shard %d of %d encoded", folder, number, count_shards(manifest))


def _encode_once(
    encoder: DenseEncoder, texts: list[str], side: Side, precision: str, advance: Callable[[int], object]
) -> FloatArray:
    """Equal texts are encoded once and share the vector."""
    number: dict[str, int] = {}
    rows = np.array([number.setdefault(text, len(number)) for text in texts], dtype=np.int64)
    vectors = encoder.encode(list(number), side, precision=precision, advance=advance)[rows]
    advance(len(texts) - len(number))
    return vectors


@contextlib.contextmanager
def _locked(folder: Path, name: str, wait: bool) -> Iterator[bool]:
    """Whether the lock is ours; without `wait` it may be another's."""
    lock = FileLock(folder / _LOCKS / name)
    try:
        lock.acquire(blocking=wait, poll_interval=0.2)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise BeirHybridError(
            f"{lock.lock_file}: cannot be locked ({error}); choose a folder on another disk."
        ) from None
    try:
        yield True
    finally:
        lock.release()


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(not entry.name.startswith(".") for entry in folder.iterdir())):
        raise BeirHybridError(f"{folder}: exists and is not a store of embeddings; name another folder.")


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)


def _environment(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else otherwise
