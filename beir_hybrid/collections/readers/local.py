"""A collection that lies in a folder: which layout it is in, and what it is called."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.names import CONTEXT, SENTENCE, Part, parse_name
from beir_hybrid.collections.readers.beir_folder import (
    UNKNOWN_LANGUAGE,
    hub_configs,
    hub_header,
    hub_qrels,
    read_beir,
    read_hub_folder,
    splits,
)
from beir_hybrid.collections.readers.lareqa import read_lareqa
from beir_hybrid.collections.spec import CollectionSpec, Request
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import read_json

_MANIFEST = "beir_hybrid.json"
_LANGUAGE_FILE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*\.json\Z")
_NOT_SAID = "not stated"


def describe(folder: Path, split: str | None, config: str | None = None) -> CollectionSpec:
    """The declaration of the collection in `folder`, under the folder's name and the split's if that is not `test`.

    A folder that `prepare_beir` wrote keeps the name that stands in its `beir_hybrid.json`.

    Args:
        split: Of a folder that has several; by default `test`, else `dev`, else the only one.
        config: What stands before the configs' names in a hub dataset of several collections.

    Raises:
        BeirHybridError: the folder is in none of the layouts; there is no such split, or no telling which is meant.
    """
    if not folder.is_dir():
        raise BeirHybridError(f"{folder}: no such folder; a path names a folder with a collection.")
    beir = any((folder / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz"))
    hub = "configs" in hub_header(folder) or any(folder.glob("corpus/*.parquet"))
    if config is not None and (beir or not hub):
        raise BeirHybridError(f"{folder}: not a hub dataset, so it has no configs; leave out {config!r}.")
    if beir and (folder / "qrels").is_dir():
        return _beir(folder, split)
    if hub:
        return _hub(folder, split, config)
    if any(folder.glob("miracl-v1.0-*/topics")):
        from beir_hybrid.collections.readers import miracl

        return miracl.local_spec(folder, split)
    if languages := sorted(file.stem for file in folder.glob("*.json") if _LANGUAGE_FILE.match(file.name)):
        return _lareqa(folder, split, tuple(languages))
    hint = "it has corpus.jsonl and no qrels/; " if beir else ""
    if settings := _manifest(folder).get("settings"):
        example = str(settings[0]).partition("/")[2] if isinstance(settings, list) and settings else "mono/en"
        hint = f"it holds prepared settings in folders of their own; name one of these, such as {folder}/{example}; "
    raise BeirHybridError(
        f"{folder}: no collection in it; {hint}expected corpus.jsonl, queries.jsonl and qrels/ (BEIR), README.md with "
        "configs in its header or corpus/*.parquet (hub), miracl-v1.0-{lang}/topics/ (MIRACL), or {lang}.json (LAReQA)."
    )


def _beir(folder: Path, split: str | None) -> CollectionSpec:
    chosen = _split(folder, split, splits(folder))
    layout = "corpus.jsonl, queries.jsonl and qrels/"
    return _prepared(folder, chosen, "a folder in BEIR's layout", layout, _NOT_SAID, read_beir)


def _hub(folder: Path, split: str | None, config: str | None) -> CollectionSpec:
    chosen = _split(folder, split, hub_qrels(folder, hub_configs(folder), config))
    licence = hub_header(folder).get("license")
    layout = "README.md with configs in its header"
    known = licence if isinstance(licence, str) and licence else _NOT_SAID
    spec = _prepared(
        folder, chosen, "a folder in the hub's layout", layout, known, partial(read_hub_folder, config=config)
    )
    return spec if config is None else replace(spec, name=_sound(f"{spec.name}-{config}"))


def _prepared(
    folder: Path,
    split: str,
    title: str,
    layout: str,
    licence: str,
    reader: Callable[..., MultilingualCollection],
) -> CollectionSpec:
    """The declaration of a BEIR or hub folder, with what its manifest says if it has one."""
    said = _manifest(folder)
    texts = {key: said[key] for key in ("licence", "citation", "origin", "text_mode") if isinstance(said.get(key), str)}
    info = CollectionInfo(**{"licence": licence, "citation": "", "origin": str(folder), **texts})
    recorded = _recorded_name(folder, said)
    base = _name(folder) if recorded is None else recorded.base
    if recorded is not None and "setting" in said:  # else its averages would look like those over the whole
        base = _sound("-".join([base, *str(said["setting"]).split("/")[1:]]))
    name = base if split == said.get("split", "test") else _sound(f"{base}-{split}")
    codes = said.get("languages")
    known = isinstance(codes, list) and codes and all(isinstance(code, str) for code in codes)
    languages = tuple(codes) if isinstance(codes, list) and known else (UNKNOWN_LANGUAGE,)
    left_out = said.get("missing")

    def read(request: Request) -> MultilingualCollection:
        if request.languages != languages:
            raise BeirHybridError(
                f"{folder}: its languages are known only when it is read, so all of them are; leave out the languages, "
                "and name a setting instead."
            )
        called = request.name if recorded is None else _joined(recorded, parse_name(request.name)[0])
        collection = reader(folder, called, info, split=split, allow_missing=request.partial)
        _check_counts(folder, said, collection)
        before = left_out if isinstance(left_out, int) else 0
        return replace(collection, info=replace(collection.info, missing=collection.info.missing + before))

    return CollectionSpec(
        name, f"{folder.resolve().name}: {title}", languages, info, read, layout=layout, may_lack_passages=True
    )


def _check_counts(folder: Path, said: dict[str, Any], collection: MultilingualCollection) -> None:
    """Refuse a folder that is no longer what it was written as, under the name that stands in it."""
    counts = said.get("counts")
    expected = counts.get("passages") if isinstance(counts, dict) and "setting" in said else None
    if isinstance(expected, int) and expected != len(collection.passages):
        raise BeirHybridError(
            f"{folder}: {len(collection.passages):,} passages where {_MANIFEST} says {expected:,}. It was changed "
            f"since it was written: remove {_MANIFEST} to read it under the folder's name."
        )


def _lareqa(folder: Path, split: str | None, languages: tuple[str, ...]) -> CollectionSpec:
    if split is not None:
        raise BeirHybridError(f"{folder}: has one file a language and no splits; leave out the split {split!r}.")
    info = CollectionInfo(_NOT_SAID, "", str(folder))

    def read(request: Request) -> MultilingualCollection:
        return read_lareqa(folder, request.name, request.languages, info, request.text_mode)

    title = f"{folder.resolve().name}: a folder in LAReQA's layout"
    return CollectionSpec(
        _name(folder), title, languages, info, read, text_modes=(SENTENCE, CONTEXT), layout="one file a language"
    )


def _split(folder: Path, split: str | None, found: Iterable[str]) -> str:
    known = list(found)
    if split is not None:
        if split not in known:
            raise unknown(f"split of {folder}:", split, known)
        return split
    for usual in ("test", "dev", *known):
        if usual in known and (usual in ("test", "dev") or len(known) == 1):
            return usual
    raise BeirHybridError(f"{folder}: say which split is meant; there are {', '.join(known)}.")


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        return {}
    found = read_json(path, "what prepare_beir wrote")
    if not isinstance(found, dict):
        raise BeirHybridError(f"{path}: not an object; expected what prepare_beir wrote. Remove it if it is not that.")
    return found


def _recorded_name(folder: Path, said: dict[str, Any]) -> Part | None:
    name = said.get("collection")
    if name is None:
        return None
    try:
        part, setting = parse_name(str(name))
    except BeirHybridError as error:
        raise BeirHybridError(f"{folder / _MANIFEST}: its collection is {name!r}. {error}") from None
    if setting:
        raise BeirHybridError(f"{folder / _MANIFEST}: its collection is {name!r}, which is a setting.")
    return part


def _joined(recorded: Part, asked: Part) -> str:
    """The recorded name with what was asked for besides."""
    firsts = [one for one in (recorded.first, asked.first) if one is not None]
    first, partial = min(firsts, default=None), recorded.partial or asked.partial
    return str(replace(recorded, base=asked.base, first=first, partial=partial))


def _name(folder: Path) -> str:
    return _sound(folder.resolve().name)


def _sound(name: str) -> str:
    """The name with nothing in it that means something in a setting's name."""
    sound = re.sub(r"[^A-Za-z0-9_-]", "-", name).lstrip("-_")
    if any(sign.isalnum() for sign in sound):
        return sound
    return f"folder-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"  # no two names may look alike
