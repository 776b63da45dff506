"""The sources of pairs that a command names: collections and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from beir_hybrid.cli.options import language_codes
from beir_hybrid.collections import registry
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import expanded
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources import read_pairs


class _Source(NamedTuple):
    """A source before it is read in the languages that are wanted of it."""

    name: str
    languages: Sequence[str]
    read: Callable[[Sequence[str] | None], ParallelPairs]


def load_sources(
    collections: Sequence[str], files: Sequence[Path], data_dir: Path | None, languages: str | None
) -> list[ParallelPairs]:
    """The pairs of all these collections and files, each in those of the languages that it has.

    Raises:
        BeirHybridError: two sources are the same, none of them has one of the languages, or one of them has none; as
            `registry.load_collection` and `read_pairs`.
    """
    named = [*collections, *map(str, files)]
    if twice := [name for name in dict.fromkeys(named) if named.count(name) > 1]:
        raise BeirHybridError(f"{twice[0]} is named twice; name every source of pairs once.")
    codes = language_codes(languages)
    if codes is None:  # nothing has to be known about the sources beforehand
        return [_of_collection(name, data_dir, None) for name in collections] + [
            read_pairs(path, name=name) for name, path in _file_names(files, collections)
        ]
    if not codes:
        raise BeirHybridError("--languages names no language; name one, or leave it out for all.")
    sources = [_Source(name, _languages_of(name), partial(_of_collection, name, data_dir)) for name in collections]
    for name, path in _file_names(files, collections):
        sources.append(_Source(name, read_pairs(path, name=name).languages, partial(read_pairs, path, name=name)))
    known = list(dict.fromkeys(code for source in sources for code in source.languages))
    for code in codes:
        if code not in known:
            raise unknown(f"language in {' and '.join(source.name for source in sources)}:", code, known)
    for source in sources:
        if not set(codes) & set(source.languages):
            raise BeirHybridError(
                f"{source.name} has none of the languages {', '.join(codes)}; leave it out, or name one of its own: "
                f"{', '.join(source.languages)}."
            )
    return [source.read([code for code in codes if code in source.languages]) for source in sources]


def _of_collection(name: str, data_dir: Path | None, languages: Sequence[str] | None) -> ParallelPairs:
    return ParallelPairs.from_collection(registry.load_collection(name, data_dir=data_dir, languages=languages))


def _languages_of(name: str) -> Sequence[str]:
    """The languages of a collection, from its declaration."""
    if registry.is_path(name):
        from beir_hybrid.collections.readers import local

        return local.describe(expanded(name), None).languages
    spec, part, _ = registry.resolve(name)
    return part.languages or spec.languages


def _file_names(files: Sequence[Path], collections: Sequence[str]) -> list[tuple[str, Path]]:
    """What each file is called: as itself without its endings, or its path where another source is called so."""
    stems = [path.name.split(".")[0] for path in files]
    taken = [*stems, *collections]
    return [(stem if taken.count(stem) == 1 else str(path), path) for stem, path in zip(stems, files, strict=True)]
