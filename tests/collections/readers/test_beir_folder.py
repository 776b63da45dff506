from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.readers import beir_tables
from beir_hybrid.collections.readers.beir_folder import read_beir, read_hub_folder, splits
from beir_hybrid.errors import BeirHybridError

INFO = CollectionInfo("CC0-1.0", "", "made by the tests")
PASSAGES: list[dict[str, Any]] = [
    {"_id": "d1", "title": "Bees", "text": "Bees dance.", "metadata": {"language": "en"}},
    {"_id": "d2", "title": None, "text": "Ants march.", "metadata": {"language": "en", "url": "x"}},
    {"_id": 3, "text": "Bienen tanzen.", "metadata": {"language": "de"}},
]
QUERIES: list[dict[str, Any]] = [
    {"_id": "q1", "text": "Who dances?", "metadata": {"language": "en", "item": "a"}},
    {"_id": "q2", "text": "Wer tanzt?", "metadata": {"language": "de", "item": "a"}},
    {"_id": "q3", "text": "Who marches?"},
    {"_id": "q4", "text": "Nobody judged this."},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq1\t3\t1\nq2\t3\t1\nq3\td2\t1.0\n"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))


def lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write(
    folder: Path, *, passages: Any = PASSAGES, queries: Any = QUERIES, qrels: str = QRELS, split: str = "test.tsv"
) -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, content in (("corpus.jsonl", passages), ("queries.jsonl", queries), (f"qrels/{split}", qrels)):
        (folder / name).write_text(content if isinstance(content, str) else lines(content), encoding="utf-8")
    return folder


def read(folder: Path, **choices: Any) -> MultilingualCollection:
    return read_beir(folder, "mine", INFO, **{"language": "en", **choices})


def content(collection: MultilingualCollection) -> Any:
    """All that is in a collection, without the numbers."""
    found = {
        str(setting): [dict(part) for part in (view.corpus, view.queries, view.qrels)]
        for setting in collection.settings
        for view in [collection.view(setting)]
    }
    full = list(collection.passages.full_texts)
    items = [collection.items[item] for item in collection.query_item.tolist()]
    return collection.languages, collection.kinds, collection.digest, found, full, items


def test_a_folder_is_a_collection(tmp_path: Path) -> None:
    collection = read(write(tmp_path))
    assert [str(setting) for setting in collection.settings] == [
        "mine/mono/en",
        "mine/mono/de",
        "mine/cross/en-de",
        "mine/multi/en",
        "mine/multi/de",
    ]
    english = collection.view("mono/en")
    assert dict(english.queries) == {"q1": "Who dances?", "q3": "Who marches?"}
    assert dict(english.qrels) == {"q1": {"d1": 2, "d2": 0}, "q3": {"d2": 1}}
    assert english.corpus["d1"] == {"title": "Bees", "text": "Bees dance.", "metadata": {"language": "en"}}
    assert english.corpus["d2"]["title"] == ""
    assert collection.passages.full_texts[0] == "Bees Bees dance."
    assert "q4" not in collection.queries.ids  # not judged
    assert collection.passages.ids[2] == "3"
    assert collection.items == ("a", "en:q3")
    assert collection.query_item.tolist() == [0, 0, 1]


def test_without_languages_and_titles(tmp_path: Path) -> None:
    passages = [{"_id": "d1", "text": " Bees dance. "}]
    folder = write(tmp_path, passages=passages, queries=QUERIES[3:], qrels="q4\td1\t1\n")
    collection = read_beir(folder, "mine", INFO)
    assert collection.languages == ("und",)
    assert [str(setting) for setting in collection.settings] == ["mine/mono/und"]
    assert collection.passages.titles is None
    assert collection.passages.full_texts[0] == " Bees dance. "
    other = read_beir(folder, "mine", INFO, language="de", query_language="en")
    assert [str(setting) for setting in other.settings] == ["mine/cross/en-de"]


def test_a_pool_of_one_language_is_no_multi_setting(tmp_path: Path) -> None:
    queries = [{"_id": code, "text": "?", "metadata": {"language": code}} for code in ("en", "de", "de+fr")]
    folder = write(
        tmp_path, passages=PASSAGES[:2], queries=queries, qrels="".join(f"{q}\td1\t1\n" for q in ("en", "de"))
    )
    assert [str(setting) for setting in read(folder).settings] == ["mine/mono/en", "mine/cross/de-en"]
    (folder / "qrels/test.tsv").write_text("de+fr\td1\t1\n")
    assert "mine/blend/de+fr/en" in [str(setting) for setting in read(folder).settings]


@pytest.mark.parametrize(
    "qrels",
    [
        QRELS,
        QRELS.removeprefix("query-id\tcorpus-id\tscore\n"),
        QRELS.replace("\n", "\r\n"),
        "\ufeff" + QRELS + "\n\n",
        "q1 0 d1 2\nq1 0 d2 0\nq1\tQ0\t3\t1\nq2  0  3 1\nq3 0 d2 1\n",
        'query-id\tcorpus-id\tscore\n"q1"\td1\t2\nq1\t"d2"\t0\nq1\t3\t1\nq2\t3\t+1\nq3\td2\t1\n',
    ],
    ids=["header", "none", "crlf", "bom", "trec", "quoted"],
)
def test_forms_of_qrels(tmp_path: Path, qrels: str) -> None:
    wanted = content(read(write(tmp_path / "a")))
    assert content(read(write(tmp_path / "b", qrels=qrels))) == wanted


@pytest.mark.parametrize("keys", [("query-id", "corpus-id"), ("query_id", "corpus_id")])
def test_qrels_in_json_lines(tmp_path: Path, keys: tuple[str, str]) -> None:
    wanted = content(read(write(tmp_path / "a")))
    rows = [line.split("\t") for line in QRELS.splitlines()[1:]]
    grades = [2, 0.0, "1", "1.0", 1]
    found = lines([{keys[0]: q, keys[1]: p, "score": g} for (q, p, _), g in zip(rows, grades, strict=True)])
    assert content(read(write(tmp_path / "b", qrels=found, split="test.jsonl"))) == wanted


def test_gzip(tmp_path: Path) -> None:
    wanted = content(read(write(tmp_path)))
    for name in ("corpus.jsonl", "queries.jsonl"):
        plain = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(plain))
    assert content(read(tmp_path)) == wanted


def test_a_large_corpus_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a")
    small = read(tmp_path / "a")
    monkeypatch.setattr(beir_tables, "IN_MEMORY", 0)
    large = read(tmp_path / "a")
    assert not isinstance(large.passages.ids, tuple)
    assert content(large) == content(small)
    assert len(list((tmp_path / "cache" / "texts").glob("[!.]*"))) == 1
    # Another file, or another default language, is another store.
    write(tmp_path / "a", passages=[*PASSAGES, {"_id": "d4", "text": "Moths rest."}])
    assert len(read(tmp_path / "a").passages) == 4
    assert "fr" in read(tmp_path / "a", language="fr").languages
    twice = write(tmp_path / "b", passages=[*PASSAGES, PASSAGES[0]])
    with pytest.raises(BeirHybridError, match=r"corpus\.jsonl: the id 'd1' comes twice, in rows 0 and 3"):
        read(twice)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    passages=st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["en", "de", "hi", ""])), min_size=1, max_size=12),
    questions=st.lists(st.tuples(TEXT.filter(str.strip), st.sampled_from(["en", "de", ""])), min_size=1, max_size=6),
    data=st.data(),
)
def test_on_disk_or_in_memory_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    passages: list[tuple[str, str, str]],
    questions: list[tuple[str, str]],
    data: st.DataObject,
) -> None:
    corpus = [
        {"_id": f"d{n}", "title": title, "text": text, "metadata": {"language": code}}
        for n, (title, text, code) in enumerate(passages)
    ]
    queries = [
        {"_id": f"q{n}", "text": text, "metadata": {"language": code}} for n, (text, code) in enumerate(questions)
    ]
    judged = "".join(
        f"q{n}\td{m}\t{data.draw(st.integers(-1, 2))}\n"
        for n in range(len(queries))
        for m in range(0, len(corpus), n + 1)
    )
    folder = write(tmp_path_factory.mktemp("folder"), passages=corpus, queries=queries, qrels=judged)
    monkeypatch.setattr(beir_tables, "IN_MEMORY", 2**26)
    small = content(read(folder))
    monkeypatch.setattr(beir_tables, "IN_MEMORY", 0)
    assert content(read(folder)) == small


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"passages": [*PASSAGES, {"_id": "d1", "text": "Again."}]},
            r"corpus\.jsonl, line 4: the id 'd1' is used twice",
        ),
        ({"queries": [*QUERIES, QUERIES[3]]}, r"queries\.jsonl, line 5: the id 'q4' is used twice"),
        (
            {"queries": [{**QUERIES[0], "text": " "}, *QUERIES[1:]]},
            r"queries\.jsonl, line 1: the question 'q1' has no text; write one",
        ),
        ({"queries": QUERIES[:2]}, r"test\.tsv, line 6: the question 'q3' is judged, and .*queries\.jsonl has no such"),
        ({"passages": PASSAGES[:2]}, r"test\.tsv, line 4: the judged passage '3' is not in the corpus"),
        (
            {"qrels": QRELS + "q1\td1\t1\n"},
            r"test\.tsv, line 7: passage 'd1' is judged 1 for question 'q1' and 2 before",
        ),
        ({"qrels": QRELS + "q1\td1\n"}, r"test\.tsv, line 7: 2 columns"),
        ({"qrels": QRELS + "q1 d1 1\n"}, r"test\.tsv, line 7: 3 columns"),
        ({"qrels": QRELS + "q1\td1\tgood\n"}, r"test\.tsv, line 7: the grade \(score\) is 'good'"),
        ({"qrels": QRELS + "q1\td1\t0.5\n"}, r"line 7: the grade \(score\) is '0\.5'"),
        ({"qrels": QRELS + "q1\td1\t40000\n"}, r"line 7: the grade \(score\) is '40000'"),
        ({"qrels": QRELS + '"q1\td1\t1\n'}, r"line 7: a quotation mark in the wrong place"),
        ({"qrels": QRELS + "\td1\t1\n"}, r"line 7: 'query-id' is empty"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, r"no questions or no passages"),
        ({"passages": [{"_id": "d1", "title": "", "text": None}]}, r"corpus\.jsonl, line 1: no 'text'"),
        ({"passages": [{"_id": "d1", "text": 1}]}, r"corpus\.jsonl, line 1: 'text' is a JSON number"),
        ({"passages": [{"text": "a"}]}, r"corpus\.jsonl, line 1: no id"),
        ({"passages": [{"_id": "d1", "text": "a", "metadata": {"language": "e/n"}}]}, r"line 1: the language is 'e/n'"),
        ({"queries": [{"_id": "q1", "text": None}]}, r"queries\.jsonl, line 1: no 'text'"),
        ({"queries": [{**QUERIES[0], "metadata": {"item": []}}]}, r"queries\.jsonl, line 1: 'item' is"),
        ({"passages": ""}, r"no questions or no passages"),
        ({"split": "dev.tsv"}, r"unknown split of .* 'test'.* Known: dev"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, **change)
    for _ in range(2):
        with pytest.raises(BeirHybridError, match=message):
            read(tmp_path)


def test_a_title_may_stand_for_the_text(tmp_path: Path) -> None:
    passages = [*PASSAGES[1:], {"_id": "d1", "title": "Bees", "text": None}]
    assert read(write(tmp_path, passages=passages)).view("mono/en").corpus["d1"]["text"] == ""


def test_missing_passages_may_be_left_out(tmp_path: Path) -> None:
    collection = read(write(tmp_path, passages=PASSAGES[:2]), allow_missing=True)
    assert collection.info.missing == 2
    assert "q2" not in collection.view("mono/en").queries


def test_ids_of_questions_and_passages_may_be_the_same(tmp_path: Path) -> None:
    queries = [{"_id": "d1", "text": "Who dances?"}]
    assert dict(read(write(tmp_path, queries=queries, qrels="d1\td2\t1\n")).view("mono/en").qrels) == {"d1": {"d2": 1}}


def test_judged_and_never_relevant(tmp_path: Path) -> None:
    collection = read(write(tmp_path, qrels="q1\td1\t0\n"))
    assert collection.settings == ()


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path)
    (tmp_path / "qrels/test.tsv").unlink() if missing == "qrels" else (tmp_path / missing).unlink()
    if missing == "qrels":
        (tmp_path / "qrels").rmdir()
    with pytest.raises(BeirHybridError, match=missing.split("/")[0].split(".")[0]):
        read(tmp_path)


def test_splits(tmp_path: Path) -> None:
    for name in ("test.tsv", "test.jsonl", "dev.jsonl", "train.jsonl.gz", "notes.txt"):
        write(tmp_path, split=name)
    assert {name: path.name for name, path in splits(tmp_path).items()} == {
        "dev": "dev.jsonl",
        "test": "test.tsv",
        "train": "train.jsonl.gz",
    }


def mutated(draw: Callable[[Any], Any], original: bytes) -> bytes:
    """A copy with one to three faults of the kinds that files get."""
    found = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(found)))
        end = min(len(found), start + draw(st.integers(0, 12)))
        kind = draw(st.sampled_from(["cut", "drop", "repeat", "noise", "token", "flip"]))
        if kind == "cut":
            del found[start:]
        elif kind == "drop":
            del found[start:end]
        elif kind == "repeat":
            found[start:start] = found[max(0, start - 40) : end]
        elif kind == "noise":
            found[start:end] = draw(st.binary(max_size=6))
        elif kind == "token":
            tokens = [
                b"null",
                b"\n",
                b"\t",
                b'"',
                b"{",
                b"}",
                b"[]",
                b"1e999",
                b"-1",
                b"\xef\xbb\xbf",
                b"\0",
                b"\\ud800",
            ]
            found[start:end] = draw(
                st.sampled_from([*tokens, b'"de"', b"true", b"99999999999999999999", b"\r", b" ", b"0.5"])
            )
        elif start < len(found):
            found[start] ^= 1 << draw(st.integers(0, 7))
    return bytes(found)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def folder(split: str) -> Path:
        if split == "test.tsv":
            return write(tmp_path_factory.mktemp("fuzzed"))
        rows = [line.split("\t") for line in QRELS.splitlines()[1:]]
        found = lines([{"query-id": q, "corpus-id": p, "score": float(g)} for q, p, g in rows])
        return write(tmp_path_factory.mktemp("fuzzed"), qrels=found, split="test.jsonl")

    return folder


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels/test.jsonl"])
def test_a_broken_file_never_escapes(fuzzed: Callable[[str], Path], name: str) -> None:
    folder = fuzzed("test.jsonl" if name.endswith("test.jsonl") else "test.tsv")
    path = folder / name
    original = path.read_bytes()

    @settings(max_examples=2000, deadline=None, database=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        path.write_bytes(mutated(data.draw, original))
        try:
            collection = read(folder, allow_missing=data.draw(st.booleans()))
        except BeirHybridError:
            return
        for setting in collection.settings:
            view = collection.view(setting)
            assert len(view.queries) == len(view.qrels) > 0
        assert collection.digest

    check()


def write_hub(folder: Path, configs: str | None = None, ending: str = "parquet") -> Path:
    """The same data as a hub dataset."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = [line.split("\t") for line in QRELS.splitlines()[1:]]
    tables: dict[str, list[dict[str, Any]]] = {
        "corpus/corpus": [
            {"_id": str(one["_id"]), "title": one.get("title"), "text": one["text"], **one["metadata"], "url": None}
            for one in PASSAGES
        ],
        "queries/queries": [{"_id": one["_id"], "text": one["text"], **one.get("metadata", {})} for one in QUERIES],
        "qrels/test": [{"query-id": q, "corpus-id": p, "score": float(g)} for q, p, g in rows],
    }
    for name, records in tables.items():
        path = folder / f"{name}-00000-of-00001.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if ending == "parquet":
            parquet.write_table(pa.Table.from_pylist(records), path)
        else:
            path.write_text(lines(records), encoding="utf-8")
    if configs is not None:
        (folder / "README.md").write_text(f"---\nlicense: mit\nlanguage:\n- no\n{configs}---\n# A dataset\n")
    return folder


CONFIGS = """configs:
- config_name: {0}default
  data_files:
  - split: test
    path: qrels/test-*
- config_name: {0}corpus
  data_files: "corpus/**"
- config_name: {0}queries
  data_files:
  - split: queries
    path: ["queries/queries-00000-of-00001.{1}"]
"""


def read_hub(folder: Path, **choices: Any) -> MultilingualCollection:
    return read_hub_folder(folder, "mine", INFO, **{"language": "en", **choices})


@pytest.mark.parametrize(
    ("configs", "ending", "config"),
    [
        (None, "parquet", None),
        (CONFIGS.format("", "parquet"), "parquet", None),
        (CONFIGS.format("", "jsonl"), "jsonl", None),
        (CONFIGS.format("no-", "parquet"), "parquet", "no"),
        (CONFIGS.format("hi-", "parquet").replace("hi-default", "hi-qrels"), "parquet", "hi"),
        (CONFIGS.format("", "parquet").replace("default", "qrels").replace("\n", "\r\n"), "parquet", None),
    ],
    ids=["no header", "parquet", "jsonl", "norwegian", "prefix", "qrels"],
)
def test_hub_folders(tmp_path: Path, configs: str | None, ending: str, config: str | None) -> None:
    wanted = content(read(write(tmp_path / "a")))
    assert content(read_hub(write_hub(tmp_path / "b", configs, ending), config=config)) == wanted


def test_a_large_hub_corpus_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = content(read_hub(write_hub(tmp_path)))
    monkeypatch.setattr(beir_tables, "IN_MEMORY", 0)
    assert content(read_hub(tmp_path)) == small


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ("configs: []\n", "no configs"),
        ("configs: [a, b]\n", "has the config 'a'; expected config_name"),
        ("configs:\n- config_name: corpus\n", "expected config_name, and data_files"),
        ("configs:\n- config_name: corpus\n  data_files: {a: 1}\n", "expected config_name, and data_files"),
        ("configs: [\n", "its header is not YAML"),
        (CONFIGS.format("", "parquet").replace("qrels/test-*", "../qrels/test-*"), "which is not in this folder"),
        (CONFIGS.format("", "parquet").replace("qrels/test-*", "/etc/passwd"), "which is not in this folder"),
        (CONFIGS.format("", "parquet").replace("qrels/test-*", "hf://datasets/x"), "which is not in this folder"),
        (CONFIGS.format("", "parquet").replace("qrels/test-*", "qrels/dev-*"), "no such file; the header"),
        (CONFIGS.format("", "parquet").replace("qrels/test-*", "qrels/**x"), "data_files has 'qrels/\\*\\*x'"),
        (CONFIGS.format("", "parquet").replace("split: test", "split: dev"), "unknown split .*'test'.* Known: dev"),
        (CONFIGS.format("", "parquet").replace("corpus\n", "passages\n"), "unknown config .*'corpus'"),
        (
            CONFIGS.format("hi-", "parquet").replace("default", "qrels"),
            r"It holds hi: name one, as in load.*config='hi'",
        ),
        (CONFIGS.format("", "parquet").replace("default", "other"), "no config qrels or default"),
        (CONFIGS.format("", "parquet").replace("qrels/test-*", "README.md"), "neither JSON lines"),
    ],
)
def test_a_broken_header_is_one_clear_error(tmp_path: Path, configs: str, message: str) -> None:
    with pytest.raises(BeirHybridError, match=message):
        read_hub(write_hub(tmp_path, configs))


def test_a_broken_parquet_file_never_escapes(tmp_path: Path) -> None:
    write_hub(tmp_path)
    for path in sorted(tmp_path.glob("*/*.parquet")):
        original = path.read_bytes()
        for damaged in (b"", original[:100], original[:-9], original[:40] + b"\xff" * 40 + original[80:], b"PAR1" * 9):
            path.write_bytes(damaged)
            with pytest.raises(BeirHybridError, match=rf"{path.name}.* cannot be read after row 0"):
                read_hub(tmp_path)
        path.write_bytes(original)
    path = tmp_path / "qrels/test-00000-of-00001.parquet"
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"query-id": ["q1"], "score": [1]}), path)
    with pytest.raises(BeirHybridError, match=r"test-.*parquet, row 1: no id; expected 'corpus-id'"):
        read_hub(tmp_path)


@pytest.mark.parametrize(
    "name", ["README.md", "corpus/corpus-00000-of-00001.parquet", "qrels/test-00000-of-00001.parquet"]
)
def test_a_broken_hub_folder_never_escapes(tmp_path: Path, name: str) -> None:
    folder = write_hub(tmp_path, CONFIGS.format("", "parquet"))
    path = folder / name
    original = path.read_bytes()

    @settings(max_examples=700, deadline=None, database=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        path.write_bytes(mutated(data.draw, original))
        try:
            collection = read_hub_folder(folder, "tiny", INFO, allow_missing=data.draw(st.booleans()))
        except BeirHybridError:
            return
        assert all(len(collection.view(setting).queries) for setting in collection.settings)

    check()
