"""Names -> collections."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from beir_hybrid.collections.blend import blended, canonical
from beir_hybrid.collections.builder import first_questions
from beir_hybrid.collections.collection import MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.names import Part, parse_name
from beir_hybrid.collections.readers import hindi_beir, lareqa, miracl
from beir_hybrid.collections.spec import CollectionSpec, Request
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import expanded

ENTRY_POINTS = "beir_hybrid.collections"


def available() -> dict[str, CollectionSpec]:
    """The collections by name: ours, then those of other packages.

    A package adds its own through the entry point group `beir_hybrid.collections`; each entry point is a
    `CollectionSpec`, or several. One that cannot be imported, or whose name is taken, is left out with a warning.
    """
    specs = {spec.name: spec for module in (lareqa, miracl, hindi_beir) for spec in module.SPECS}
    for spec in _of_other_packages():
        if spec.name not in specs:
            specs[spec.name] = spec
        else:
            warnings.warn(f"{ENTRY_POINTS}: {spec.name!r} is taken; the later collection is left out.", stacklevel=2)
    return specs


def load(name: str | Path, **choices: Any) -> Any:
    """Load the collection or the setting called `name`: `load_collection` or `load_setting`, whichever it names.

    Returns:
        A `MultilingualCollection` for `xquad-r`, a `SettingView` for `xquad-r/cross/en-de`.
    """
    is_setting = not is_path(name) and "/" in str(name)
    if is_setting and (more := choices.keys() - {"data_dir"}):
        raise BeirHybridError(f"{name!r} is a setting, whose name says all of it; leave out {', '.join(sorted(more))}.")
    return load_setting(str(name), **choices) if is_setting else load_collection(name, **choices)


def load_collection(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    languages: Sequence[str] | None = None,
    text_mode: str | None = None,
    first: int | None = None,
    allow_missing: bool = False,
    split: str | None = None,
    config: str | None = None,
) -> MultilingualCollection:
    """Load the collection called `name`, or the one that lies in a folder.

    It is read from its folder in `data_dir`; without `data_dir`, from its folder in what `BEIR_HYBRID_DATA` names if it
    is there; else from the cache, where missing files are downloaded to and verified. All that is asked for becomes
    part of the collection's name, and that name loads the same again: `xquad-r.context.first100@de+en`.

    Args:
        name: One of `available()`, such a longer name, or a path (`./my-data`) to a folder in the layout of BEIR, of
            a hub dataset, of MIRACL or of LAReQA.
        data_dir: A folder that holds the collection's folder.
        languages: Only these.
        text_mode: `sentence` or `context`, where the collection has both.
        first: Only the first so many questions of each language, for a quick look; every passage stays.
        allow_missing: Leave out judgements of passages that the corpus lacks, rather than refuse.
        split: Of a folder that has several; by default `test`, else `dev`, else the only one.
        config: Of a folder in the hub's layout that holds several collections: what stands before its configs' names.

    Raises:
        BeirHybridError: unknown names; files that are missing, damaged, or cannot be fetched; judged passages that are
            not in the corpus.
    """
    if is_path(name):
        from beir_hybrid.collections.readers import local  # it needs Arrow, which is slow to import

        if data_dir is not None:
            raise BeirHybridError(f"{str(name)!r} is a path already; leave out the data folder {str(data_dir)!r}.")
        spec = local.describe(expanded(name), split, config)
        part = Part(spec.name)
    else:
        part, setting = parse_name(str(name))
        spec = _known(part.base)
        if setting:
            raise BeirHybridError(
                f"{name!r} is a setting, not a collection: name {str(part)!r}, and the setting {setting!r} beside it "
                "(--setting)."
            )
        if split is not None or config is not None:
            raise BeirHybridError(
                f"{name!r} is no folder: its name says which split it is; leave out {split or config!r}."
            )
    asked = {
        "languages": None if languages is None else tuple(languages),
        "text_mode": text_mode,
        "first": first,
        "partial": allow_missing or None,
    }
    return _read(spec, _checked(spec, _with(part, asked)), data_dir)


def load_setting(name: str, *, data_dir: str | Path | None = None) -> SettingView:
    """Load one setting: `xquad-r/cross/en-de`, `miracl-dev/mono/sw`, `xquad-r/blend/de+en/multi`.

    Where nobody judged across languages, only the setting's own language is read.

    Raises:
        BeirHybridError: as `load_collection`; the collection has no such setting.
    """
    spec, part, setting = resolve(name)
    if setting is None:
        raise unknown("setting", name, map(str, spec.settings(part)))
    if setting.kind == "blend":
        return blended(_read(spec, part, data_dir), [setting.query_language]).view(setting)
    own = (setting.query_language,) if spec.kinds == ("mono",) else None
    return _read(spec, part, data_dir, own).view(setting)


def resolve(name: str) -> tuple[CollectionSpec, Part, Setting | None]:
    """What a name means, from the declarations alone: nothing is read.

    Returns:
        The collection, the part of it as its name is written, and the setting; None where it is of the whole part.

    Raises:
        BeirHybridError: it means nothing.
    """
    part, wanted = parse_name(name)
    spec = _known(part.base)
    part = _checked(spec, part)
    if "/" not in name:
        return spec, part, None
    if wanted.startswith("blend/") and "cross" in spec.kinds:
        return spec, part, _blend(spec, part, wanted)
    known = {str(setting): setting for setting in spec.settings(part)}
    if (full := f"{part}/{wanted}") not in known:
        raise unknown("setting", full, known)
    return spec, part, known[full]


def _blend(spec: CollectionSpec, part: Part, wanted: str) -> Setting:
    _, pair, where = f"{wanted}//".split("/")[:3]
    pair, codes = canonical(pair), part.languages or spec.languages
    for code in pair.split("~")[0].split("+"):
        if code not in codes:
            raise unknown(f"language in {part}:", code, codes)
    if where not in (*codes, "multi") or wanted.count("/") > 2:
        ends = [f"{part}/blend/{pair}/{end}" for end in ("multi", *codes)]
        raise unknown("setting", f"{part}/{wanted}", ends)
    return Setting(str(part), "blend", pair, None if where == "multi" else where)


def _checked(spec: CollectionSpec, part: Part) -> Part:
    """The part as it is called: with its languages in the order of the collection's, and not at all if they are all."""
    if part.text_mode not in spec.text_modes:
        raise unknown(f"text mode of {spec.name}:", part.text_mode, spec.text_modes)
    if part.partial and not spec.may_lack_passages:
        raise BeirHybridError(f"{part}: {spec.name} has no judgements of passages that could be missing.")
    if part.languages is None:
        return part
    for code in part.languages:
        if code not in spec.languages:
            raise unknown(f"language in {spec.name}:", code, spec.languages)
    if not part.languages:
        raise BeirHybridError(f"no language of {spec.name} was asked for. Known: {', '.join(spec.languages)}.")
    ordered = tuple(code for code in spec.languages if code in part.languages)
    return replace(part, languages=None if ordered == spec.languages else ordered)


def _read(
    spec: CollectionSpec, part: Part, data_dir: str | Path | None, only: tuple[str, ...] | None = None
) -> MultilingualCollection:
    """Read a part of a collection; `only` these languages of it, under the same name."""
    languages = only or part.languages or spec.languages
    folder = folder_of(spec, data_dir)
    collection = spec.read(Request(str(part), languages, folder, part.text_mode, part.partial))
    collection = collection if part.first is None else first_questions(collection, part.first)
    return replace(collection, whole=False) if only else collection


def _with(part: Part, asked: dict[str, Any]) -> Part:
    """The part with what was `asked` for beside its name; the two must not contradict each other."""
    given = {key: value for key, value in asked.items() if value is not None}
    for key, value in given.items():
        said = getattr(part, key)
        if said != getattr(Part(part.base), key) and said != value:
            raise BeirHybridError(f"{part}: the name says {key} {said!r}, and {value!r} was asked for; say it once.")
    if (first := given.get("first")) is not None and (type(first) is not int or not 1 <= first < 10**9):
        raise BeirHybridError(f"{part}: first is {first!r}; expected a whole number from 1.")
    return replace(part, **given)


def folder_of(spec: CollectionSpec, data_dir: str | Path | None = None) -> Path | None:
    """Where the user has the files: in `data_dir`, or in what `BEIR_HYBRID_DATA` names; None if in neither.

    Raises:
        BeirHybridError: it is not in the `data_dir` that was named.
    """
    name = spec.folder or spec.name
    if data_dir is not None:
        folder = expanded(data_dir) / name
        if not spec.bundled and not folder.is_dir():
            raise BeirHybridError(
                f"{folder}: no such folder; --data-dir names the folder that holds {name}/ with {spec.layout}."
            )
        return folder if folder.is_dir() else None
    own = os.environ.get("BEIR_HYBRID_DATA")
    if own and not expanded(own).is_dir():
        raise BeirHybridError(f"BEIR_HYBRID_DATA is {own!r}, which is no folder; mend it or unset it.")
    return expanded(own) / name if own and (expanded(own) / name).is_dir() else None


def _known(name: str) -> CollectionSpec:
    specs = available()
    if name not in specs:
        if Path(name).is_dir():
            raise BeirHybridError(f"unknown collection {name!r}. Is the folder of that name meant? Write './{name}'.")
        raise unknown("collection", name, specs)
    return specs[name]


def is_path(name: str | Path) -> bool:
    """Whether it is a folder's path rather than a collection's name."""
    return isinstance(name, Path) or name.startswith((".", "/", "~"))


@cache
def _of_other_packages() -> tuple[CollectionSpec, ...]:
    found: list[CollectionSpec] = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            value = entry.load()
            specs = (value,) if isinstance(value, CollectionSpec) else tuple(value)
            if not all(isinstance(spec, CollectionSpec) for spec in specs):
                raise TypeError(f"{entry.value} is not a CollectionSpec nor several")
        except Exception as error:  # somebody else's package must not take ours down
            warnings.warn(f"{ENTRY_POINTS}: {entry.name} ({entry.value}) is left out: {error!r}.", stacklevel=2)
            continue
        found += specs
    return tuple(found)
