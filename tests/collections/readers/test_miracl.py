from __future__ import annotations

import gzip
import importlib.util
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.readers import miracl, miracl_files
from beir_hybrid.collections.readers.miracl import collection_of, local_spec, of_ir_datasets
from beir_hybrid.collections.readers.miracl_files import official, read_qrels, read_topics
from beir_hybrid.collections.registry import available, load
from beir_hybrid.collections.spec import Request
from beir_hybrid.errors import BeirHybridError
from tests.data import MIRACL, MIRACL_MINI, needs_miracl, needs_miracl_mini

INFO = CollectionInfo("CC0-1.0", "", "made by the tests")
OFFICIAL = {  # topics, judgements and those of them that are relevant
    "dev": {
        "ar": (2896, 29197, 5658), "bn": (411, 4206, 863), "de": (305, 3144, 811), "en": (799, 8350, 2326),
        "es": (648, 6443, 2987), "fa": (632, 6571, 1314), "fi": (1271, 12008, 2447), "fr": (343, 3429, 731),
        "hi": (350, 3494, 752), "id": (960, 9668, 3088), "ja": (860, 8354, 1790), "ko": (213, 3057, 547),
        "ru": (1252, 13100, 3560), "sw": (482, 5092, 910), "te": (828, 1606, 854), "th": (733, 7573, 1343),
        "yo": (119, 1188, 144), "zh": (393, 3928, 994),
    },
    "train": {
        "ar": (3495, 25382, 6217), "bn": (1631, 16754, 3859), "en": (2863, 29416, 7899), "es": (2162, 21531, 10025),
        "fa": (2107, 21844, 4277), "fi": (2897, 20350, 4928), "fr": (1143, 11426, 2321), "hi": (1169, 11668, 2469),
        "id": (4071, 41358, 12505), "ja": (3477, 34387, 6984), "ko": (868, 12767, 1973), "ru": (4683, 33921, 10000),
        "sw": (1901, 9359, 2687), "te": (3452, 18608, 4119), "th": (2972, 21293, 4778), "zh": (1312, 13113, 3187),
    },
}  # fmt: skip
MINI = {  # passages, and topics and judgements of dev
    "ar": (4253, 115, 314), "bn": (1727, 19, 42), "de": (4368, 17, 49), "en": (4901, 13, 42), "es": (3254, 9, 11),
    "fa": (4931, 39, 148), "fi": (2269, 17, 30), "fr": (4905, 13, 45), "hi": (3584, 33, 95), "id": (4379, 142, 376),
    "ja": (4858, 29, 77), "ko": (4651, 18, 49), "ru": (3222, 23, 63), "sw": (3597, 120, 561), "te": (2239, 70, 93),
    "yo": (705, 17, 81), "zh": (4854, 46, 171),
}  # fmt: skip
DOCS = [
    {"docid": "7#0", "title": "Gabon", "text": "Leon M'ba alikuwa rais wa kwanza."},
    {"docid": "7#1", "title": "Gabon", "text": "Mji mkuu ni Libreville."},
    {"docid": "9#0", "title": "", "text": "Nile ni mto."},
]
TOPICS = "22\tRais wa kwanza wa Gabon\taliitwa nani?\n32\tNile ni nini?\n"
QRELS = "22\tQ0\t7#0\t1\n22\tQ0\t7#1\t0\n32 Q0 9#0 1\n"


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "ir_datasets"))
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE", "BEIR_HYBRID_DATA"):
        monkeypatch.delenv(name, raising=False)


def written(
    folder: Path,
    language: str = "sw",
    split: str = "dev",
    *,
    docs: Sequence[dict[str, Any]] = DOCS,
    topics: str | bytes = TOPICS,
    qrels: str | bytes | None = QRELS,
) -> Path:
    """A folder in the official layout, with one passage in each file."""
    corpus = folder / f"miracl-corpus-v1.0-{language}"
    corpus.mkdir(parents=True)
    for number, record in enumerate(docs):
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        (corpus / f"docs-{number}.jsonl.gz").write_bytes(gzip.compress(line, 1))
    for kind, content in (("topics", topics), ("qrels", qrels)):
        home = folder / f"miracl-v1.0-{language}" / kind
        home.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path = home / f"{kind}.miracl-v1.0-{language}-{split}.tsv"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(folder: Path, *languages: str, split: str = "dev", allow_missing: bool = False) -> MultilingualCollection:
    sources = [official(folder, language, split) for language in languages or ("sw",)]
    return collection_of("toy", sources, INFO, allow_missing=allow_missing)


def test_ids_titles_texts_and_judgements(tmp_path: Path) -> None:
    collection = read(written(tmp_path / "data"))
    assert list(collection.passages.ids) == ["7#0", "7#1", "9#0"]
    assert list(collection.passages.full_texts) == [
        "Gabon Leon M'ba alikuwa rais wa kwanza.",
        "Gabon Mji mkuu ni Libreville.",
        "Nile ni mto.",
    ]
    assert collection.passages.title(2) == ""
    assert collection.queries.texts == ("Rais wa kwanza wa Gabon\taliitwa nani?", "Nile ni nini?")
    (setting,) = collection.settings
    view = collection.view(setting)
    assert str(setting) == "toy/mono/sw"
    assert view.qrels == {"22": {"7#0": 1, "7#1": 0}, "32": {"9#0": 1}}
    assert view.corpus["9#0"] == {"title": "", "text": "Nile ni mto.", "metadata": {"language": "sw"}}


def test_an_id_stands_in_several_languages(tmp_path: Path) -> None:
    folder = written(written(tmp_path / "data"), "yo", docs=[{**DOCS[0], "text": "Yoruba"}], qrels="22 Q0 7#0 1\n")
    both, yo = read(folder, "sw", "yo"), read(folder, "yo")
    assert list(both.passages.ids) == ["7#0", "7#1", "9#0", "7#0"]
    assert both.view("mono/yo").corpus["7#0"]["text"] == "Yoruba"
    assert both.view("mono/sw").corpus["7#0"]["text"].startswith("Leon")
    assert both.view("mono/yo").qrels == {"22": {"7#0": 1}}
    assert [str(setting) for setting in both.settings] == ["toy/mono/sw", "toy/mono/yo"]
    assert list(both.view("mono/yo").corpus.items()) == list(yo.view("mono/yo").corpus.items())
    assert len({read(folder, *codes).digest for codes in (("sw",), ("yo",), ("sw", "yo"), ("yo", "sw"))}) == 4


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    docs = [{"docid": f"{number}#0", "title": "", "text": "x"} for number in range(12)]
    folder = written(tmp_path / "data", docs=docs, qrels="22 Q0 11#0 1\n")
    corpus = folder / "miracl-corpus-v1.0-sw"
    (corpus / "docs-2.jsonl").write_bytes(gzip.decompress((corpus / "docs-2.jsonl.gz").read_bytes()))
    (corpus / ".docs-3.jsonl.gz.part").write_bytes(b"")
    with pytest.raises(BeirHybridError, match=r"docs-2\.jsonl.*keep one of the two"):
        read(folder)
    (corpus / "docs-2.jsonl.gz").unlink()
    assert list(read(folder).passages.ids) == [f"{number}#0" for number in range(12)]
    (corpus / "docs-7.jsonl.gz").unlink()
    with pytest.raises(BeirHybridError, match=r"miracl-corpus-v1\.0-sw: no docs-7\.jsonl\.gz here"):
        read(folder)
    shutil.rmtree(corpus)
    with pytest.raises(BeirHybridError, match=r"miracl-corpus-v1\.0-sw: no docs-0\.jsonl\.gz.*Get them from https"):
        read(folder)


@pytest.mark.parametrize(
    ("topics", "qrels", "fault"),
    [
        ("22 no tab\n", QRELS, r"sw-dev\.tsv, line 1: '22 no tab' has no tab"),
        ("22\ta?\n\tno id\n", QRELS, "line 2: .* no id"),
        ("22\ta?\n32\t \n", QRELS, "line 2: topic '32' has no text"),
        ("22\ta?\n32\tb?\n22\tc?\n", QRELS, r"line 3: the topic id '22' is used twice \(first at .*, line 1\)"),
        (b"22\ta?\n32\t\xff?\n", QRELS, "line 2: not UTF-8 at byte 4"),
        ("\n \n", QRELS, "no topics at all"),
        (None, QRELS, r"topics\.miracl-v1\.0-sw-dev\.tsv: no such file"),
        (TOPICS, "22 Q0 7#0\n", "qrels.*line 1: 3 columns .* expected qrels: topic, Q0, docid and grade"),
        (TOPICS, "22 Q0 7#0 1\n\n22 Q0 7#1 1.0\n", r"line 3: the grade is '1\.0'; expected a whole number"),
        (TOPICS, "22 Q0 7#0 99999\n", "line 1: the grade is '99999'"),
        (TOPICS, "22 Q0 7#0 1\n5 Q0 7#0 1\n", "line 2: '5' is not among the 2 topics in 'sw'"),
        (TOPICS, "22 Q0 7#0 1\n22 Q0 7#0 0\n", "line 2: passage '7#0' is judged 0 .* and 1 before"),
        (TOPICS, None, r"qrels\.miracl-v1\.0-sw-dev\.tsv: no such file"),
        (TOPICS, "22 Q0 8#0 1\n22 Q0 7#0 1\n", "line 1: the judged passage '8#0' is not in the corpus"),
    ],
)
def test_faults_are_said_with_their_place(tmp_path: Path, topics: Any, qrels: Any, fault: str) -> None:
    with pytest.raises(BeirHybridError, match=fault):
        read(written(tmp_path / "data", topics=topics, qrels=qrels))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"docid": "1#0", "title": "", "text": "cut', r"docs-0\.jsonl, line 2: not valid JSON"),
        (b'{"title": "", "text": "a"}', "line 2: no id; expected 'docid'"),
        (b'{"docid": "1#0", "title": 3, "text": "a"}', "line 2: 'title' is a JSON number"),
        (b'{"docid": "1#0", "title": "", "texts": "a"}', "line 2: no 'text'"),
        (b'{"docid": "0#0", "title": "", "text": "a"}', "the id '0#0' comes twice"),
    ],
)
def test_faults_in_passages_are_said_with_their_place(tmp_path: Path, line: bytes, fault: str) -> None:
    folder = written(tmp_path / "data", docs=[])
    first = b'{"docid": "0#0", "text": "no title"}\n'
    (folder / "miracl-corpus-v1.0-sw" / "docs-0.jsonl").write_bytes(first + line)
    with pytest.raises(BeirHybridError, match=fault):
        read(folder)


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    ends = {"topics": b"\xef\xbb\xbf" + TOPICS.replace("\n", "\r\n").encode(), "qrels": QRELS.replace("\n", "\r\n")}
    one, other = read(written(tmp_path / "a", **ends)), read(written(tmp_path / "b"))
    assert one.digest == other.digest


@pytest.mark.parametrize("spelling", ["test-a", "testA"])
def test_a_test_split_has_no_judgements(tmp_path: Path, spelling: str) -> None:
    written(tmp_path / "miracl", split=spelling, qrels=None)
    collection = load("miracl-test-a.partial@sw", data_dir=tmp_path)
    assert not collection.judged
    assert [str(setting) for setting in collection.settings] == ["miracl-test-a.partial@sw/mono/sw"]
    view = load("miracl-test-a.partial/mono/sw", data_dir=tmp_path)
    assert (len(view.queries), view.qrels, view.name) == (2, {}, "miracl-test-a.partial/mono/sw")
    assert not available()["miracl-test-a"].judged
    assert local_spec(tmp_path / "miracl").name == "miracl-test-a"
    assert not local_spec(tmp_path / "miracl", spelling).judged


def test_a_topic_without_judgements_is_in_no_setting(tmp_path: Path) -> None:
    collection = read(written(tmp_path / "data", qrels="22 Q0 7#0 1\n"))
    assert len(collection.queries) == 2
    assert list(collection.view("mono/sw").queries) == ["22"]


def test_stored_passages_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "data")
    first = read(folder)
    path = folder / "miracl-corpus-v1.0-sw" / "docs-1.jsonl.gz"

    def refuse(*_: object) -> Iterator[Any]:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(miracl_files, "read_jsonl", refuse)
        assert read(folder).digest == first.digest
    path.write_bytes(gzip.compress(json.dumps({**DOCS[1], "text": "Mji mwingine."}).encode()))
    assert read(folder).passages.texts[1] == "Mji mwingine."


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    folder = written(written(tmp_path / "my data v1.0"), "yo", split="train")
    written(folder, "zh", topics=TOPICS, split="dev")
    shutil.rmtree(folder / "miracl-corpus-v1.0-zh")
    spec = local_spec(folder)
    assert (spec.name, spec.languages, spec.kinds, spec.is_here()) == ("my-data-v1-0-dev", ("sw",), ("mono",), True)
    assert local_spec(folder, "train").languages == ("yo",)
    collection = spec.read(Request(spec.name, spec.languages))
    assert str(collection.settings[0]) == "my-data-v1-0-dev/mono/sw"
    with pytest.raises(BeirHybridError, match=r"unknown split of .*'devel'\. Did you mean 'dev'"):
        local_spec(folder, "devel")
    with pytest.raises(BeirHybridError, match="no language has passages and questions here; expected miracl-corpus"):
        local_spec(tmp_path)
    with pytest.raises(BeirHybridError, match="cannot be read"):
        local_spec(tmp_path / "nothing")
    (folder / "miracl-v1.0-sw" / "topics" / "topics.miracl-v1.0-sw-dev.tsv").rename(
        folder / "miracl-v1.0-sw" / "topics" / "topics.miracl-v1.0-sw-extra.tsv"
    )
    with pytest.raises(BeirHybridError, match="say which split is meant; there are extra, train"):
        local_spec(folder)


@needs_miracl
@pytest.mark.parametrize("split", OFFICIAL)
def test_counts_of_the_official_files(split: str) -> None:
    found = {}
    for language in OFFICIAL[split]:
        home = MIRACL / f"miracl-v1.0-{language}"
        topics = read_topics(home / "topics" / f"topics.miracl-v1.0-{language}-{split}.tsv")
        qrels = read_qrels(home / "qrels" / f"qrels.miracl-v1.0-{language}-{split}.tsv")
        assert {qrel.topic for qrel in qrels} <= {topic.id for topic in topics}
        assert {qrel.grade for qrel in qrels} == {0, 1}
        found[language] = (len(topics), len(qrels), sum(qrel.grade for qrel in qrels))
    assert found == OFFICIAL[split]
    assert available()[f"miracl-{split}"].languages == tuple(found)


def of_its_package(name: str) -> Any:
    spec = importlib.util.find_spec("ir_datasets")
    assert spec is not None
    assert spec.origin is not None
    return json.loads((Path(spec.origin).parent / "etc" / name).read_text(encoding="utf-8"))


def test_counts_are_those_of_ir_datasets() -> None:
    counts = of_its_package("metadata.json")
    specs = {name.removeprefix("miracl-"): spec for name, spec in available().items() if name.startswith("miracl-")}
    assert list(specs) == ["dev", "train", "test-a", "test-b"]
    assert [len(spec.languages) for spec in specs.values()] == [18, 16, 11, 18]
    for split, spec in specs.items():
        known = [name.split("/")[1] for name in counts if name.startswith("miracl/") and name.endswith(f"/{split}")]
        assert list(spec.languages) == known
        assert spec.questions == sum(counts[f"miracl/{code}/{split}"]["queries"]["count"] for code in known)
        assert spec.passages == sum(counts[f"miracl/{code}"]["docs"]["count"] for code in known)
        for code in OFFICIAL.get(split, ()):
            topics, judged, relevant = OFFICIAL[split][code]
            about = counts[f"miracl/{code}/{split}"]
            values = about["qrels"]["fields"]["relevance"]["counts_by_value"]
            assert (about["queries"]["count"], about["qrels"]["count"]) == (topics, judged)
            assert values == {"1": relevant, "0": judged - relevant}
    assert specs["dev"].passages == 106_332_152
    assert (specs["dev"].questions, specs["train"].questions) == (13_495, 40_203)


def test_the_files_of_ir_datasets_are_known_without_importing_it(tmp_path: Path) -> None:
    files = of_its_package("downloads.json")["miracl"]
    home = tmp_path / "ir_datasets" / "miracl"
    for spec in miracl.SPECS:
        split = spec.name.removeprefix("miracl-")
        wanted = {
            str(home / file["cache_path"]): (name, file)
            for name, file in files.items()
            if name.split("/")[1] in spec.languages and (f"/{split}/" in name or "/corpus/" in name)
        }
        lacks = [str(path) for code in spec.languages for path in miracl._ir_datasets_lacks(code, split)]
        assert sorted(lacks) == sorted(wanted)
        assert spec.download == sum(file["size_hint"] for name, file in wanted.values() if "/corpus/" in name)
        assert not spec.is_here()
    assert not home.parent.exists()


def test_here_when_every_file_of_ir_datasets_is(tmp_path: Path) -> None:
    spec = available()["miracl-test-a"]
    lacks = [path for code in spec.languages for path in miracl._ir_datasets_lacks(code, "test-a")]
    for path in lacks:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert spec.is_here()
    lacks[-1].unlink()
    assert not spec.is_here()


@pytest.mark.parametrize("variable", ["BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_what_is_missing_and_touches_nothing(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    wanted = r"offline, and 3 files of miracl-dev .*ir_datasets/miracl/v1\.0/sw/dev/topics\.tsv, .*--data-dir"
    with pytest.raises(BeirHybridError, match=wanted):
        load("miracl-dev/mono/sw")
    assert not (tmp_path / "ir_datasets").exists()


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """The name of a dataset that is registered with ir_datasets; its files are those of `written`."""
    ir_datasets = pytest.importorskip("ir_datasets")
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.datasets.miracl import QRELS_DEFS, MiraclDoc
    from ir_datasets.formats import JsonlDocs, TrecQrels, TsvQueries
    from ir_datasets.util import GzipExtract, LocalDownload

    folder = written(tmp_path / "data", topics=TOPICS.replace("Gabon\t", "Gabon "))
    corpus, tables = folder / "miracl-corpus-v1.0-sw", folder / "miracl-v1.0-sw"
    name = f"test-{tmp_path.name}/sw/dev"
    docs = JsonlDocs(
        [GzipExtract(LocalDownload(corpus / f"docs-{number}.jsonl.gz")) for number in range(len(DOCS))],
        doc_cls=MiraclDoc,
        mapping={"doc_id": "docid", "title": "title", "text": "text"},
        namespace=name.removesuffix("/dev"),
        lang="sw",
        docstore_path=tmp_path / "docs.pklz4",
    )
    queries = TsvQueries(LocalDownload(tables / "topics" / "topics.miracl-v1.0-sw-dev.tsv"), lang="sw")
    qrels = TrecQrels(LocalDownload(tables / "qrels" / "qrels.miracl-v1.0-sw-dev.tsv"), QRELS_DEFS)
    ir_datasets.registry.register(name, Dataset(docs, queries, qrels))
    return name


def test_wrapping_ir_datasets_gives_what_the_files_give(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = collection_of("toy", [of_ir_datasets(dataset, "sw")], INFO)
    assert wrapped.digest == read(tmp_path / "data").digest
    monkeypatch.setattr(miracl, "_rows", lambda *_: pytest.fail("read again"))
    assert collection_of("toy", [of_ir_datasets(dataset, "sw")], INFO).digest == wrapped.digest


def test_what_ir_datasets_raises_is_one_error(dataset: str, tmp_path: Path) -> None:
    corpus = tmp_path / "data" / "miracl-corpus-v1.0-sw"
    (corpus / "docs-1.jsonl.gz").write_bytes((corpus / "docs-1.jsonl.gz").read_bytes()[:20])
    with pytest.raises(BeirHybridError, match=rf"ir_datasets cannot read {dataset} \(EOFError"):
        collection_of("toy", [of_ir_datasets(dataset, "sw")], INFO)
    (tmp_path / "data" / "miracl-v1.0-sw" / "qrels" / "qrels.miracl-v1.0-sw-dev.tsv").unlink()
    with pytest.raises(BeirHybridError, match=rf"ir_datasets cannot read {dataset} \(FileNotFoundError"):
        of_ir_datasets(dataset, "sw")
    with pytest.raises(BeirHybridError, match="ir_datasets cannot read no/such"):
        of_ir_datasets("no/such", "sw")


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """A data folder in which miracl-mini passes for MIRACL."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "miracl").symlink_to(MIRACL_MINI, target_is_directory=True)
    return tmp_path / "mini"


@needs_miracl_mini
def test_miracl_mini() -> None:
    collection = load(MIRACL_MINI)
    assert collection.name == "miracl-mini-dev"
    assert collection.languages == tuple(MINI)
    assert (len(collection.passages), collection.info.missing) == (62_697, 0)
    assert (len(collection.queries), len(collection.settings)) == (740, 17)
    for language, (passages, topics, judged) in MINI.items():
        view = collection.view(f"mono/{language}")
        number = collection.language_number(language)
        asked = collection.queries.rows_of(number)
        assert (len(view.corpus), len(asked)) == (passages, topics)
        assert sum(len(collection.judgements[row]) for row in asked) == judged
        ids = list(view.corpus)
        for identifier, record in zip((ids[0], ids[-1]), ends_of(language), strict=True):
            assert view.corpus[identifier] == {
                "title": record["title"],
                "text": record["text"],
                "metadata": {"language": language},
            }
            assert identifier == record["docid"]
    swahili = collection.view("mono/sw")
    assert next(iter(swahili.queries.items())) == ("22", "Rais wa kwanza wa Gabon aliitwa nani?")
    assert swahili.qrels["22"]["9266#1"] == 1


def ends_of(language: str) -> list[dict[str, str]]:
    """The first and the last passage of miracl-mini, read by other means."""
    path = MIRACL_MINI / f"miracl-corpus-v1.0-{language}" / "docs-0.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    return [json.loads(line) for line in (lines[0], [line for line in lines if line][-1])]


@needs_miracl_mini
@pytest.mark.parametrize("split", ["dev", "train"])
def test_one_language_is_read_without_the_others(split: str, mini: Path, tmp_path: Path) -> None:
    view = load(f"miracl-{split}.partial/mono/sw", data_dir=mini)
    assert view.name == f"miracl-{split}.partial/mono/sw"
    assert not view.collection.whole
    with pytest.raises(BeirHybridError, match="3,597 passages in 'sw' where MIRACL has 131,924"):
        load(f"miracl-{split}/mono/sw", data_dir=mini)
    assert (len(view.corpus), view.collection.languages) == (3_597, ("sw",))
    assert [folder.name[:10] for folder in (tmp_path / "cache" / "texts").iterdir() if folder.is_dir()] == [
        "miracl-sw-"
    ]
    pair = load(f"miracl-{split}.partial@ar+sw", data_dir=mini)
    assert list(pair.view("mono/sw").corpus.items()) == list(view.corpus.items())
    assert pair.view("mono/sw").qrels == view.qrels
    with pytest.raises(BeirHybridError, match=r"miracl-v1\.0-th-.*no such file"):
        load(f"miracl-{split}/mono/th", data_dir=mini)


@needs_miracl_mini
def test_judged_passages_that_the_corpus_lacks(tmp_path: Path) -> None:
    folder = shutil.copytree(MIRACL_MINI / "miracl-v1.0-sw", tmp_path / "miracl" / "miracl-v1.0-sw").parent
    qrels = read_qrels(folder / "miracl-v1.0-sw" / "qrels" / "qrels.miracl-v1.0-sw-dev.tsv")
    gone = {qrel.passage for qrel in qrels[:50]}
    corpus = MIRACL_MINI / "miracl-corpus-v1.0-sw" / "docs-0.jsonl.gz"
    lines = gzip.decompress(corpus.read_bytes()).splitlines(keepends=True)
    kept = b"".join(line for line in lines if json.loads(line)["docid"] not in gone)
    (folder / "miracl-corpus-v1.0-sw").mkdir()
    (folder / "miracl-corpus-v1.0-sw" / "docs-0.jsonl.gz").write_bytes(gzip.compress(kept, 1))
    missing = sum(qrel.passage in gone for qrel in qrels)
    wanted = rf"sw-dev\.tsv, line 1: .*'9266#1' is not in the corpus .* {missing} of {len(qrels)} judgements"
    with pytest.raises(BeirHybridError, match=wanted):
        load("miracl-dev/mono/sw", data_dir=tmp_path)
    view = load("miracl-dev.partial/mono/sw", data_dir=tmp_path)
    assert view.name == "miracl-dev.partial/mono/sw"
    assert view.collection.info.missing == missing
    assert len(view.collection.judgements.passages) == len(qrels) - missing
    assert load("miracl-dev@sw", data_dir=tmp_path, allow_missing=True).name == "miracl-dev.partial@sw"


OPEN = """
import sys
from pathlib import Path
from beir_hybrid.collections.registry import load
view = load("miracl-dev.partial/mono/sw", data_dir=sys.argv[1])
assert view.corpus["9#0"]["text"].startswith("word")
assert (len(view.qrels), len(view.passage_rows)) == (2, int(sys.argv[2]))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    peaks = {}
    for count in (1_000, 300_000):
        folder = written(tmp_path / str(count) / "miracl", docs=[], qrels="22 Q0 7#0 1\n32 Q0 9#0 1\n")
        corpus = folder / "miracl-corpus-v1.0-sw"
        text = "word " * 120
        for part in range(2):
            with gzip.open(corpus / f"docs-{part}.jsonl.gz", "wb", compresslevel=1) as file:
                for number in range(part * count // 2, (part + 1) * count // 2):
                    file.write(b'{"docid": "%d#0", "title": "T", "text": "%s"}\n' % (number, text.encode()))
        command = [sys.executable, "-c", OPEN, str(folder.parent), str(count)]
        for what in ("built", "opened"):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[what, count] = int(done.stdout) / 1024
    assert peaks["opened", 300_000] - peaks["opened", 1_000] < 20  # MiB; the texts are 172
    assert peaks["built", 300_000] - peaks["built", 1_000] < 60


def test_mutated_files_give_a_collection_or_the_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_ = random.Random(0)
    folder = written(tmp_path / "data", docs=[])
    docs = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in DOCS)
    files = {
        folder / "miracl-v1.0-sw" / "topics" / "topics.miracl-v1.0-sw-dev.tsv": TOPICS.encode(),
        folder / "miracl-v1.0-sw" / "qrels" / "qrels.miracl-v1.0-sw-dev.tsv": QRELS.encode(),
        folder / "miracl-corpus-v1.0-sw" / "docs-0.jsonl": docs,
        folder / "miracl-corpus-v1.0-sw" / "docs-0.jsonl.gz": gzip.compress(docs, mtime=0),
    }
    outcomes = []
    for number in range(2_000):
        broken = list(files)[number % 4]
        unused = list(files)[2 if broken.suffix == ".gz" else 3]
        unused.unlink(missing_ok=True)
        for path in files.keys() - {unused}:
            path.write_bytes(mutated(random_, files[path]) if path == broken else files[path])
        monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache" / str(number)))
        try:
            collection = read(folder, allow_missing=number % 8 < 4)
            outcomes.append(len(collection.digest))
        except BeirHybridError as error:
            outcomes.append(len(str(error)) > 30)
    assert {*outcomes} == {64, True}


def mutated(random_: random.Random, content: bytes) -> bytes:
    """The content with some bytes changed, taken out, put in, or its end cut off."""
    changed = bytearray(content)
    for _ in range(random_.randint(1, 3)):
        place, kind = random_.randrange(len(changed) + 1), random_.randrange(5)
        some = random_.choice(
            [b"\t", b"\n", b"\0", b"\xff", b'"', b" ", b"9", b"\xe2\x80\xa8", b"\r", b"[" * 2000, b"{}"]
        )
        if kind == 0:
            changed[place : place + 1] = bytes([random_.randrange(256)])
        elif kind == 1:
            del changed[place : place + random_.randint(1, 9)]
        elif kind == 2:
            changed[place:place] = some
        elif kind == 3:
            changed[place : place + 1] = some
        else:
            del changed[place:]
    return bytes(changed)
