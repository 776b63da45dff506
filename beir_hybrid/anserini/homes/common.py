"""What every home of an export says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini.exporting.exported import Exported
from beir_hybrid.anserini.reading.manifest import MANIFEST, read_manifest
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.encoders.store import FloatArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import check_target, sha256_file

_OF_PYSERINI = {"files", "request", "query_encoder", "settings", "ids"}


def questions(exported: Exported) -> tuple[IntArray, FloatArray]:
    """The rows of all exported questions, ascending, each once, and their vectors."""
    vectors: dict[int, FloatArray] = {}
    for one in exported.settings.values():
        vectors.update(zip(one.rows.tolist(), one.vectors, strict=True))
    rows = np.array(sorted(vectors), dtype=np.int64)
    if not len(rows):
        return rows, np.empty((0, exported.passages.dimension), dtype=np.float32)
    return rows, np.stack([vectors[row] for row in rows.tolist()])


def home_manifest(exported: Exported, folder: Path, layout: str) -> dict[str, Any]:
    """What was encoded with what, how the ids are written, and the SHA-256 of every file in `folder`."""
    info = exported.collection.info
    return {
        "layout": layout,
        **{name: value for name, value in exported.manifest.items() if name not in _OF_PYSERINI},
        "collection": exported.collection.name,
        "licence": info.licence,
        "origin": info.origin,
        "citation": info.citation,
        "passages": len(exported.passages),
        "dimension": exported.passages.dimension,
        "queries": len(questions(exported)[0]),
        "ids": {"escaped": None, "prefix": "language, in a column of its own" if exported.prefixed else None},
        "files": {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }


def check_home(folder: Path, what: str, layout: str, replace: bool) -> None:
    """Refuse, before anything is written, a folder that holds something else, or that is not to be replaced.

    Raises:
        BeirHybridError: it does, or is not.
    """
    if folder.is_dir() and any(folder.iterdir()) and (read_manifest(folder) or {}).get("layout") != layout:
        raise BeirHybridError(f"{folder}: exists and is not {what}; name another folder.")
    check_target(folder, what, MANIFEST, replace)


def prompts(exported: Exported) -> str:
    """How another question has to be encoded, in words."""
    encoder = exported.manifest.get("encoder") or {}
    said = encoder.get("prompts") or {}
    return (
        f"Encoder: {encoder.get('model') or encoder.get('class', 'not stated')}"
        + (f", weights {encoder['digest'][:16]}" if encoder.get("digest") else "")
        + (f". Questions begin with {said['query']!r}, passages with {said['passage']!r}" if said else "")
        + "."
    )
