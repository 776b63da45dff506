from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beir_hybrid.collections.blend import blend_text, blended, canonical
from beir_hybrid.collections.builder import Judgement, judged_collection
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.registry import load, load_setting
from beir_hybrid.collections.texts import Texts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import grid_from_embeddings
from tests.data import LAREQA, needs_lareqa


def test_a_blend_takes_two_spans_of_each_language_in_their_places() -> None:
    german, english = "a1 a2 a3 a4 a5 a6 a7 a8", "b1 b2 b3 b4"
    for item in "uvwxyz":
        words = blend_text(("de", german), ("en", english), item).split()
        assert len(words) == 2 * 2 + 2 * 1
        for span in range(4):
            own = [german.split()[2 * span : 2 * span + 2], [english.split()[span]]]
            assert sum(all(word in words for word in part) for part in own) == 1
        # the order is that of the sentences
        place = {word: int(word[1]) / (8 if word[0] == "a" else 4) for word in words}
        assert sorted(words, key=lambda word: place[word]) == words


@given(st.text(), st.text(), st.text(max_size=8), st.integers(0, 5))
def test_a_blend_is_a_function_of_its_inputs_and_invents_nothing(a: str, b: str, item: str, seed: int) -> None:
    mixed = blend_text(("de", a), ("en", b), item, seed)
    assert mixed == blend_text(("de", a), ("en", b), item, seed)
    assert set(mixed.split()) <= set(a.split()) | set(b.split())


def test_languages_without_blanks_are_cut_between_characters() -> None:
    thai = "กำแพงเมืองจีนยาวเท่าไร"
    mixed = blend_text(("en", "how long is it"), ("th", thai), "item")
    parts = [part for part in mixed.split() if not part.isascii()]
    assert parts
    assert all(part in thai for part in parts)
    # a vowel or tone mark never stands alone at the front
    import unicodedata

    assert all(unicodedata.category(part[0]) != "Mn" for part in parts)


def test_the_seed_and_the_item_draw_other_spans() -> None:
    texts = ("de", "a1 a2 a3 a4"), ("en", "b1 b2 b3 b4")
    assert len({blend_text(*texts, item) for item in map(str, range(200))}) == 6
    assert len({blend_text(*texts, "item", seed) for seed in range(200)}) == 6


def test_a_blended_collection_asks_what_its_items_ask(toy_collection: MultilingualCollection) -> None:
    collection = blended(toy_collection, ["en+de", "hi+en~7"])
    assert collection.languages == ("en", "de", "hi", "de+en", "en+hi~7")
    names = [str(setting) for setting in collection.settings]
    assert names[: len(toy_collection.settings)] == [str(setting) for setting in toy_collection.settings]
    assert "toy/blend/de+en/multi" in names
    assert "toy/blend/en+hi~7/de" in names
    for setting in toy_collection.settings:
        before, after = toy_collection.view(setting), collection.view(setting)
        assert dict(before.queries) == dict(after.queries)
        assert dict(before.qrels) == dict(after.qrels)
        assert list(before.corpus) == list(after.corpus)
    view = collection.view("blend/de+en/de")
    english, german = toy_collection.view("mono/en"), toy_collection.view("mono/de")
    for identifier, qrels in view.qrels.items():
        item = identifier.removesuffix("_de+en")
        assert qrels == german.qrels[f"{item}_de"]
        two = {*english.queries[f"{item}_en"].split(), *german.queries[f"{item}_de"].split()}
        assert set(view.queries[identifier].split()) <= two
    assert len(view.queries) == len(german.queries)


def test_the_grid_reads_blends_out(toy_collection: MultilingualCollection) -> None:
    collection = blended(toy_collection, ["de+en"])
    random = np.random.default_rng(0)
    queries = random.normal(size=(len(collection.queries), 8))
    passages = random.normal(size=(len(collection.passages), 8))
    results = grid_from_embeddings(queries, passages, collection, measures=["AP"])
    found = {figure.setting: figure.value for figure in results.figures if figure.setting.startswith("toy/blend")}
    assert {"toy/blend/de+en/de", "toy/blend/de+en/multi", "toy/blend/mono", "toy/blend/multi"} <= set(found)
    alone = grid_from_embeddings(queries, passages, collection, measures=["AP"], settings=["blend/de+en/de"])
    assert [figure.value for figure in alone.figures if figure.setting == "toy/blend/de+en/de"] == [
        found["toy/blend/de+en/de"]
    ]


@pytest.mark.parametrize("pair", ["de", "de+de", "de+en+hi", "de+en~x", "", "+", "de+en~01"])
def test_what_is_no_pair_is_refused(pair: str, toy_collection: MultilingualCollection) -> None:
    with pytest.raises(BeirHybridError, match=r"not a blend|unknown language"):
        blended(toy_collection, [pair])


def test_one_blend_has_one_name() -> None:
    assert canonical("en+de~0") == canonical("de+en") == "de+en"
    one, other = load("sample-test/blend/en+de/multi"), load_setting("sample-test/blend/de+en/multi")
    assert one.name == other.name == "sample-test/blend/de+en/multi"
    assert dict(one.queries) == dict(other.queries)
    seeded = load_setting("sample-test/blend/de+en~1/multi")
    assert seeded.name == "sample-test/blend/de+en~1/multi"
    assert list(seeded.queries.values()) != list(one.queries.values())


@needs_lareqa
def test_every_question_of_xquad_r_is_blended() -> None:
    view = load("xquad-r/blend/en+zh/multi", data_dir=LAREQA)
    assert len(view.queries) == 1190
    assert all(len(judged) == 11 for judged in view.qrels.values())
    assert view.queries["56beb4343aeaaa14008c925b_en+zh"] == "黑豹队 points did 丢了多 defense surrender?"
    both = sum(any(c.isascii() and c.isalpha() for c in text) and not text.isascii() for text in view.queries.values())
    assert both == 1187  # in three, the Chinese spans are names and numbers in Latin letters


def test_what_answers_either_question_answers_the_blend() -> None:
    both = np.array([0, 1], dtype=np.int16)
    queries, passages = Texts(("q_en", "q_de"), ("a b", "c d"), both), Texts(("e", "d"), ("x", "y"), both)
    judged = [Judgement(0, "e", 1, ""), Judgement(1, "d", 1, ""), Judgement(1, "e", 0, "")]
    info = CollectionInfo("", "", "made by the tests")
    collection = judged_collection("two", ("en", "de"), queries, passages, judged, info, items=["q", "q"])
    view = blended(collection, ["de+en"]).view("blend/de+en/multi")
    assert dict(view.qrels) == {"q_de+en": {"e": 1, "d": 1}}
