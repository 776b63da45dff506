"""The bundled sample: its shape, that spans and sentences are aligned, and that its parts are apart."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

import beir_hybrid
from beir_hybrid.collections.registry import available, load

FOLDER = Path(beir_hybrid.__file__).parent / "collections" / "sample"
LANGUAGES = available()["xquad-r"].languages
PARTS = {"train": 24, "test": 12}
SCRIPTS = {"ar": "ARABIC", "el": "GREEK", "hi": "DEVANAGARI", "ru": "CYRILLIC", "th": "THAI", "zh": "CJK"}


def paragraphs(part: str, language: str) -> list[dict[str, Any]]:
    content = json.loads((FOLDER / part / f"{language}.json").read_text(encoding="utf-8"))
    return [paragraph for article in content["data"] for paragraph in article["paragraphs"]]


def sentences(paragraph: dict[str, Any]) -> list[str]:
    return [paragraph["context"][start:end] for start, end in paragraph["sentence_breaks"]]


def every() -> list[tuple[str, str]]:
    return [(part, language) for part in PARTS for language in LANGUAGES]


def test_eleven_languages() -> None:
    assert {path.stem for path in FOLDER.rglob("*.json")} == set(LANGUAGES)
    assert len(LANGUAGES) == 11


@pytest.mark.parametrize(("part", "language"), every())
def test_shape(part: str, language: str) -> None:
    found = paragraphs(part, language)
    assert len(found) == PARTS[part]
    for paragraph in found:
        assert 3 <= len(paragraph["sentence_breaks"]) <= 5
        assert len(paragraph["qas"]) >= 2


@pytest.mark.parametrize(("part", "language"), every())
def test_spans(part: str, language: str) -> None:
    for paragraph in paragraphs(part, language):
        for question in paragraph["qas"]:
            (answer,) = question["answers"]
            start, text = answer["answer_start"], answer["text"]
            assert paragraph["context"][start : start + len(text)] == text
            (sentence,) = [s for s, (a, b) in enumerate(paragraph["sentence_breaks"]) if a <= start < b]
            assert start + len(text) <= paragraph["sentence_breaks"][sentence][1]
            assert sentences(paragraph)[sentence].count(text) == 1
        gaps = zip(paragraph["sentence_breaks"], paragraph["sentence_breaks"][1:], strict=False)
        assert all(not paragraph["context"][a[1] : b[0]].strip() for a, b in gaps)
        assert paragraph["sentence_breaks"][0][0] == 0
        assert paragraph["sentence_breaks"][-1][1] == len(paragraph["context"])


@pytest.mark.parametrize(("part", "language"), every())
def test_sentences_and_questions_are_parallel_to_the_english(part: str, language: str) -> None:
    for english, paragraph in zip(paragraphs(part, "en"), paragraphs(part, language), strict=True):
        assert len(paragraph["sentence_breaks"]) == len(english["sentence_breaks"])
        assert [question["id"] for question in paragraph["qas"]] == [question["id"] for question in english["qas"]]
        for ours, theirs in zip(paragraph["qas"], english["qas"], strict=True):
            places = []
            for where, question in ((paragraph, ours), (english, theirs)):
                start = question["answers"][0]["answer_start"]
                places.append(next(s for s, (a, b) in enumerate(where["sentence_breaks"]) if a <= start < b))
            assert places[0] == places[1]


@pytest.mark.parametrize(("part", "language"), every())
def test_texts_are_clean(part: str, language: str) -> None:
    texts = [text for p in paragraphs(part, language) for text in (*sentences(p), *(q["question"] for q in p["qas"]))]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert text == text.strip()
        assert unicodedata.is_normalized("NFC", text)
        assert not any(unicodedata.category(c) in {"Cc", "Cf", "Co", "Cn"} for c in text), text
        assert "  " not in text
        if script := SCRIPTS.get(language):
            letters = [c for c in text if c.isalpha()]
            own = sum(unicodedata.name(c).startswith(script) for c in letters)
            assert own / len(letters) > 0.6, text  # names and symbols may be Latin


def test_nothing_is_in_both_parts() -> None:
    train, test = load("sample-train"), load("sample-test")
    for ours, theirs in ((train.queries, test.queries), (train.passages, test.passages)):
        assert not set(ours.texts) & set(theirs.texts)
    assert not set(train.items) & set(test.items)


def test_no_text_is_in_two_languages() -> None:
    for name in ("sample-train", "sample-test"):
        collection = load(name)
        for texts in (collection.queries, collection.passages):
            assert len(set(texts.texts)) == len(texts.texts)
