from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from beir.datasets.data_loader import GenericDataLoader
from beir.retrieval.evaluation import EvaluateRetrieval
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.blend import blended
from beir_hybrid.collections.builder import Judgement, judged_collection
from beir_hybrid.collections.collection import KINDS, CollectionInfo, MultilingualCollection, SettingView
from beir_hybrid.collections.formats import beir_blocks, beir_export
from beir_hybrid.collections.formats.beir_export import load_beir, prepare_beir
from beir_hybrid.collections.readers import beir_tables
from beir_hybrid.collections.readers.beir_folder import read_beir, read_hub_folder
from beir_hybrid.collections.registry import load_collection
from beir_hybrid.collections.texts import Texts
from beir_hybrid.errors import BeirHybridError
from tests.conftest import make_collection
from tests.data import LAREQA, MIRACL_MINI, needs_lareqa, needs_miracl_mini

Prepare = Callable[..., Path]
INFO = CollectionInfo("CC0-1.0", "", "made by the tests")
READERS = {"beir": read_beir, "hub": read_hub_folder}


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """`prepare_beir` for a collection that has no name to load it by."""

    def prepared(collection: MultilingualCollection, setting: str, folder: Path, **choices: Any) -> Path:
        monkeypatch.setattr(beir_export, "load_collection", lambda name, data_dir: collection)
        monkeypatch.setattr(beir_export, "load_setting", lambda name, data_dir: collection.view(name))
        name = collection.name if choices.get("every") else f"{collection.name}/{setting}"
        return prepare_beir(name, folder, **choices)

    return prepared


@pytest.fixture
def _hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")


def make_graded() -> MultilingualCollection:
    """Titles, grades, items that are not in each language, and ids that need care in a file of columns."""
    languages = ("en", "de", "zh")
    ids = ['"d1"', "d 2", "d'3", "4", " d5", 'd"6', "d\u20287", "d,8", "ü9"]
    code = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2], dtype=np.int16)
    texts = tuple(f"text {one}\nof a passage" for one in ids)
    passages = Texts(tuple(ids), texts, code, tuple("" if n % 2 else f"Title {n}" for n in range(9)))
    queries = Texts(('"q1"', "q2", "q 3"), ("who?", "wer?", "誰?"), np.array([0, 1, 2], dtype=np.int16))
    grades = [[2, 1, 0, 1, 0, 0, -1, 0, 3], [0, 1, 1, 0, 0, 0, 1, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0, 0]]
    judged = [Judgement(q, ids[p], grade, "") for q, row in enumerate(grades) for p, grade in enumerate(row)]
    return judged_collection("graded", languages, queries, passages, judged, INFO, items=["a", "a", "b"])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def three(view: SettingView) -> tuple[dict[str, Any], dict[str, str], dict[str, dict[str, int]]]:
    return dict(view.corpus), dict(view.queries), dict(view.qrels)


def plain(corpus: dict[str, Any]) -> dict[str, Any]:
    return {key: {"title": one["title"], "text": one["text"]} for key, one in corpus.items()}


@pytest.mark.parametrize("layout", ["beir", "hub"])
@pytest.mark.parametrize("make", [make_graded, make_collection])
def test_a_prepared_folder_reads_back_the_same(
    tmp_path: Path, prepare: Prepare, layout: str, make: Callable[[], MultilingualCollection]
) -> None:
    collection = make()
    for number, setting in enumerate(collection.settings):
        folder = prepare(collection, str(setting).split("/", 1)[1], tmp_path / str(number), layout=layout)
        found = READERS[layout](folder, collection.name, INFO)
        # A pool has every passage that its questions may be asked in, so the other settings of its language too.
        expected = [
            one
            for one in collection.settings
            if one == setting or (setting.kind == "multi" and one.query_language == setting.query_language)
        ]
        assert set(found.settings) == set(expected)
        for one in expected:
            assert three(found.view(one)) == three(collection.view(one))
        asked = collection.view(setting).query_rows
        items = [collection.items[item] for item in collection.query_item[asked].tolist()]
        assert [found.items[item] for item in found.query_item.tolist()] == items
        manifest = json.loads((folder / "beir_hybrid.json").read_text())
        assert manifest["languages"] == list(found.languages)
        assert manifest["counts"]["passages"] == len(found.passages)
        assert manifest["counts"]["judgements"] == len(found.judgements.passages)
        assert manifest["collection_digest"] == collection.digest


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ID = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), min_size=1, max_size=4)
LANGUAGE = st.sampled_from(["en", "de", "no", "zh-Hans"])


@st.composite
def collections(draw: st.DrawFn) -> MultilingualCollection:
    languages = ("en", "de", "no", "zh-Hans")

    def texts(ids: list[str], *, with_titles: bool | None = None) -> Texts:
        text = TEXT if with_titles is not None else TEXT.filter(str.strip)
        drawn, codes = ([draw(one) for _ in ids] for one in (text, LANGUAGE))
        titles = tuple(draw(TEXT) for _ in ids) if with_titles else None
        return Texts(tuple(ids), tuple(drawn), np.array([languages.index(c) for c in codes], dtype=np.int16), titles)

    passages = texts(draw(st.lists(ID, min_size=1, max_size=8, unique=True)), with_titles=draw(st.booleans()))
    queries = texts(draw(st.lists(ID, min_size=1, max_size=4, unique=True)))
    pairs = st.tuples(st.integers(0, len(queries) - 1), st.integers(0, len(passages) - 1))
    judged = draw(st.dictionaries(pairs, st.integers(-1, 3), min_size=1, max_size=12))
    lines = [Judgement(q, passages.ids[p], grade, "") for (q, p), grade in judged.items()]
    return judged_collection("any", languages, queries, passages, lines, INFO)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(collection=collections(), layout=st.sampled_from(["beir", "hub"]), data=st.data())
def test_any_collection_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    prepare: Prepare,
    collection: MultilingualCollection,
    layout: str,
    data: st.DataObject,
) -> None:
    one_language = len(set(collection.passages.language.tolist())) == 1
    # A pool of one language reads back as that language's own setting.
    known = [setting for setting in collection.settings if not (one_language and setting.kind == "multi")]
    if not known:
        return
    setting = data.draw(st.sampled_from(known))
    name = str(setting).split("/", 1)[1]
    folder = prepare(collection, name, tmp_path_factory.mktemp("any") / "folder", layout=layout)
    corpus, queries, qrels = three(collection.view(name))
    if set(corpus) & set(queries):  # else BEIR would drop a passage that has its question's id
        queries, qrels = ({f"q:{one}": value for one, value in found.items()} for found in (queries, qrels))
    assert three(READERS[layout](folder, "any", INFO).view(name)) == (corpus, queries, qrels)


@pytest.mark.parametrize("layout", ["beir", "hub"])
def test_blends_read_back(
    tmp_path: Path, prepare: Prepare, toy_collection: MultilingualCollection, layout: str
) -> None:
    collection = blended(toy_collection, ["de+en", "en+hi~7"])
    for number, name in enumerate(("blend/de+en/de", "blend/de+en/multi", "blend/en+hi~7/hi", "blend/en+hi~7/multi")):
        folder = prepare(collection, name, tmp_path / str(number), layout=layout)
        assert three(READERS[layout](folder, "toy", INFO).view(name)) == three(collection.view(name))


@pytest.mark.parametrize("make", [make_graded, make_collection])
def test_beirs_own_loader(tmp_path: Path, prepare: Prepare, make: Callable[[], MultilingualCollection]) -> None:
    from beir.datasets.data_loader import GenericDataLoader

    collection = make()
    for number, setting in enumerate(collection.settings):
        name = str(setting).split("/", 1)[1]
        folder = prepare(collection, name, tmp_path / str(number), split="dev")
        corpus, queries, qrels = GenericDataLoader(str(folder)).load(split="dev")
        assert (corpus, queries, qrels) == load_beir(str(setting))
        assert (plain(dict(collection.view(name).corpus)), queries, qrels) == load_beir(str(setting))
        assert all(type(one) is dict for one in (corpus, queries, qrels, *load_beir(str(setting))[2].values()))


@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")  # of BEIR's loader
@pytest.mark.usefixtures("_hub_cache")
@pytest.mark.parametrize("make", [make_graded, make_collection])
def test_beirs_hub_loader(tmp_path: Path, prepare: Prepare, make: Callable[[], MultilingualCollection]) -> None:
    from beir.datasets.data_loader_hf import HFDataLoader
    from datasets import load_dataset

    collection = make()
    for name in ("mono/en", "multi/de"):
        folder = str(prepare(collection, name, tmp_path / name, layout="hub"))
        corpus, queries, qrels = HFDataLoader(hf_repo=folder, hf_repo_qrels=folder).load(split="test")
        found = (
            {one["id"]: {"title": one["title"], "text": one["text"]} for one in corpus},
            {one["id"]: one["text"] for one in queries},
            dict(qrels),
        )
        assert found == load_beir(f"{collection.name}/{name}")
        assert load_dataset(folder, "corpus", split="corpus").column_names == ["_id", "title", "text", "language"]
        assert load_dataset(folder, "queries", split="queries").column_names == ["_id", "text", "language", "item"]


@pytest.mark.usefixtures("_hub_cache")
def test_all_settings_in_one_hub_dataset(
    tmp_path: Path, prepare: Prepare, toy_collection: MultilingualCollection
) -> None:
    from datasets import get_dataset_config_names, load_dataset

    folder = prepare(toy_collection, "", tmp_path / "all", layout="hub", every=True)
    assert len(get_dataset_config_names(str(folder))) == 3 * len(toy_collection.settings)
    assert len(list((folder / "corpus").iterdir())) == 4  # three languages, and the pool
    for setting in toy_collection.settings:
        config = str(setting).split("/", 1)[1].replace("/", "-")
        found = read_hub_folder(folder, "toy", INFO, config=config)
        assert three(found.view(setting)) == three(toy_collection.view(setting))
    assert len(load_dataset(str(folder), "cross-en-de-qrels", split="test")) == len(
        toy_collection.view("cross/en-de").query_rows
    )


def test_all_settings_share_their_corpora(
    tmp_path: Path, prepare: Prepare, toy_collection: MultilingualCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(blended(toy_collection, ["de+en"]), "", tmp_path / "all", every=True)
    plain_settings = toy_collection.settings
    assert len(list(folder.glob("*/*/corpus.jsonl"))) == len(plain_settings)
    for setting in plain_settings:
        inside = folder / str(setting).split("/", 1)[1]
        assert (inside / "corpus.jsonl").stat().st_nlink == 3  # three languages that ask
        assert three(read_beir(inside, "toy", INFO).view(setting)) == three(toy_collection.view(setting))
    pool = [(folder / "multi" / code / "corpus.jsonl").stat().st_ino for code in ("en", "de", "hi")]
    assert len(set(pool)) == 1
    manifest = json.loads((folder / "beir_hybrid.json").read_text())
    assert manifest["settings"] == [str(setting) for setting in plain_settings]

    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    copied = prepare(toy_collection, "", tmp_path / "copied", every=True)
    assert (copied / "multi" / "en" / "corpus.jsonl").stat().st_nlink == 1
    wanted = {name: body for name, body in tree(folder).items() if name.endswith("l")}
    assert {name: body for name, body in tree(copied).items() if name.endswith("l")} == wanted


@pytest.mark.parametrize("layout", ["beir", "hub"])
@pytest.mark.parametrize("every", [False, True])
def test_the_same_bytes_again(tmp_path: Path, prepare: Prepare, layout: str, every: bool) -> None:
    for name in ("a", "b", "a"):
        prepare(make_graded(), "multi/en", tmp_path / name, layout=layout, every=every, replace=True)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("layout", ["beir", "hub"])
def test_blocks_change_nothing(
    tmp_path: Path,
    prepare: Prepare,
    toy_collection: MultilingualCollection,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
) -> None:
    for module in (beir_blocks, beir_export):
        monkeypatch.setattr(module, "BLOCK", 7)
    folder = prepare(toy_collection, "multi/de", tmp_path / "folder", layout=layout)
    found = READERS[layout](folder, "toy", INFO)
    assert three(found.view("multi/de")) == three(toy_collection.view("multi/de"))


def test_bytes_of_the_files(tmp_path: Path, prepare: Prepare) -> None:
    files = tree(prepare(make_graded(), "cross/de-en", tmp_path / "folder"))
    assert files["corpus.jsonl"].decode().split("\n")[0] == (
        r'{"_id":"\"d1\"","title":"Title 0","text":"text \"d1\"\nof a passage","metadata":{"language":"en"}}'
    )
    assert files["queries.jsonl"].decode() == ('{"_id":"q2","text":"wer?","metadata":{"language":"de","item":"a"}}\n')
    assert files["qrels/test.tsv"].decode() == (
        'query-id\tcorpus-id\tscore\nq2\t"""d1"""\t0\nq2\t4\t0\nq2\td\u20287\t1\n'
    )
    assert list(json.loads(files["beir_hybrid.json"])) == [
        "setting",
        "collection",
        "licence",
        "citation",
        "origin",
        "text_mode",
        "collection_digest",
        "missing",
        "beir_hybrid",
        "split",
        "languages",
        "query_prefix",
        "counts",
    ]


@pytest.mark.parametrize("layout", ["beir", "hub"])
@pytest.mark.parametrize("every", [False, True])
def test_nothing_is_left_of_a_failure(
    tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch, layout: str, every: bool
) -> None:
    choices = {"layout": layout, "every": every, "replace": True}
    folder = prepare(make_graded(), "multi/en", tmp_path / "folder", **choices)
    before = tree(folder)
    for name in ("passage_blocks", "query_blocks", "judgement_blocks"):
        with monkeypatch.context() as patched:
            original = getattr(beir_export, name)

            def broken(view: SettingView, original: Any = original) -> Any:
                yield from original(view)
                raise RuntimeError("midway")

            patched.setattr(beir_export, name, broken)
            for target in (folder, tmp_path / "new"):
                with pytest.raises(RuntimeError, match="midway"):
                    prepare(make_graded(), "multi/en", target, **choices)
    assert tree(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("layout", ["beir", "hub"])
def test_a_full_disk(tmp_path: Path, prepare: Prepare, layout: str) -> None:
    collection = make_collection(items=600, shared=700)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        with pytest.raises(BeirHybridError, match=r"folder: cannot be written \(.*too large.*Nothing was left"):
            prepare(collection, "multi/en", tmp_path / "folder", layout=layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def with_ids(query: str = "q", passage: str = "d", text: str = "text") -> MultilingualCollection:
    one = np.zeros(1, dtype=np.int16)
    queries, passages = Texts((query,), ("who?",), one), Texts((passage,), (text,), one)
    return judged_collection("odd", ("en",), queries, passages, [Judgement(0, passage, 1, "")], INFO)


@pytest.mark.parametrize("bad", ["a\tb", "a\nb", "a\rb", ""])
def test_ids_that_columns_cannot_hold(tmp_path: Path, prepare: Prepare, bad: str) -> None:
    for collection in (with_ids(query=bad), with_ids(passage=bad)):
        with pytest.raises(BeirHybridError, match="cannot stand in qrels"):
            prepare(collection, "mono/en", tmp_path / "folder")
    assert not list(tmp_path.iterdir())
    if bad:
        folder = prepare(with_ids(query=bad, passage=bad), "mono/en", tmp_path / "folder", layout="hub")
        assert dict(read_hub_folder(folder, "odd", INFO).view("mono/en").qrels) == {f"q:{bad}": {bad: 1}}


@pytest.mark.parametrize("layout", ["beir", "hub"])
def test_texts_that_utf8_cannot_hold(tmp_path: Path, prepare: Prepare, layout: str) -> None:
    with pytest.raises(BeirHybridError, match=r"corpus.*: 'd' has half of a surrogate pair"):
        prepare(with_ids(text="a\ud800b"), "mono/en", tmp_path / "folder", layout=layout)
    assert not list(tmp_path.iterdir())


def test_one_id_in_two_languages_has_no_pool(tmp_path: Path, prepare: Prepare) -> None:
    both = np.array([0, 1], dtype=np.int16)
    passages, queries = Texts(("0", "0"), ("a", "b"), both), Texts(("q", "r"), ("a", "b"), both)
    judged = [Judgement(0, "0", 1, ""), Judgement(1, "0", 1, "")]
    own = judged_collection("own", ("en", "de"), queries, passages, judged, INFO, kinds=("mono",))
    folder = prepare(own, "", tmp_path / "all", every=True)
    assert dict(read_beir(folder / "mono/de", "own", INFO).view("mono/de").queries) == {"r": "b"}
    with pytest.raises(BeirHybridError, match="a passage id stands in two languages"):
        judged_collection("own", ("en", "de"), queries, passages, judged, INFO)
    with pytest.raises(BeirHybridError, match="passages of two languages have the same id"):
        prepare(replace(own, kinds=KINDS), "multi/en", tmp_path / "pool")


def test_what_cannot_be_prepared(tmp_path: Path, prepare: Prepare, toy_collection: MultilingualCollection) -> None:
    with pytest.raises(
        BeirHybridError, match=r"'sample-test' is a collection.*sample-test/mono/ar, sample-test/mono/de"
    ):
        load_beir("sample-test")
    with pytest.raises(BeirHybridError, match="is a collection"):
        prepare_beir("sample-test@de+en", tmp_path / "x")
    with pytest.raises(BeirHybridError, match=r"unknown collection 'sample-tset'\. Did you mean 'sample-test'"):
        prepare_beir("sample-tset", tmp_path / "x")
    with pytest.raises(BeirHybridError, match=r"unknown setting 'sample-test/mono/xx'"):
        prepare_beir("sample-test/mono/xx", tmp_path / "x")
    with pytest.raises(BeirHybridError, match="a setting, not a collection"):
        prepare_beir("sample-test/mono/en", tmp_path / "x", every=True)
    with pytest.raises(BeirHybridError, match="unknown layout 'parquet'"):
        prepare_beir("sample-test/mono/en", tmp_path / "x", layout="parquet")  # type: ignore[arg-type]
    with pytest.raises(BeirHybridError, match=r"the split '\.\./test' names files"):
        prepare_beir("sample-test/mono/en", tmp_path / "x", split="../test")
    assert not list(tmp_path.iterdir())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(BeirHybridError, match="exists and is not a BEIR folder"):
        prepare_beir("sample-test/mono/en", tmp_path / "other", replace=True)
    prepare(toy_collection, "mono/en", tmp_path / "x")
    with pytest.raises(BeirHybridError, match="exists already"):
        prepare(toy_collection, "mono/en", tmp_path / "x")


def test_kept_back_judgements(tmp_path: Path, prepare: Prepare) -> None:
    one = np.zeros(1, dtype=np.int16)
    kept_back = judged_collection("kept", ("en",), Texts(("q",), ("a",), one), Texts(("d",), ("b",), one), [], INFO)
    with pytest.raises(BeirHybridError, match="judgements are kept back"):
        prepare(kept_back, "mono/en", tmp_path / "folder")


def test_by_name(tmp_path: Path) -> None:
    from beir.datasets.data_loader import GenericDataLoader

    folder = prepare_beir("sample-test.first3@de+en/cross/en-de", tmp_path / "folder")
    assert GenericDataLoader(str(folder)).load() == load_beir("sample-test.first3@de+en/cross/en-de")
    assert json.loads((folder / "beir_hybrid.json").read_text())["collection"] == "sample-test.first3@de+en"


def test_beirs_evaluation_runs_on_it(
    tmp_path: Path, prepare: Prepare, toy_collection: MultilingualCollection, tiny_model: Path
) -> None:
    import pytrec_eval
    from beir.datasets.data_loader import GenericDataLoader
    from beir.retrieval.evaluation import EvaluateRetrieval
    from beir.retrieval.search.dense import DenseRetrievalExactSearch

    from beir_hybrid.encoders.dense import DenseEncoder

    folder = prepare(toy_collection, "multi/de", tmp_path / "folder")
    corpus, queries, qrels = GenericDataLoader(str(folder)).load(split="test")
    encoder = DenseEncoder(str(tiny_model), progress=False)
    retriever = EvaluateRetrieval(DenseRetrievalExactSearch(encoder, batch_size=32), score_function="cos_sim")
    results = retriever.retrieve(corpus, queries)
    ndcg, *_ = retriever.evaluate(qrels, results, [10])
    assert 0 < ndcg["NDCG@10"] <= 1
    measured = pytrec_eval.RelevanceEvaluator(load_beir("toy/multi/de")[2], {"recip_rank"}).evaluate(results)
    assert set(measured) == set(queries)


@needs_lareqa
@pytest.mark.parametrize(
    ("setting", "passages", "relevant"), [("cross/en-de", 1276, 1), ("multi/en", 13_014, 11), ("mono/th", 852, 1)]
)
def test_xquad_r(tmp_path: Path, setting: str, passages: int, relevant: int) -> None:
    from beir.datasets.data_loader import GenericDataLoader

    folder = prepare_beir(f"xquad-r/{setting}", tmp_path / "folder", data_dir=LAREQA)
    corpus, queries, qrels = GenericDataLoader(str(folder)).load(split="test")
    assert (corpus, queries, qrels) == load_beir(f"xquad-r/{setting}", data_dir=LAREQA)
    assert (len(corpus), len(queries)) == (passages, 1190)
    assert {len(judged) for judged in qrels.values()} == {relevant}
    found = read_beir(folder, "xquad-r", INFO)
    assert len(found.settings) == (12 if setting == "multi/en" else 1)
    assert dict(found.view(setting).qrels) == qrels


@needs_lareqa
def test_all_of_xquad_r_takes_little_disk(tmp_path: Path) -> None:
    folder = prepare_beir("xquad-r", tmp_path / "all", data_dir=LAREQA, every=True)
    files = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("corpus.jsonl")}
    assert len(list(folder.glob("*/*/corpus.jsonl"))) == 132
    assert len(files) == 12
    assert sum(files.values()) < 16 * 2**20


@pytest.mark.parametrize("layout", ["beir", "hub"])
def test_the_same_data_have_the_same_digest_however_they_were_read(
    tmp_path: Path, layout: Literal["beir", "hub"], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare_beir("sample-test@en/mono/en", tmp_path / "x", layout=layout)
    digest = load_collection("sample-test@en").digest
    assert load_collection(folder).digest == digest
    monkeypatch.setattr(beir_tables, "IN_MEMORY", 0)
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    assert load_collection(folder).digest == digest


def test_question_ids_that_are_passage_ids_by_chance_are_told_apart_for_beir(tmp_path: Path, prepare: Prepare) -> None:
    collection = with_ids(query="d")  # its passage is called d as well
    folder = prepare(collection, "mono/en", tmp_path / "x")
    corpus, queries, qrels = GenericDataLoader(str(folder)).load("test")
    assert (list(corpus), list(queries), qrels) == (["d"], ["q:d"], {"q:d": {"d": 1}})
    assert json.loads((folder / "beir_hybrid.json").read_text())["query_prefix"] == "q:"
    # where the two are one text, as in ArguAna, BEIR's dropping is meant
    kept = prepare(replace(collection, same_ids=True), "mono/en", tmp_path / "y")
    assert list(GenericDataLoader(str(kept)).load("test")[1]) == ["d"]


@needs_miracl_mini
def test_beir_finds_in_miracl_what_the_grid_finds(tmp_path: Path) -> None:
    collection = load_collection(MIRACL_MINI, languages=["yo"])
    corpus, queries, qrels = load_beir(MIRACL_MINI, setting="mono/yo")
    shared = set(collection.view("mono/yo").queries) & set(corpus)
    assert len(shared) == 4
    assert not set(queries) & set(corpus)
    perfect = {query: {one: float(grade) for one, grade in judged.items() if grade} for query, judged in qrels.items()}
    ndcg, *_ = EvaluateRetrieval.evaluate(qrels, perfect, [10])
    assert ndcg["NDCG@10"] == 1


def test_a_setting_of_a_folder_is_prepared(tmp_path: Path) -> None:
    pool = prepare_beir("sample-test@de+en/multi/en", tmp_path / "pool")
    with pytest.raises(BeirHybridError, match=r"has 3 settings, such as mono/en, cross/en-de, multi/en: say which"):
        prepare_beir(pool, tmp_path / "one")
    one = prepare_beir(pool, tmp_path / "one", setting="cross/en-de")
    assert load_beir(one) == load_beir("sample-test@de+en/cross/en-de")
    assert load_beir(pool, setting="multi/en") == load_beir("sample-test@de+en", setting="multi/en")


def test_a_target_that_appears_meanwhile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x"
    write = beir_export._write_beir

    def late(*arguments: Any) -> None:
        write(*arguments)
        target.mkdir()

    monkeypatch.setattr(beir_export, "_write_beir", late)
    with pytest.raises(BeirHybridError, match="made by another process meanwhile"):
        prepare_beir("sample-test/mono/en", target)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert not list(target.iterdir())
