from __future__ import annotations

import dataclasses
import tracemalloc
from collections import deque

import numpy as np
import pytest

from beir_hybrid.collections.builder import CollectionBuilder, Judgement, judged_collection
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection, Setting
from beir_hybrid.collections.registry import load
from beir_hybrid.collections.texts import Texts
from beir_hybrid.errors import BeirHybridError
from tests.data import LAREQA, needs_lareqa


def test_settings_print_as_paths() -> None:
    assert str(Setting("xquad-r", "mono", "en")) == "xquad-r/mono/en"
    assert str(Setting("xquad-r", "cross", "en", "de")) == "xquad-r/cross/en-de"
    assert str(Setting("xquad-r", "multi", "en")) == "xquad-r/multi/en"


def test_an_unknown_setting_suggests_the_nearest(toy_collection: MultilingualCollection) -> None:
    with pytest.raises(BeirHybridError, match="Did you mean 'toy/cross/en-de'"):
        toy_collection.setting("cross/en-dee")
    with pytest.raises(BeirHybridError, match="unknown language"):
        toy_collection.language_number("xx")


def test_a_view_is_what_a_slow_reading_gives(toy_collection: MultilingualCollection) -> None:
    collection = toy_collection
    code = dict(enumerate(collection.languages))
    for setting in collection.settings:
        view = collection.view(setting)
        searched = {
            identifier
            for identifier, language in zip(collection.passages.ids, collection.passages.language, strict=True)
            if setting.kind == "multi" or code[language] == (setting.passage_language or setting.query_language)
        }
        assert set(view.corpus) == searched
        expected = {}
        for row, identifier in enumerate(collection.queries.ids):
            if code[collection.queries.language[row]] != setting.query_language:
                continue
            relevant = {collection.passages.ids[p]: 1 for p in collection.relevant[row]}
            if kept := {key: one for key, one in relevant.items() if key in searched}:
                expected[identifier] = kept
        assert dict(view.qrels) == expected
        assert list(view.queries) == list(view.qrels)
        for identifier, text in view.queries.items():
            assert text is collection.queries.texts[collection.queries.ids.index(identifier)]


def test_a_view_is_beir_shaped(toy_collection: MultilingualCollection) -> None:
    view = toy_collection.view("cross/en-de")
    document = view.corpus["de_p1"]
    assert document["title"] == ""
    assert document["metadata"] == {"language": "de"}
    assert "de_p1" in view.corpus
    assert "en_p1" not in view.corpus
    with pytest.raises(KeyError):
        view.corpus["en_p1"]


def test_groups_join_translations_and_what_a_language_splits() -> None:
    builder = CollectionBuilder("split", ("en", "zh"), CollectionInfo("", "", "the test"))
    whole = builder.add_passage("en_1", "Bees dance and ants march.", 0, "test")
    first = builder.add_passage("zh_1", "蜜蜂跳舞。", 1, "test")
    second = builder.add_passage("zh_2", "蚂蚁行军。", 1, "test")
    alone = builder.add_passage("zh_3", "完。", 1, "test")
    for item, answer in (("a", first), ("b", second)):
        builder.add_query(f"{item}_en", f"{item}?", 0, item, whole, "test")
        builder.add_query(f"{item}_zh", f"{item}？", 1, item, answer, "test")
    groups = builder.build().passage_group
    assert groups[whole] == groups[first] == groups[second]
    assert groups[alone] != groups[whole]


def test_the_digest_sees_every_part(toy_collection: MultilingualCollection) -> None:
    texts = toy_collection.queries
    changed = dataclasses.replace(texts, texts=("other", *texts.texts[1:]))
    other = dataclasses.replace(toy_collection, queries=changed)
    renamed = dataclasses.replace(toy_collection, name="renamed")
    assert other.digest != toy_collection.digest
    assert renamed.digest == toy_collection.digest


def test_an_id_is_used_once() -> None:
    builder = CollectionBuilder("twice", ("en",), CollectionInfo("", "", "the test"))
    builder.add_passage("x", "a", 0, "line 1")
    with pytest.raises(BeirHybridError, match=r"line 2: the id 'x' is used twice \(first at line 1\)"):
        builder.add_query("x", "b?", 0, "b", 0, "line 2")


@needs_lareqa
def test_132_views_copy_no_text() -> None:
    collection = load("xquad-r", data_dir=LAREQA)
    texts = sum(len(text) for part in (collection.queries, collection.passages) for text in part.texts)
    tracemalloc.start()
    views = [collection.view(setting) for setting in collection.settings]
    rows = sum(len(view.corpus) + len(view.qrels) for view in views)
    deque((document for document in views[0].corpus.values()), maxlen=0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows > 132 * 1000
    assert held < texts * 2  # row numbers, which all views together hold in less than the texts once
    assert np.shares_memory(collection.passages.language, views[0].collection.passages.language)


def judged(judgements: list[Judgement], allow_missing: bool = False) -> MultilingualCollection:
    zero = np.zeros(2, dtype=np.int16)
    queries, passages = Texts(("q0", "q1"), ("a?", "b?"), zero), Texts(("d0", "d1"), ("a", "b"), zero)
    info = CollectionInfo("", "", "made by the tests")
    return judged_collection(
        "tiny", ("en",), queries, passages, judgements, info, kinds=("mono",), allow_missing=allow_missing
    )


def test_judged_passages_that_the_corpus_lacks_are_counted_and_refused_unless_allowed() -> None:
    good, bad = Judgement(0, "d1", 2, "qrels, line 1"), Judgement(0, "d7", 1, "qrels, line 2")
    zero = Judgement(1, "d0", 0, "qrels, line 3")
    with pytest.raises(BeirHybridError, match=r"qrels, line 2: .*'d7'.* 1 of 3 judgements"):
        judged([good, bad, zero])
    collection = judged([good, bad, zero], allow_missing=True)
    assert collection.info.missing == 1
    assert dict(collection.view("mono/en").qrels) == {"q0": {"d1": 2}}  # q1 has nothing relevant, so it is left out
    assert collection.relevant[0].tolist() == [1]
    assert collection.judgements[1].tolist() == [0]
    with pytest.raises(BeirHybridError, match="none of the 1 judgements"):
        judged([bad], allow_missing=True)
    with pytest.raises(BeirHybridError, match=r"line 1: passage 'd1' is judged 2 .* and 1 before"):
        judged([Judgement(0, "d1", 1, "qrels, line 0"), good])


def test_grades_that_break_pytrec_eval_down_are_not_handed_out() -> None:
    judgements = [Judgement(0, "d0", 1, "qrels"), Judgement(0, "d1", -7, "qrels"), Judgement(1, "d0", -2, "qrels")]
    view = judged(judgements).view("mono/en")
    assert dict(view.qrels) == {"q0": {"d0": 1, "d1": -1}}
    with pytest.raises(BeirHybridError, match=r"is judged -3 .* and -2 before"):
        judged([*judgements, Judgement(1, "d0", -3, "qrels, line 4")])


def test_without_judgements_there_are_queries_and_no_qrels() -> None:
    collection = judged([])
    assert not collection.judged
    view = collection.view("mono/en")
    assert (list(view.queries), dict(view.qrels), list(view.corpus)) == (["q0", "q1"], {}, ["d0", "d1"])
