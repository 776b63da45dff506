"""A collection that lies in a folder in BEIR's layout, or in the one of BEIR's and MTEB's datasets on the hub.

Both have the same three tables and differ in where these are.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.readers.beir_tables import Tables, read_tables
from beir_hybrid.errors import BeirHybridError, unknown

UNKNOWN_LANGUAGE = "und"
_HEADER = 64 * 2**20
_Configs = dict[str, dict[str, list[str]]]  # of a hub dataset: config -> split -> patterns of file names


def read_beir(
    folder: Path,
    name: str,
    info: CollectionInfo,
    *,
    split: str = "test",
    language: str = UNKNOWN_LANGUAGE,
    query_language: str | None = None,
    allow_missing: bool = False,
) -> MultilingualCollection:
    """Read `corpus.jsonl`, `queries.jsonl` and `qrels/{split}.tsv` in `folder`.

    The first two may be gzip (`.jsonl.gz`); qrels may be `.jsonl`, or have the four columns of TREC. A passage's and a
    question's `metadata.language` says its language, a question's `metadata.item` which questions are translations of
    each other. A question that the split does not judge is left out.

    Args:
        name: What the collection is called.
        language: Of passages that do not say it.
        query_language: Of questions that do not say it; by default `language`.
        allow_missing: Leave out judgements of passages that the corpus lacks, rather than refuse.

    Raises:
        BeirHybridError: a file is missing or broken, an id is used twice, a grade is no whole number, qrels name a
            question or a passage that is not there; says the file and the line.
    """
    found = splits(folder)
    if split not in found:
        raise unknown(f"split of {folder}:", split, found)
    tables = Tables(_beir_file(folder, "corpus"), _beir_file(folder, "queries"), (found[split],))
    return read_tables(tables, name, info, language, query_language or language, allow_missing)


def read_hub_folder(
    folder: Path,
    name: str,
    info: CollectionInfo,
    *,
    config: str | None = None,
    split: str = "test",
    language: str = UNKNOWN_LANGUAGE,
    query_language: str | None = None,
    allow_missing: bool = False,
) -> MultilingualCollection:
    """Read a hub dataset that lies in `folder`: its configs `corpus`, `queries` and `default` (or `qrels`).

    The header of `README.md` says which files a config has; without one, `corpus/`, `queries/` and `qrels/` hold
    Parquet files named after their split. Columns: `_id` or `id`, `title`, `text`; `query-id`, `corpus-id`, `score`;
    the column `language`, and in the questions `item`, are optional.

    Args:
        config: What stands before the configs' names: `hi` for `hi-corpus`, `hi-queries` and `hi-qrels`.
        split: Of the judgements. Passages and questions have this split, one of their own name, or only one.

    The other arguments, and Raises, are as for `read_beir`.
    """
    configs = hub_configs(folder)
    judged = hub_qrels(folder, configs, config)
    if split not in judged:
        raise unknown(f"split of {folder}:", split, judged)
    before = f"{config}-" if config else ""
    corpus, queries = (_hub_files(folder, configs, f"{before}{what}", (split, what)) for what in ("corpus", "queries"))
    tables = Tables(corpus, queries, _matching(folder, judged[split]))
    return read_tables(tables, name, info, language, query_language or language, allow_missing)


def splits(folder: Path) -> dict[str, Path]:
    """The splits of a folder in BEIR's layout, and the file with the judgements of each.

    Raises:
        BeirHybridError: there are none.
    """
    endings = (".tsv", ".jsonl", ".jsonl.gz")
    files = _listed(folder / "qrels")
    found = {
        file.name.removesuffix(ending): file
        for ending in reversed(endings)
        for file in files
        if file.name.endswith(ending) and file.is_file()
    }
    if not found:
        raise BeirHybridError(f"{folder / 'qrels'}: no judgements; expected {{split}}.tsv or {{split}}.jsonl in it.")
    return dict(sorted(found.items()))


def _beir_file(folder: Path, name: str) -> tuple[Path, ...]:
    for file in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if file.is_file():
            return (file,)
    raise BeirHybridError(f"{folder / name}.jsonl: no such file, nor {name}.jsonl.gz; BEIR's layout needs it.")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise BeirHybridError(f"{folder}: cannot be read ({error.strerror}).") from None


def hub_header(folder: Path) -> dict[str, Any]:
    """What the header of `README.md` says, every value as text; empty where there is no header.

    Raises:
        BeirHybridError: it is not YAML.
    """
    import yaml

    path = folder / "README.md"
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read(_HEADER)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BeirHybridError(f"{path}: cannot be read ({error}).") from None
    found = re.match(r"---[ \t]*\n(.*?)\n---[ \t]*(\n|\Z)", text, re.DOTALL)
    if found is None:
        return {}
    try:
        # Not the safe loader: it takes the language `no` for a boolean, and it is slow.
        header = yaml.load(found[1], getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BeirHybridError(f"{path}: its header is not YAML ({' '.join(str(error).split())}).") from None
    return header if isinstance(header, dict) else {}


def hub_configs(folder: Path) -> _Configs:
    """Config -> split -> patterns of file names in `folder`, from the header or else from the sub-folders.

    Raises:
        BeirHybridError: the header is broken; there are no configs.
    """
    declared = hub_header(folder).get("configs")
    found: _Configs = {}
    if declared is None:
        for sub in (entry for entry in _listed(folder) if entry.is_dir()):
            for file in sub.glob("*.parquet"):
                split = re.sub(r"-[0-9]+-of-[0-9]+\Z", "", file.stem)
                found.setdefault(sub.name, {}).setdefault(split, []).append(f"{sub.name}/{file.name}")
    for entry in declared if isinstance(declared, list) else ():
        name = entry.get("config_name", "default") if isinstance(entry, dict) else None
        files = _patterns(entry["data_files"]) if name and "data_files" in entry else None
        if not isinstance(name, str) or not files:
            raise BeirHybridError(
                f"{folder / 'README.md'}: its header has the config {reprlib.repr(entry)}; expected config_name, and "
                "data_files with a path for each split."
            )
        found[name] = files
    if not found:
        raise BeirHybridError(f"{folder}: no configs in the header of README.md and no corpus/*.parquet.")
    return found


def _patterns(data_files: Any) -> dict[str, list[str]] | None:
    """Split -> patterns; None where they are not in a form that the hub has."""
    found: dict[str, list[str]] = {}
    entries = data_files if isinstance(data_files, list) else [data_files]
    for entry in entries:
        split, path = "train", entry
        if isinstance(entry, dict):
            split, path = entry.get("split", "train"), entry.get("path")
        paths = path if isinstance(path, list) else [path]
        if not isinstance(split, str) or not all(isinstance(one, str) and one for one in paths):
            return None
        found.setdefault(split, []).extend(paths)
    return found


def hub_qrels(folder: Path, configs: _Configs, config: str | None) -> dict[str, list[str]]:
    """Split -> patterns of the judgements.

    Raises:
        BeirHybridError: there is no such config.
    """
    before = f"{config}-" if config else ""
    for name in (f"{before}qrels", f"{before}default") if config else ("default", "qrels"):
        if name in configs:
            return configs[name]
    prefixes = [name.removesuffix("-qrels") for name in configs if name.endswith("-qrels")]
    hint = f"There are: {', '.join(list(configs)[:20])}."
    if prefixes:
        hint = f"It holds {', '.join(prefixes[:20])}: name one, as in load({str(folder)!r}, config={prefixes[0]!r})."
    raise BeirHybridError(f"{folder}: no config {before}qrels or {before}default, which has the judgements. {hint}")


def _hub_files(folder: Path, configs: _Configs, name: str, wanted: tuple[str, ...]) -> tuple[Path, ...]:
    if name not in configs:
        raise unknown(f"config of {folder}:", name, configs)
    found = configs[name]
    for split in wanted if len(found) > 1 else found:
        if split in found:
            return _matching(folder, found[split])
    raise BeirHybridError(f"{folder}: config {name} has the splits {', '.join(found)}; expected {' or '.join(wanted)}.")


def _matching(folder: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    """The files that the patterns name, in order; they must lie in `folder`."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = PurePosixPath(pattern)
        if "://" in pattern or path.is_absolute() or ".." in path.parts:
            raise BeirHybridError(f"{folder / 'README.md'}: data_files names {pattern!r}, which is not in this folder.")
        try:
            plain = (folder / path).is_file()
            deep = pattern + "/*" * pattern.endswith("**")  # on the hub, `**` at the end means files too
            files = [folder / path] if plain else sorted(one for one in folder.glob(deep) if one.is_file())
        except (OSError, ValueError, NotImplementedError) as error:
            raise BeirHybridError(f"{folder / 'README.md'}: data_files has {pattern!r} ({error}).") from None
        if not files:
            raise BeirHybridError(f"{folder / pattern}: no such file; the header of README.md names it.")
        found |= dict.fromkeys(files)
    return tuple(found)
