from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beir_hybrid.collections.readers.hindi_beir import SPECS
from beir_hybrid.collections.registry import available, load
from beir_hybrid.collections.spec import CollectionSpec
from beir_hybrid.errors import BeirHybridError

NAMES = [
    "arguana", "fiqa", "trec-covid", "scidocs", "scifact", "touche", "nq", "fever", "climate-fever", "cc-news",
    "mmarco", "miracl", "mldr", "indicqa", "wikipedia",
]  # fmt: skip
PASSAGES = [
    {"_id": "p1", "title": "चाय", "text": "चाय एक पेय है।"},
    {"_id": "p2", "title": "", "text": "दिल्ली भारत की राजधानी है।"},
    {"_id": "p3", "title": "नदी", "text": "गंगा एक नदी है।"},
]
QUESTIONS = [{"_id": "q1", "text": "भारत की राजधानी?"}, {"_id": "q2", "text": "गंगा क्या है?"}]
JUDGED = [("q1", "p2", 1), ("q2", "p3", 2), ("q2", "p1", 0)]
QRELS = {"q1": {"p2": 1}, "q2": {"p3": 2, "p1": 0}}


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE", "BEIR_HYBRID_DATA"):
        monkeypatch.delenv(name, raising=False)


def lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def as_beir(folder: Path, qrels: str = "test.tsv", questions: list[dict[str, Any]] = QUESTIONS) -> Path:
    """A copy of a repository in BEIR's layout."""
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(lines(PASSAGES), encoding="utf-8")
    (folder / "queries.jsonl").write_text(lines(questions), encoding="utf-8")
    if qrels.endswith(".tsv"):
        rows = "".join(f"{query}\t{passage}\t{grade}\n" for query, passage, grade in JUDGED)
        (folder / "qrels" / qrels).write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")
    else:
        records = [{"query-id": query, "corpus-id": passage, "score": grade} for query, passage, grade in JUDGED]
        (folder / "qrels" / qrels).write_text(lines(records), encoding="utf-8")
    return folder


def as_hub(folder: Path, readme: bool = True) -> Path:
    """A copy of a repository in MTEB's layout, in which another language stands beside Hindi."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"query-id": 0, "corpus-id": 1, "score": 2}
    tables = {
        "corpus": pa.Table.from_pylist(
            [{"id": one["_id"], "title": one["title"], "text": one["text"]} for one in PASSAGES]
        ),
        "queries": pa.Table.from_pylist([{"id": one["_id"], "text": one["text"]} for one in QUESTIONS]),
        "qrels": pa.Table.from_pylist([{name: row[at] for name, at in columns.items()} for row in JUDGED]),
    }
    header = "configs:\n"
    for language in ("bn", "hi"):
        for name, table in tables.items():
            header += f"- config_name: {language}-{name}\n  data_files:\n"
            for split in ("dev", "test"):
                header += f"  - split: {split}\n    path: {language}-{name}/{split}-*\n"
            if language == "hi":
                (folder / f"hi-{name}").mkdir(parents=True)
                parquet.write_table(table, folder / f"hi-{name}" / "test-00000-of-00001.parquet")
    if readme:
        (folder / "README.md").write_text(f"---\n{header}---\n# About\n", encoding="utf-8")
    return folder


def in_mteb_layout(spec: CollectionSpec) -> bool:
    return "parquet" in spec.layout


def test_the_fifteen() -> None:
    assert [spec.name for spec in SPECS] == [f"hindi-beir-{name}" for name in NAMES]
    assert [name for name in available() if name.startswith("hindi-beir-")] == [spec.name for spec in SPECS]
    assert len({spec.folder for spec in SPECS}) == 15
    assert [spec.name for spec in SPECS if spec.kinds != ("mono",)] == ["hindi-beir-cc-news"]
    assert [spec.name for spec in SPECS if in_mteb_layout(spec)] == [
        "hindi-beir-mldr",
        "hindi-beir-indicqa",
        "hindi-beir-wikipedia",
    ]
    assert all(spec.folder.startswith("hindi-beir/") and "2408.09437" in spec.info.citation for spec in SPECS)


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
@pytest.mark.parametrize("qrels", ["test.tsv", "test.jsonl"])
def test_a_local_copy_of_the_hub_is_read(spec: CollectionSpec, qrels: str, tmp_path: Path) -> None:
    if in_mteb_layout(spec):
        as_hub(tmp_path / spec.folder, readme=qrels == "test.tsv")
    else:
        as_beir(tmp_path / spec.folder, qrels)
    collection = load(spec.name, data_dir=tmp_path)
    kind = "cross/en-hi" if spec.name == "hindi-beir-cc-news" else "mono/hi"
    assert [str(setting) for setting in collection.settings] == [f"{spec.name}/{kind}"]
    view = load(f"{spec.name}/{kind}", data_dir=tmp_path)
    assert view.qrels == QRELS
    assert list(view.queries) == ["q1", "q2"]
    assert view.corpus["p1"] == {"title": "चाय", "text": "चाय एक पेय है।", "metadata": {"language": "hi"}}
    assert (collection.info.licence, collection.info.origin) == (spec.info.licence, spec.info.origin)
    assert spec.kinds == collection.kinds


def test_files_may_say_another_direction(tmp_path: Path) -> None:
    questions = [{**one, "metadata": {"language": "hi"}} for one in QUESTIONS]
    folder = as_beir(tmp_path / "hindi-beir" / "Hindi_cc_news", questions=questions)
    english = [{**one, "metadata": {"language": "en"}} for one in PASSAGES]
    (folder / "corpus.jsonl").write_text(lines(english), encoding="utf-8")
    view = load("hindi-beir-cc-news/cross/hi-en", data_dir=tmp_path)
    assert (view.qrels, view.name) == (QRELS, "hindi-beir-cc-news/cross/hi-en")


def test_neither_language_of_cc_news_is_there_alone(tmp_path: Path) -> None:
    as_beir(tmp_path / "hindi-beir" / "Hindi_cc_news")
    with pytest.raises(BeirHybridError, match="the questions are in 'en', the passages in 'hi'; ask for both"):
        load("hindi-beir-cc-news@hi", data_dir=tmp_path)


def test_the_split_that_a_repository_has(tmp_path: Path) -> None:
    as_beir(tmp_path / "hindi-beir" / "Hindi_Miracl", "dev.tsv")
    assert load("hindi-beir-miracl/mono/hi", data_dir=tmp_path).qrels == QRELS
    as_beir(tmp_path / "hindi-beir" / "Hindi_NQ", "train.tsv")
    with pytest.raises(BeirHybridError, match=r"unknown split of .*Hindi_NQ: 'test'"):
        load("hindi-beir-nq", data_dir=tmp_path)


def test_missing_judged_passages(tmp_path: Path) -> None:
    folder = as_beir(tmp_path / "hindi-beir" / "Hindi_Fiqa")
    (folder / "corpus.jsonl").write_text(lines(PASSAGES[:2]), encoding="utf-8")
    with pytest.raises(BeirHybridError, match="1 of 3 judgements are of passages that it lacks"):
        load("hindi-beir-fiqa", data_dir=tmp_path)
    assert load("hindi-beir-fiqa.partial", data_dir=tmp_path).info.missing == 1


def in_the_cache(spec: CollectionSpec, hub: Path, revision: str) -> Path:
    """The snapshot that a download would have left."""
    repository = spec.info.origin.partition("/datasets/")[2]
    home = hub / f"datasets--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision, encoding="utf-8")
    return home / "snapshots" / revision


@pytest.mark.parametrize("variable", ["BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_takes_what_the_hub_sent_before(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    specs = {spec.name: spec for spec in SPECS}
    fiqa, mldr = specs["hindi-beir-fiqa"], specs["hindi-beir-mldr"]
    for spec, repository in ((fiqa, "AIhnIndicRag/Hindi_Fiqa"), (mldr, "mteb/MultiLongDocRetrieval")):
        wanted = rf"offline, and {repository} is not in the hub's cache\. .*at {spec.folder} in a folder.*--data-dir"
        with pytest.raises(BeirHybridError, match=wanted):
            load(spec.name)
        assert not spec.is_here()
    as_beir(in_the_cache(fiqa, tmp_path / "hub", "abc123"), "test.jsonl")
    as_hub(in_the_cache(mldr, tmp_path / "hub", "837028901907a7d419b4ab906f28e011ce1cc824"))
    assert load("hindi-beir-fiqa/mono/hi").qrels == QRELS
    assert load("hindi-beir-fiqa").info.origin.endswith("/AIhnIndicRag/Hindi_Fiqa at abc123")
    assert load("hindi-beir-mldr/mono/hi").qrels == QRELS
    assert fiqa.is_here()
    assert mldr.is_here()
    (tmp_path / "hub" / "datasets--AIhnIndicRag--Hindi_Fiqa" / "snapshots" / "abc123" / "queries.jsonl").unlink()
    assert not fiqa.is_here()


@pytest.mark.parametrize("name", ["fiqa", "mldr"])
def test_only_what_is_needed_is_asked_of_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    copy = as_beir if name == "fiqa" else as_hub

    def snapshot(repository: str, **choices: Any) -> str:
        asked.update(choices, repository=repository)
        return str(copy(tmp_path / "snapshots" / "abc123"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    collection = load(f"hindi-beir-{name}")
    assert collection.info.origin.endswith(f"{asked['repository']} at abc123")
    assert asked["repo_type"] == "dataset"
    patterns = set(asked["allow_patterns"])
    if name == "fiqa":
        assert (asked["repository"], asked["revision"]) == ("AIhnIndicRag/Hindi_Fiqa", None)
        assert {"corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels/test.jsonl"} < patterns
    else:
        assert asked["revision"] == "837028901907a7d419b4ab906f28e011ce1cc824"
        assert patterns == {"README.md", *(f"hi-{table}/test-*.parquet" for table in ("corpus", "queries", "qrels"))}


def test_a_hub_that_fails_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    for error in (LocalEntryNotFoundError("no network"), OSError("gated"), ValueError("not found"), RuntimeError("x")):

        def fail(*_: Any, failure: Exception = error, **__: Any) -> str:
            raise failure

        monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
        wanted = rf"AIhnIndicRag/Hindi_NQ cannot be had from the hub \({type(error).__name__}: .*hindi-beir/Hindi_NQ"
        with pytest.raises(BeirHybridError, match=wanted):
            load("hindi-beir-nq")
