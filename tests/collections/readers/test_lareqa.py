from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.readers.lareqa import read_lareqa
from beir_hybrid.collections.registry import load
from beir_hybrid.errors import BeirHybridError
from tests.data import LAREQA, needs_lareqa

INFO = CollectionInfo("CC0-1.0", "", "made by the tests")
COUNTS = {  # questions and candidates a language, as published
    "xquad-r": {
        "ar": (1190, 1222), "de": (1190, 1276), "el": (1190, 1234), "en": (1190, 1180), "es": (1190, 1215),
        "hi": (1190, 1244), "ru": (1190, 1219), "th": (1190, 852), "tr": (1190, 1167), "vi": (1190, 1209),
        "zh": (1190, 1196),
    },
    "mlqa-r": {
        "ar": (517, 2545), "de": (512, 2362), "en": (1148, 6264), "es": (500, 1787), "hi": (507, 2426),
        "vi": (511, 2828), "zh": (504, 2322),
    },
}  # fmt: skip
EN: dict[str, Any] = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Bees dance. Ants march!",
                    "sentence_breaks": [[0, 11], [12, 23]],
                    "qas": [
                        {"id": "a", "question": "Who dances?", "answers": [{"answer_start": 0, "text": "Bees"}]},
                        {"id": "b", "question": "Who marches?", "answers": [{"answer_start": 12, "text": "Ants"}]},
                    ],
                }
            ]
        }
    ]
}
ZH: dict[str, Any] = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "蜜蜂跳舞。蚂蚁行军！",
                    "sentence_breaks": [[0, 5], [5, 10]],
                    "qas": [{"id": "b", "question": "谁行军？", "answers": [{"answer_start": 5, "text": "蚂蚁"}]}],
                }
            ]
        }
    ]
}


def written(folder: Path, **files: Any) -> Path:
    for language, content in files.items():
        (folder / f"{language}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def read(folder: Path, *languages: str) -> MultilingualCollection:
    return read_lareqa(folder, "tiny", languages or ("en", "zh"), INFO)


def test_ids_texts_and_relevance(tmp_path: Path) -> None:
    collection = read(written(tmp_path, en=EN, zh=ZH))
    assert collection.passages.ids == ("en_1_0", "en_1_1", "zh_1_0", "zh_1_1")
    assert collection.passages.texts == ("Bees dance.", "Ants march!", "蜜蜂跳舞。", "蚂蚁行军！")
    assert collection.queries.ids == ("a_en", "b_en", "b_zh")
    assert [collection.relevant[row].tolist() for row in range(3)] == [[0], [1, 3], [1, 3]]
    assert collection.items == ("a", "b")
    assert collection.query_item.tolist() == [0, 1, 1]


def test_an_answer_at_a_boundary_belongs_to_the_sentence_that_starts_there(tmp_path: Path) -> None:
    # zh's second sentence starts at 5, where the first one ends: the interval is half-open.
    collection = read(written(tmp_path, en=EN, zh=ZH))
    assert collection.passages.ids[collection.relevant[2][1]] == "zh_1_1"


def _edit(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(EN)
    place: Any = content["data"][0]["paragraphs"][0]
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value is KeyError:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("sentence_breaks.1", [12, 24], "paragraph 1: the sentence break .12, 24. .* outside the context of 23"),
        ("sentence_breaks.1", [5, 23], "overlaps the one before"),
        ("sentence_breaks.0", [-1, 11], "sentence break .-1"),
        ("sentence_breaks.0", [3], r"sentence_breaks has \[3\]; expected \[start, end\]"),
        ("sentence_breaks", KeyError, "'sentence_breaks' is missing"),
        (
            "qas.0.answers.0.answer_start",
            11,
            "question 'a': its answer starts at character 11, which is in no sentence",
        ),
        ("qas.0.answers.0.answer_start", 99, "in no sentence"),
        ("qas.0.answers.0.answer_start", "0", "'answer_start' is str; expected int"),
        ("qas.0.answers", [], "it has no answer"),
        ("qas.1.id", "a", "the id 'a_en' is used twice"),
        ("context", None, "'context' is NoneType; expected str"),
    ],
)
def test_bad_input_is_one_error_with_its_place(tmp_path: Path, path: str, value: Any, said: str) -> None:
    with pytest.raises(BeirHybridError, match=said) as raised:
        read(written(tmp_path, en=_edit(path, value)), "en")
    assert str(tmp_path / "en.json") in str(raised.value)


def test_a_missing_and_a_truncated_file(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match=r"en\.json: no such file"):
        read(tmp_path)
    whole = json.dumps(EN)
    (tmp_path / "en.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(BeirHybridError, match=r"en\.json, line 1: not valid JSON .* cut short"):
        read(tmp_path, "en")


def test_a_collection_without_questions(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match="no question"):
        read(written(tmp_path, en={"data": []}), "en")


JUNK = st.none() | st.booleans() | st.integers(-3, 30) | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside `value`."""
    inside = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    return [path, *(deeper for key, one in inside for deeper in places(one, (*path, key)))]


def damaged(data: st.DataObject) -> bytes:
    """The file of EN with some values replaced, or some bytes flipped, dropped or cut off."""
    if data.draw(st.booleans()):
        content = {"file": copy.deepcopy(EN)}
        for _ in range(data.draw(st.integers(1, 3))):
            *way, last = data.draw(st.sampled_from(places(content["file"], ("file",))))
            holder: Any = content
            for key in way:
                holder = holder[key]
            holder[last] = data.draw(JUNK)
        return json.dumps(content["file"]).encode()
    found = bytearray(json.dumps(EN, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(found) - 1))
        match data.draw(st.sampled_from(["flip", "drop", "cut"])):
            case "flip":
                found[place] = data.draw(st.integers(0, 255))
            case "drop" if len(found) > 1:
                del found[place]
            case _:
                found = found[: max(1, place)]
    return bytes(found)


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_file_is_read_right_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = damaged(data)
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    (folder / "en.json").write_bytes(content)
    try:
        collection = read(folder, "en")
    except BeirHybridError as error:
        assert "en.json" in str(error) or "no question" in str(error)
        return
    sentences, asked = [], []
    for article in json.loads(content.decode("utf-8-sig"))["data"]:
        for paragraph in article["paragraphs"]:
            cut = [paragraph["context"][a:b] for a, b in paragraph["sentence_breaks"]]
            sentences += cut
            for question in paragraph["qas"]:
                start = question["answers"][0]["answer_start"]
                (answer,) = [s for s, (x, y) in zip(cut, paragraph["sentence_breaks"], strict=True) if x <= start < y]
                asked.append((f"{question['id']}_en", question["question"], answer))
    assert list(collection.passages.texts) == sentences
    found = [
        (
            collection.queries.ids[row],
            collection.queries.texts[row],
            collection.passages.texts[collection.relevant[row][0]],
        )
        for row in range(len(collection.queries))
    ]
    assert found == asked


@needs_lareqa
@pytest.mark.parametrize("name", COUNTS)
def test_the_published_counts(name: str) -> None:
    collection = load(name, data_dir=LAREQA)
    for number, language in enumerate(collection.languages):
        questions = int((collection.queries.language == number).sum())
        candidates = int((collection.passages.language == number).sum())
        assert (questions, candidates) == COUNTS[name][language], language
    assert not set(collection.queries.ids) & set(collection.passages.ids)


@needs_lareqa
def test_xquad_r_has_one_relevant_passage_a_language() -> None:
    collection = load("xquad-r", data_dir=LAREQA)
    assert len(collection.passages) == 13_014
    assert set(np.diff(collection.relevant.start)) == {11}
    found = collection.passages.language[collection.relevant.passages].reshape(-1, 11)
    assert (np.sort(found, axis=1) == np.arange(11)).all()
    kinds = [setting.kind for setting in collection.settings]
    assert (kinds.count("mono"), kinds.count("cross"), kinds.count("multi")) == (11, 110, 11)


@needs_lareqa
def test_mlqa_r_has_two_to_four_relevant_passages() -> None:
    collection = load("mlqa-r", data_dir=LAREQA)
    assert len(collection.passages) == 20_534
    assert set(np.diff(collection.relevant.start)) == {2, 3, 4}
    kinds = [setting.kind for setting in collection.settings]
    assert (kinds.count("mono"), kinds.count("cross"), kinds.count("multi")) == (7, 42, 7)


@needs_lareqa
@pytest.mark.parametrize("name", COUNTS)
def test_relevance_against_a_slow_reading_of_the_files(name: str) -> None:
    collection = load(name, data_dir=LAREQA)
    answers: dict[str, set[str]] = {}
    asked: list[tuple[str, str]] = []
    for language in collection.languages:
        number = 0
        for article in json.loads((LAREQA / name / f"{language}.json").read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                number += 1
                for question in paragraph["qas"]:
                    start = question["answers"][0]["answer_start"]
                    holding = [s for s, (a, b) in enumerate(paragraph["sentence_breaks"]) if a <= start < b]
                    assert len(holding) == 1
                    answers.setdefault(question["id"], set()).add(f"{language}_{number}_{holding[0]}")
                    asked.append((f"{question['id']}_{language}", question["id"]))
    assert [identifier for identifier, _ in asked] == list(collection.queries.ids)
    for row, (_, item) in enumerate(asked):
        assert {collection.passages.ids[passage] for passage in collection.relevant[row]} == answers[item]
