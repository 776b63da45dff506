"""Settings as BEIR takes them: three dicts, a folder in its layout, or one in that of its and MTEB's hub datasets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from beir_hybrid.collections.collection import MultilingualCollection, SettingView
from beir_hybrid.collections.formats.beir_blocks import (
    BLOCK,
    Block,
    check_text,
    judgement_blocks,
    manifest_of,
    manifest_of_all,
    passage_blocks,
    query_blocks,
    query_prefix,
)
from beir_hybrid.collections.formats.hub_card import CARD, hub_card
from beir_hybrid.collections.names import parse_name
from beir_hybrid.collections.registry import available, is_path, load_collection, load_setting
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import atomic_folder, check_target, link_or_copy, write_json

MANIFEST = "beir_hybrid.json"
TARGET = ("a BEIR folder", MANIFEST)
LAYOUTS = ("beir", "hub")


def load_beir(
    name: str | Path, *, setting: str | None = None, data_dir: str | Path | None = None
) -> tuple[dict[str, dict[str, Any]], dict[str, str], dict[str, dict[str, int]]]:
    """One setting as `corpus, queries, qrels`: what BEIR's `GenericDataLoader` gives for the folder of that setting.

    Args:
        name: A setting, such as `xquad-r/cross/en-de`, or the path of a folder (`./my-folder`).
        setting: Which one of the folder's settings, such as `mono/en`; needed where it has several.
        data_dir: A folder that holds the collection's folder.

    Raises:
        BeirHybridError: there is no such setting, or its collection cannot be read.
    """
    view = _setting(name, setting, data_dir)
    corpus = {
        identifier: {"title": title, "text": text}
        for block in passage_blocks(view)
        for identifier, title, text in zip(block["_id"], block["title"], block["text"], strict=True)
    }
    prefix = query_prefix(view)
    queries = {prefix + identifier: text for identifier, text in view.queries.items()}
    return corpus, queries, {prefix + identifier: judged for identifier, judged in view.qrels.items()}


def prepare_beir(
    name: str | Path,
    folder: str | Path,
    *,
    setting: str | None = None,
    data_dir: str | Path | None = None,
    layout: Literal["beir", "hub"] = "beir",
    split: str = "test",
    every: bool = False,
    replace: bool = False,
    progress: bool = False,
) -> Path:
    """Write a setting into `folder`, whole or not at all; the same call writes the same bytes again.

    Args:
        name: A setting such as `xquad-r/cross/en-de`; with `every`, a collection. Or the path of a folder.
        setting: Which one of the folder's settings, where `name` is a path.
        data_dir: A folder that holds the collection's folder.
        layout: `beir`: `corpus.jsonl`, `queries.jsonl` and `qrels/{split}.tsv`. `hub`: Parquet, and a `README.md` that
            declares the configs `corpus`, `queries` and `default`.
        split: What the judgements' split is called.
        every: All settings of a collection but blends: in `folder/{kind}/{languages}/`, where those that search the
            same passages share one file by hard link; or as configs `{kind}-{languages}-corpus`, `-queries` and
            `-qrels` of one hub dataset.
        replace: Put the new folder in the place of one that was written before.
        progress: Show a bar on stderr, if that is a terminal.

    Returns:
        The folder.

    Raises:
        BeirHybridError: there is no such setting; the folder exists (and `replace` is false) or holds something else;
            an id or a text that the files could not hold; no permission or no space.
    """
    folder = Path(folder).expanduser()
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise BeirHybridError(f"the split {split!r} names files; expected letters, digits and '_', as in test.")
    check_target(folder, *TARGET, replace)
    views = _every_setting(name, data_dir) if every else [_setting(name, setting, data_dir)]
    _check(views, layout)
    from tqdm.auto import tqdm

    searched = {view.setting.searched: len(view.passage_rows) for view in views}
    off = None if progress else True
    with (
        atomic_folder(folder, replace=replace, new=True) as temporary,
        tqdm(total=sum(searched.values()), desc="Writing", unit="passage", disable=off) as bar,
    ):
        write = _write_hub if layout == "hub" else _write_beir
        write(temporary, views, split, every, bar.update)
    return folder


def _setting(name: str | Path, setting: str | None, data_dir: str | Path | None) -> SettingView:
    if is_path(name):
        return _of_folder(load_collection(name, data_dir=data_dir), setting)
    name = str(name) if setting is None else f"{name}/{setting}"
    part, said = parse_name(name)
    if not said and (spec := available().get(part.base)):
        some = ", ".join(map(str, spec.settings(part)[:4]))
        raise BeirHybridError(
            f"{name!r} is a collection, and BEIR takes one setting of it at a time: {some}, and so on. All at once are "
            "written by prepare_beir(..., every=True), or `datasets prepare --all`."
        )
    return load_setting(name, data_dir=data_dir)


def _of_folder(collection: MultilingualCollection, setting: str | None) -> SettingView:
    if setting is not None:
        return collection.view(setting)
    found = [one.path for one in collection.settings]
    if len(found) != 1:
        raise BeirHybridError(
            f"{collection.name} has {len(found)} settings, such as {', '.join(found[:4])}: say which (setting=..., "
            "--setting), or all (every=True, --all)."
        )
    return collection.view(found[0])


def _every_setting(name: str | Path, data_dir: str | Path | None) -> list[SettingView]:
    collection = load_collection(name, data_dir=data_dir)
    views = [collection.view(setting) for setting in collection.settings if setting.kind != "blend"]
    if not views:
        raise BeirHybridError(f"{name}: nothing but blends, or no question with a relevant passage; name one setting.")
    return views


def _check(views: list[SettingView], layout: str) -> None:
    """Refuse, before anything is written, what the files could not hold."""
    collection = views[0].collection
    queries, passages = collection.queries, collection.passages
    if not collection.judged:
        raise BeirHybridError(f"{collection.name}: its judgements are kept back; BEIR has no folder without any.")
    for texts, rows in ((queries, range(len(queries))), (passages, np.unique(collection.judgements.passages))):
        for identifier in (texts.ids[row] for row in rows) if layout == "beir" else ():
            if not identifier or any(sign in identifier for sign in "\t\n\r"):
                raise BeirHybridError(
                    f"{collection.name}: the id {identifier!r} cannot stand in qrels, which have a line for each "
                    "judgement and tabs between its columns. Rename it, or use the layout `hub`."
                )
    if not passages.ids_differ and any(view.setting.searched is None for view in views):
        raise BeirHybridError(
            f"{collection.name}: passages of two languages have the same id; a folder that has them all in one pool "
            "cannot tell them apart."
        )


def _write_beir(
    root: Path, views: list[SettingView], split: str, every: bool, advance: Callable[[int], object]
) -> None:
    corpora: dict[str | None, Path] = {}
    for view in views:
        folder = root / view.setting.path if every else root
        (folder / "qrels").mkdir(parents=True)
        corpus = folder / "corpus.jsonl"
        if (written := corpora.setdefault(view.setting.searched, corpus)) is corpus:
            _write_jsonl(corpus, passage_blocks(view), ("language",), advance)
        else:
            link_or_copy(written, corpus)
        _write_jsonl(folder / "queries.jsonl", query_blocks(view), ("language", "item"))
        with open(folder / "qrels" / f"{split}.tsv", "w", encoding="utf-8", newline="") as stream:
            stream.write("query-id\tcorpus-id\tscore\n")
            for block in judgement_blocks(view):
                stream.writelines(f"{_quoted(q)}\t{_quoted(p)}\t{g}\n" for q, p, g in zip(*block.values(), strict=True))
        write_json(folder / MANIFEST, manifest_of(view, split))
    if every:
        write_json(root / MANIFEST, manifest_of_all(views, split))


def _quoted(identifier: str) -> str:
    """As csv readers take it: BEIR's is one."""
    return '"' + identifier.replace('"', '""') + '"' if identifier.startswith('"') else identifier


def _write_jsonl(
    path: Path,
    blocks: Iterable[Block],
    in_metadata: tuple[str, ...],
    advance: Callable[[int], object] | None = None,
) -> None:
    with open(path, "wb") as stream:
        for block in blocks:
            check_text(block, path.name)
            for values in zip(*block.values(), strict=True):
                record: dict[str, Any] = dict(zip(block, values, strict=True))
                record["metadata"] = {key: record.pop(key) for key in in_metadata}
                stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            if advance is not None:
                advance(len(block["_id"]))


def _write_hub(root: Path, views: list[SettingView], split: str, every: bool, advance: Callable[[int], object]) -> None:
    configs: list[tuple[str, str, str]] = []  # name, split, file
    for view in views:
        config = view.setting.path.replace("/", "-") + "-" if every else ""
        searched = f"{view.setting.searched or 'multi'}-" if every else ""
        files = {
            "corpus": ("corpus", f"corpus/{searched}corpus-00000-of-00001.parquet"),
            "queries": ("queries", f"queries/{config}queries-00000-of-00001.parquet"),
            "qrels" if every else "default": (split, f"qrels/{config}{split}-00000-of-00001.parquet"),
        }
        configs += [(f"{config}{name}", *file) for name, file in files.items()]
        corpus, queries, qrels = (root / path for _, path in files.values())
        if not corpus.exists():
            _write_parquet(corpus, ("_id", "title", "text", "language"), passage_blocks(view), advance)
        _write_parquet(queries, ("_id", "text", "language", "item"), query_blocks(view))
        _write_parquet(qrels, ("query-id", "corpus-id", "score"), judgement_blocks(view))
    manifest = manifest_of_all(views, split) if every else manifest_of(views[0], split)
    title = manifest.get("setting") or manifest["collection"]
    files_of = {name: [(split, path)] for name, split, path in configs}
    (root / CARD).write_text(hub_card(title, manifest, files_of), encoding="utf-8", newline="")
    write_json(root / MANIFEST, manifest)


def _write_parquet(
    path: Path,
    columns: tuple[str, ...],
    blocks: Iterable[Block],
    advance: Callable[[int], object] | None = None,
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(exist_ok=True)
    schema = pa.schema([(name, pa.int32() if name == "score" else pa.string()) for name in columns])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks:
            check_text({name: block[name] for name in columns if name != "score"}, path.name)
            writer.write_table(pa.table(block, schema=schema), row_group_size=BLOCK)
            if advance is not None:
                advance(len(block[columns[0]]))
