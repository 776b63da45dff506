"""The files of a store of embeddings: a manifest, and shards of so many rows with their SHA-256 in their names."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_file, read_json, sha256_file

MANIFEST, VERSION = "embeddings.json", 1
DTYPES = ("float32", "float16")
_SHARD = re.compile(r"(\d{6,})\.([0-9a-f]{64})\.npy")
_FIELDS = {"rows": int, "dimension": int, "dtype": str, "shard_rows": int}


def read_manifest(folder: Path) -> dict[str, Any]:
    """What is in a store.

    Raises:
        BeirHybridError: it is no store, or one of another version.
    """
    manifest = read_json(folder / MANIFEST, "the manifest of a store of embeddings")
    known = isinstance(manifest, dict) and manifest.get("version") == VERSION
    if not known or not all(type(manifest.get(name)) is kind for name, kind in _FIELDS.items()):
        raise BeirHybridError(
            f"{folder / MANIFEST}: not the manifest of a store of embeddings of version {VERSION}; name another "
            "folder, or delete this one and encode again."
        )
    found: dict[str, Any] = manifest
    sizes = min(found["rows"], found["dimension"], found["shard_rows"] - 1)
    if found["dtype"] not in DTYPES or sizes < 0:
        raise BeirHybridError(f"{folder / MANIFEST}: damaged; delete the folder and encode again.")
    return found


def count_shards(manifest: Mapping[str, Any]) -> int:
    """How many shards there should be."""
    return math.ceil(int(manifest["rows"]) / int(manifest["shard_rows"]))


def shard_bytes(vectors: npt.NDArray[Any]) -> bytes:
    """A shard as it stands in its file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(vectors), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def shard_name(number: int, digest: str) -> str:
    """The file of a shard: renaming it into place is what makes it part of the store, checksum and all."""
    return f"{number:06}.{digest}.npy"


def write_shard(folder: Path, number: int, vectors: npt.NDArray[Any]) -> None:
    """Make these vectors a shard of the store, whole or not at all."""
    data = shard_bytes(vectors)
    with atomic_file(folder / shard_name(number, hashlib.sha256(data).hexdigest())) as temporary:
        temporary.write_bytes(data)


def find_shards(folder: Path, manifest: Mapping[str, Any]) -> dict[int, Path]:
    """The shards that are there, by number.

    Raises:
        BeirHybridError: one is longer or shorter than it should be.
    """
    found: dict[int, Path] = {}
    header = len(shard_bytes(np.empty((0, manifest["dimension"]), manifest["dtype"])))
    width = manifest["dimension"] * np.dtype(manifest["dtype"]).itemsize
    for path in sorted(folder.iterdir()):
        name = _SHARD.fullmatch(path.name)
        if name is None or (number := int(name[1])) >= count_shards(manifest):
            continue
        size = header + width * rows_of(manifest, number)
        if path.stat().st_size != size:
            raise BeirHybridError(
                f"{path}: {path.stat().st_size} bytes, not {size}. The shard is damaged: delete this file and encode "
                "the same texts into the folder again, which makes it anew."
            )
        found[number] = path
    return found


def rows_of(manifest: Mapping[str, Any], number: int) -> int:
    """How many rows a shard has."""
    return int(max(0, min(manifest["shard_rows"], manifest["rows"] - number * manifest["shard_rows"])))


def load_shard(path: Path, manifest: Mapping[str, Any], number: int) -> npt.NDArray[Any]:
    """The vectors in a shard's file, mapped.

    Raises:
        BeirHybridError: it says itself that it is something else.
    """
    vectors = load_array(path)
    shape = (rows_of(manifest, number), manifest["dimension"])
    # The length of the file was right: only the header can be wrong.
    if vectors.shape != shape or vectors.dtype != manifest["dtype"] or not vectors.flags.c_contiguous:
        raise BeirHybridError(
            f"{path}: {vectors.dtype} of shape {vectors.shape}, not {manifest['dtype']} of {shape}. The shard is "
            "damaged: delete this file and encode again."
        )
    return vectors


def load_array(path: Path) -> npt.NDArray[Any]:
    """The array in a `.npy` file, mapped; pickled objects are refused.

    Raises:
        BeirHybridError: it cannot be read as one.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BeirHybridError(f"{path}: no such file; expected vectors in NumPy's format.") from None
    except Exception as error:  # NumPy parses the header as Python, and a damaged one fails in many ways
        raise BeirHybridError(
            f"{path}: not vectors in NumPy's format ({str(error) or type(error).__name__}). Write the file anew."
        ) from None
    if not isinstance(found, np.ndarray):  # an archive of several
        raise BeirHybridError(f"{path}: not one array in NumPy's format; expected vectors, one row for each text.")
    return found


def check_shard(path: Path) -> None:
    """Compare a shard's bytes with the SHA-256 in its name.

    Raises:
        BeirHybridError: they differ.
    """
    if sha256_file(path) != path.name.split(".")[1]:
        raise BeirHybridError(
            f"{path}: its bytes have another SHA-256 than its name says. The shard is damaged: delete this file and "
            "encode the same texts into the folder again, which makes it anew."
        )
