"""What an export of ours says beside its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from beir_hybrid.files import read_json

MANIFEST = "manifest.json"


class Ids(NamedTuple):
    """How ids are written: percent-encoded where Pyserini would break them, behind their language where they repeat."""

    escaped: bool = False
    prefixed: bool = False


AS_THEY_ARE = Ids()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What an export wrote beside its files; None beside those of others.

    Raises:
        BeirHybridError: it cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    found = read_json(path, "the manifest of an export")
    return found if isinstance(found, dict) and "encoder" in found else None


def ids_of(manifest: dict[str, Any] | None) -> Ids:
    """How the ids beside this manifest are written."""
    said = manifest.get("ids") if manifest else None
    return Ids(bool(said.get("escaped")), bool(said.get("prefix"))) if isinstance(said, dict) else AS_THEY_ARE
