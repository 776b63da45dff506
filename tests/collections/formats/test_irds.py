"""The collections in ir_datasets: their records, and that a name alone reads nothing."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_datasets
import ir_measures
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beir_hybrid.collections import registry
from beir_hybrid.collections.formats import irds
from beir_hybrid.collections.formats.irds import Passage, Question, register
from beir_hybrid.collections.readers.lareqa import read_lareqa
from beir_hybrid.collections.registry import available, load_collection, load_setting
from beir_hybrid.errors import BeirHybridError
from tests.data import LAREQA, needs_lareqa

LANGUAGES = available()["sample-test"].languages
SAMPLE = Path(registry.__file__).parent / "sample" / "test"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BEIR_HYBRID_DATA", "BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    register()


@pytest.fixture
def _lareqa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEIR_HYBRID_DATA", str(LAREQA))


def load(name: str) -> Any:
    return ir_datasets.load(f"beir-hybrid/{name}")


def corners(records: Any) -> list[Any]:
    found = list(records)
    return [found[0], found[9], found[-1]]


def counts(dataset: Any) -> tuple[int, int, int]:
    return dataset.docs_count(), dataset.queries_count(), dataset.qrels_count()


def test_the_whole_sample() -> None:
    dataset = load("sample-test")
    assert counts(dataset) == (539, 396, 396 * 11) == (len(dataset.docs), len(dataset.queries), len(dataset.qrels))
    assert [document[:2] for document in corners(dataset.docs_iter())] == [
        ("ar_1_0", ""),
        ("ar_3_0", ""),
        ("zh_12_4", ""),
    ]
    assert corners(dataset.queries_iter())[2] == Question(
        "s36q3_zh", "参观者可以在哪座博物馆看到刻着汉谟拉比法律的石柱？", "zh", "s36q3"
    )
    assert [tuple(judgement) for judgement in corners(dataset.qrels_iter())] == [
        ("s25q1_ar", "ar_1_1", 1, "0"),
        ("s25q1_ar", "vi_1_1", 1, "0"),
        ("s36q3_zh", "zh_12_3", 1, "0"),
    ]
    assert (dataset.docs_lang(), dataset.queries_lang()) == (None, None)


def test_records_of_a_setting() -> None:
    dataset = load("sample-test/cross/en-de")
    assert counts(dataset) == (49, 36, 36)
    assert (dataset.docs_lang(), dataset.queries_lang()) == ("de", "en")
    assert dataset.docs_namespace() == "beir-hybrid/sample-test"
    first, _, last = corners(dataset.docs_iter())
    assert first == Passage("de_1_0", "", first.default_text(), "de")
    assert first.text.startswith("Kraken sind")
    assert last.doc_id == "de_12_4"
    assert dataset.queries_iter()[0].default_text() == "How many hearts does an octopus possess?"
    assert Passage("1", "Octopus", "Eight arms.", "en").default_text() == "Octopus Eight arms."
    assert dataset.qrels_defs().keys() == {0, 1}


@needs_lareqa
@pytest.mark.usefixtures("_lareqa")
def test_xquad_r() -> None:
    assert counts(load("xquad-r")) == (13_014, 13_090, 13_090 * 11)
    dataset = load("xquad-r/cross/en-de")
    assert counts(dataset) == (1_276, 1_190, 1_190)
    documents, queries = corners(dataset.docs_iter()), corners(dataset.queries_iter())
    assert [document.doc_id for document in documents] == ["de_1_0", "de_2_2", "de_240_2"]
    assert documents[1].text.endswith("verfehlte er in den beiden Playoff-Spielen keine einzige.")
    assert [query[1:] for query in queries] == [
        ("How many points did the Panthers defense surrender?", "en", "56beb4343aeaaa14008c925b"),
        ("Which player had the most interceptions for the season?", "en", "56d6f3500d65d21400198294"),
        ("What includes pressure terms when calculating area in volume?", "en", "5737a25ac3c5551400e51f54"),
    ]
    assert [(found.query_id, found.doc_id) for found in corners(dataset.qrels_iter())] == [
        ("56beb4343aeaaa14008c925b_en", "de_1_0"),
        ("56d6f3500d65d21400198294_en", "de_1_6"),
        ("5737a25ac3c5551400e51f54_en", "de_240_1"),
    ]


@needs_lareqa
@pytest.mark.usefixtures("_lareqa")
def test_settings_share_a_loaded_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load_and_count(name: str) -> Any:
        loaded.append(name)
        return load_collection(name)

    monkeypatch.setattr(irds, "load_collection", load_and_count)
    irds._load.cache_clear()
    settings = ("multi/en", "mono/de", "cross/en-de", "blend/de+en/multi", "blend/de+en/de")
    datasets = [load(f"xquad-r/{setting}") for setting in settings]
    with ThreadPoolExecutor(len(datasets)) as pool:
        assert list(pool.map(lambda dataset: dataset.queries_count(), datasets)) == [1_190] * 5
    assert loaded == ["xquad-r"]
    monkeypatch.delenv("BEIR_HYBRID_DATA")
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", "1")
    with pytest.raises(BeirHybridError, match="offline"):
        load("xquad-r/multi/en").docs_iter()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_setting_is_that_of_its_view(language: str) -> None:
    collection = load_collection("sample-test")
    of_language = [setting for setting in collection.settings if setting.query_language == language]
    assert len(of_language) == 12
    for setting in of_language:
        view, dataset = collection.view(setting), load(str(setting))
        documents = {
            document.doc_id: {
                "title": document.title,
                "text": document.text,
                "metadata": {"language": document.language},
            }
            for document in dataset.docs_iter()
        }
        assert documents == dict(view.corpus)
        assert list(documents) == list(view.corpus)
        assert [(query.query_id, query.text) for query in dataset.queries_iter()] == list(view.queries.items())
        assert {query.language for query in dataset.queries_iter()} == {language} == {dataset.queries_lang()}
        assert dataset.qrels_dict() == dict(view.qrels)
        assert counts(dataset) == (len(view.corpus), len(view.queries), sum(map(len, view.qrels.values())))


@pytest.mark.parametrize(
    "name",
    [
        "sample-test.first3@de+en/cross/en-de",
        "sample-test@de+en/multi/de",
        "sample-test.context/mono/th",
        "sample-test/blend/de+en/multi",
        "sample-test/blend/zh+ar~7/hi",
        "sample-test@en/mono/en",
    ],
)
def test_parts_and_blends(name: str) -> None:
    view, dataset = load_setting(name), load(name)
    assert [document.text for document in dataset.docs_iter()] == [one["text"] for one in view.corpus.values()]
    assert {query.query_id: query.text for query in dataset.queries_iter()} == dict(view.queries)
    assert dataset.qrels_dict() == dict(view.qrels)
    asked = view.setting.query_language
    assert dataset.queries_lang() == (None if "+" in asked else asked)
    assert {query.language for query in dataset.queries_iter()} == {asked}


def test_the_item_is_shared_by_translations() -> None:
    by_item: dict[str, set[str]] = {}
    for question in load("sample-test").queries_iter():
        by_item.setdefault(question.item, set()).add(question.language)
    assert len(by_item) == 36
    assert all(languages == set(LANGUAGES) for languages in by_item.values())


bounds = st.none() | st.integers(-60, 60)


@given(st.lists(st.builds(slice, bounds, bounds, st.none() | st.integers(1, 7)), max_size=3), st.integers(-60, 60))
@example([slice(10, 20)], -1)
@example([slice(None, None, -1)], 0)
def test_documents_are_sliced_as_a_list_is(slices: list[slice], place: int) -> None:
    found = load("sample-test/mono/en").docs_iter()
    expected = list(load("sample-test/mono/en").docs_iter())
    for one in slices:
        found, expected = found[one], expected[one]
    if -len(expected) <= place < len(expected):
        assert found[place] == expected[place]
    else:
        with pytest.raises(IndexError):
            found[place]
    assert list(found) == expected


def test_slices_of_fractions_and_of_what_is_left() -> None:
    iterator = load("sample-test/mono/en").docs_iter()
    expected = list(load("sample-test/mono/en").docs_iter())
    assert [list(iterator[part]) for part in (slice(None, 1 / 3), slice(1 / 3, 2 / 3), slice(2 / 3, None))] == [
        expected[:16],
        expected[16:32],
        expected[32:],
    ]
    assert next(iterator) == expected[0]
    assert iterator[0] == expected[1]
    with pytest.raises(TypeError):
        iterator["en_1_0"]


def test_lookup() -> None:
    dataset = load("sample-test/mono/en")
    store, documents = dataset.docs_store(), list(dataset.docs_iter())
    assert store.get("en_1_0") == documents[0]
    assert store.get("en_1_0", field="language") == "en"
    assert list(store.get_many_iter([documents[5].doc_id, "nothing", "en_1_0"])) == [documents[5], documents[0]]
    assert store.get_many(["en_1_0", "nothing"]) == {"en_1_0": documents[0]}
    for identifier in ("nothing", "de_1_0", ""):
        with pytest.raises(KeyError):
            store.get(identifier)
    assert dataset.docs.lookup("en_1_0") == documents[0]
    assert dataset.docs[3:5][1] == documents[4]
    assert dataset.queries.lookup("s25q1_en") == dataset.queries_iter()[0] == dataset.queries_store().get("s25q1_en")
    with pytest.raises(KeyError):
        dataset.queries_store().get("s25q1_de")
    assert dataset.qrels.asdict()["s25q1_en"] == {"en_1_1": 1}


def test_the_same_passages_have_one_parent() -> None:
    for name in ("multi/en", "multi/zh", "blend/de+en/multi"):
        assert ir_datasets.docs_parent_id(f"beir-hybrid/sample-test/{name}") == "beir-hybrid/sample-test"
    assert ir_datasets.docs_parent_id("beir-hybrid/sample-test/mono/en") == "beir-hybrid/sample-test/mono/en"
    assert ir_datasets.queries_parent_id("beir-hybrid/sample-test/multi/en") == "beir-hybrid/sample-test/multi/en"
    same = ("mono/en", "cross/de-en", "cross/zh-en", "blend/de+hi/en")
    handlers = [load(f"sample-test/{name}").docs_handler() for name in same]
    handlers += [load(f"sample-test{name}").docs_handler() for name in ("@en", ".first2@de+en/cross/de-en")]
    assert len(set(handlers)) == 1
    others = ("sample-test", "sample-test@de+en", "sample-test.context/mono/en", "sample-train/mono/en")
    assert len({handlers[0], *(load(name).docs_handler() for name in others)}) == 5


def test_a_dataset_travels_to_another_process() -> None:
    dataset = pickle.loads(pickle.dumps(load("sample-test/blend/de+en/de")))
    assert list(dataset.queries_iter()) == list(load("sample-test/blend/de+en/de").queries_iter())
    assert copy.copy(dataset.docs_handler()) == dataset.docs_handler()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sample-tset/multi/en", "Did you mean 'sample-test'"),
        ("sample-test/mutli/en", "Did you mean 'sample-test/multi/en'"),
        ("sample-test/cross/en-en", "unknown setting"),
        ("sample-test@de/multi/de", "unknown setting"),
        ("sample-test@xx", "unknown language"),
        ("sample-test.second", "unknown part"),
        ("miracl-dev.context", "unknown text mode"),
        ("sample-test/", "unknown setting"),
        ("sample-test/blend/de+en", "unknown setting"),
        ("sample-test/blend/de+multi/de", "unknown language"),
        ("sample-test/blend/de+xx/de", "unknown language"),
        ("sample-test/blend/de/de", "not a blend"),
        ("miracl-dev/multi/en", "unknown setting"),
        ("miracl-dev/blend/de+en/multi", "unknown setting"),
        ("", "not a collection's name"),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(KeyError) as caught:
        load(name)
    assert isinstance(caught.value, BeirHybridError)
    assert hint in str(caught.value)
    assert not str(caught.value).startswith("'beir")


def test_registering_again_changes_nothing() -> None:
    patterns, handler = list(ir_datasets.registry._patterns), load("sample-test/multi/en").docs_handler()
    register()
    assert ir_datasets.registry._patterns == patterns
    assert load("sample-test/multi/en").docs_handler() is handler


def test_documentation_and_metadata() -> None:
    dataset = load("sample-test@de+en/multi/en")
    documentation = dataset.documentation()
    assert documentation["pretty_name"] == "The bundled sample"
    assert documentation["desc"].endswith("languages. This is beir-hybrid/sample-test@de+en/multi/en.</p>")
    assert (documentation["languages"], documentation["licence"]) == (["de", "en"], "Apache-2.0")
    assert dataset.dataset_id() == "beir-hybrid/sample-test@de+en/multi/en"
    assert dataset.docs_metadata() == {"count": 98, "fields": {"doc_id": {"max_len": 7, "common_prefix": ""}}}
    assert dataset.metadata()["qrels"] == {"count": 72, "fields": {"relevance": {"counts_by_value": {1: 72}}}}
    assert dataset.queries_metadata() == {"count": 36}


def test_languages_apart_and_without_judgements(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, ...]] = []

    def reader(request: Any) -> Any:
        read.append(request.languages)
        return read_lareqa(SAMPLE, request.name, request.languages, spec.info)

    spec = replace(available()["sample-test"], name="apart", read=reader, kinds=("mono",))
    kept_back = replace(spec, name="apart-kept", judged=False)
    for module in (registry, irds):
        monkeypatch.setattr(module, "available", lambda: {"apart": spec, "apart-kept": kept_back})
    whole = load("apart")
    assert not any(whole.has(kind) for kind in ("docs", "queries", "qrels"))
    assert whole.documentation()["licence"] == "Apache-2.0"
    dataset = load("apart/mono/hi")
    assert counts(dataset) == (49, 36, 36)
    assert dataset.docs_namespace() == "beir-hybrid/apart/hi"
    assert read == [("hi",)]
    assert load("apart@hi").docs_handler() == dataset.docs_handler()
    assert (load("apart@hi").docs_count(), load("apart@hi").queries_lang()) == (49, "hi")
    assert not load("apart-kept/mono/hi").has_qrels()
    assert load("apart-kept/mono/hi").queries_count() == 36


def test_miracl_has_judgements_but_for_the_test_sets() -> None:
    for split in ("dev", "train"):
        assert load(f"miracl-{split}/mono/sw").has_qrels()
    for split in ("test-a", "test-b"):
        assert not load(f"miracl-{split}/mono/sw").has_qrels()
        assert load(f"miracl-{split}/mono/sw").has_docs()


def test_ir_measures() -> None:
    dataset = load("sample-test/multi/en")
    run = [
        ir_measures.ScoredDoc(found.query_id, found.doc_id, float(found.relevance)) for found in dataset.qrels_iter()
    ]
    assert ir_measures.calc_aggregate([ir_measures.AP], dataset.qrels_iter(), run) == {ir_measures.AP: 1.0}
    half = run[:198]
    value = ir_measures.calc_aggregate([ir_measures.AP], dataset.qrels, half)[ir_measures.AP]
    assert value == pytest.approx(0.5)


class TestFromOutside:
    """What only another process shows: a bare machine, and the command line."""

    @pytest.fixture
    def bare(self, tmp_path: Path) -> dict[str, str]:
        names = {"HOME": "home", "IR_DATASETS_HOME": "irds", "IR_DATASETS_TMP": "tmp", "BEIR_HYBRID_CACHE": "cache"}
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(("BEIR_", "HF_", "XDG_"))},
            **{name: str(tmp_path / folder) for name, folder in names.items()},
            "PYTHONDONTWRITEBYTECODE": "1",
            "BEIR_HYBRID_OFFLINE": "1",
        }

    def run(self, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, encoding="utf-8", timeout=60
        )

    def command(self, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(environment, "-m", "beir_hybrid.ir_datasets", *arguments)

    def test_a_name_alone_reads_nothing(self, bare: dict[str, str], tmp_path: Path) -> None:
        code = f"""
import sys, pathlib
import beir_hybrid
assert not {{"ir_datasets", "torch", "numpy"}} & set(sys.modules)
assert not list(pathlib.Path({str(tmp_path)!r}).iterdir())
from beir_hybrid.collections.formats.irds import register
import ir_datasets
seen = []
def watch(event, arguments):
    if event.startswith(("open", "os.", "socket.", "urllib.")):
        seen.append(event + str(arguments))
sys.addaudithook(watch)
register()
dataset = ir_datasets.load("beir-hybrid/xquad-r/multi/en")
assert repr(dataset.docs.type) and dataset.docs.lang is None and dataset.queries.lang == "en"
assert dataset.has_qrels() and dataset.qrels.defs and dataset.documentation()
assert ir_datasets.docs_parent_id("beir-hybrid/xquad-r/multi/en") == "beir-hybrid/xquad-r"
assert "torch" not in sys.modules
ours = ({str(tmp_path)!r}, "/sample/", "socket.", "urllib.Request")
seen = [one for one in seen if any(part in one for part in ours)]
assert not seen, seen
ir_datasets.load("beir-hybrid/sample-test").docs_count()
assert any("/sample/" in one for one in seen)
assert not pathlib.Path({bare["BEIR_HYBRID_CACHE"]!r}).exists()
try:
    dataset.docs_count()
except beir_hybrid.BeirHybridError as error:
    print(error)
"""
        done = self.run(bare, "-c", code)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("offline, and ar.json")

    def test_another_copy_of_the_module_registers_nothing_new(self, bare: dict[str, str]) -> None:
        code = """
import importlib, ir_datasets
from beir_hybrid.collections.formats import irds
irds.register()
patterns, first = len(ir_datasets.registry._patterns), ir_datasets.load("beir-hybrid/sample-test")
importlib.reload(irds).register()
assert len(ir_datasets.registry._patterns) == patterns
second = ir_datasets.load("beir-hybrid/sample-test/multi/en")
assert first.docs_handler() == second.docs_handler() and second.docs_count() == 539
"""
        done = self.run(bare, "-c", code)
        assert (done.returncode, done.stderr) == (0, "")

    def test_export(self, bare: dict[str, str]) -> None:
        dataset = load("sample-test/multi/en")
        lines = {
            "queries": ["\t".join(query) for query in dataset.queries_iter()],
            "docs": ["\t".join(document) for document in dataset.docs_iter()],
            "qrels": [f"{one.query_id} 0 {one.doc_id} {one.relevance}" for one in dataset.qrels_iter()],
        }
        for data, expected in lines.items():
            done = self.command(bare, "export", "beir-hybrid/sample-test/multi/en", data)
            assert (done.returncode, done.stdout.splitlines()) == (0, expected)

    def test_lookup(self, bare: dict[str, str]) -> None:
        done = self.command(
            bare, "lookup", "beir-hybrid/sample-test/multi/en", "en_1_0", "nothing", "--format", "jsonl"
        )
        assert done.returncode == 0
        assert json.loads(done.stdout) == load("sample-test/mono/en").docs_iter()[0]._asdict()
        assert "doc_id nothing not found" in done.stderr
        done = self.command(bare, "lookup", "beir-hybrid/sample-test/multi/en", "--qid", "s25q1_en", "--fields", "text")
        assert done.stdout == "How many hearts does an octopus possess?\n"

    def test_list(self, bare: dict[str, str]) -> None:
        done = self.command(bare, "list")
        names = [name.removeprefix("beir-hybrid/") for name in done.stdout.splitlines() if name.startswith("beir-h")]
        assert done.returncode == 0
        assert names == sorted(one for base, spec in available().items() for one in (base, *map(str, spec.settings())))
        assert "xquad-r/cross/en-de" in names
        assert "miracl/sw/dev" in done.stdout.splitlines()
        assert not Path(bare["BEIR_HYBRID_CACHE"]).exists()

    def test_bad_input_is_one_line(self, bare: dict[str, str]) -> None:
        for name, message in (("sample-tset", "unknown collection 'sample-tset'"), ("xquad-r", "offline, and ar.json")):
            done = self.command(bare, "export", f"beir-hybrid/{name}", "qrels")
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"beir-hybrid: error: {message}")
            assert done.stderr.count("\n") == 1
