from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from beir_hybrid.collections.registry import ENTRY_POINTS, _of_other_packages, available, load, load_setting
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import sha256_file
from tests.data import LAREQA, needs_lareqa


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE", "BEIR_HYBRID_DATA"):
        monkeypatch.delenv(name, raising=False)


def test_offline_says_which_file_and_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BeirHybridError, match=r"offline, and ar\.json .* put it at .*xquad-r/ar\.json"):
        load("xquad-r")


def test_unknown_names() -> None:
    with pytest.raises(BeirHybridError, match="Did you mean 'xquad-r'"):
        load("xquad")
    with pytest.raises(BeirHybridError, match="unknown language in sample-test: 'xx'"):
        load("sample-test", languages=["en", "xx"])
    with pytest.raises(BeirHybridError, match="no language"):
        load("sample-test", languages=[])


def test_a_data_folder_without_the_collection(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match=r"xquad-r: no such folder"):
        load("xquad-r", data_dir=tmp_path)


def test_fewer_languages_have_another_name() -> None:
    collection = load("sample-test", languages=["es", "de"])
    assert collection.name == "sample-test@de+es"
    assert str(collection.settings[0]) == "sample-test@de+es/mono/de"


@pytest.mark.parametrize("name", [name for name, spec in available().items() if spec.bundled])
def test_bundled_counts(name: str) -> None:
    spec, collection = available()[name], load(name)
    assert (len(collection.queries), len(collection.passages)) == (spec.questions, spec.passages)


@needs_lareqa
@pytest.mark.parametrize("name", ["xquad-r", "mlqa-r"])
def test_the_table_of_files_is_that_of_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = available()[name]
    for language, file in spec.files.items():
        path = LAREQA / name / f"{language}.json"
        assert (path.stat().st_size, sha256_file(path)) == (file.size, file.sha256)
        assert file.url.startswith("https://")
    monkeypatch.setenv("BEIR_HYBRID_DATA", str(LAREQA))
    collection = load(name)
    assert (len(collection.queries), len(collection.passages)) == (spec.questions, spec.passages)


def test_all_that_is_asked_for_is_in_the_name_and_the_name_loads_it() -> None:
    asked = load("sample-test", languages=["es", "de"], text_mode="context", first=2)
    assert asked.name == "sample-test.context.first2@de+es"
    named = load(asked.name)
    assert (named.name, named.digest) == (asked.name, asked.digest)
    assert asked.info.text_mode == "context"
    plain = load("sample-test@de+es")
    assert len(asked.passages) == len(plain.passages)
    for code in ("de", "es"):
        assert list(asked.view(f"mono/{code}").queries.items()) == list(plain.view(f"mono/{code}").queries.items())[:2]
        for identifier, document in plain.view(f"mono/{code}").corpus.items():
            sentence, _, paragraph = asked.view(f"mono/{code}").corpus[identifier]["text"].partition("\n")
            assert sentence == document["text"]
            assert sentence in paragraph


def test_every_language_by_name_is_the_whole() -> None:
    whole = load("sample-test")
    assert load("sample-test", languages=whole.languages[::-1]).name == "sample-test"
    assert load("sample-test", first=10_000).name == "sample-test.first10000"


def test_a_setting_loads_as_the_view_that_the_collection_has() -> None:
    view, whole = load("sample-test/cross/en-de"), load("sample-test")
    assert view.name == "sample-test/cross/en-de"
    assert dict(view.corpus) == dict(whole.view("cross/en-de").corpus)
    assert dict(view.qrels) == dict(whole.view("cross/en-de").qrels)
    part = load_setting("sample-test.first1@de+en/multi/en")
    assert (len(part.queries), len(part.passage_rows)) == (1, len(load("sample-test@de+en").passages))


@pytest.mark.parametrize(
    ("name", "choices", "says"),
    [
        ("sample-test@de+en", {"languages": ["de", "fr"]}, "say it once"),
        ("sample-test.first5", {"first": 6}, "say it once"),
        ("sample-test", {"first": 0}, "whole number from 1"),
        ("sample-test", {"text_mode": "page"}, "unknown text mode of sample-test: 'page'"),
        ("sample-test", {"split": "dev"}, "its name says which split"),
        ("sample-test/mono/xx", {}, "unknown setting 'sample-test/mono/xx'"),
        ("sample-test@de+en/mono/es", {}, "unknown setting"),
        ("sample-test/blend/de+xx/multi", {}, "unknown language in sample-test: 'xx'"),
        ("sample-test/blend/de+en/nowhere", {}, "unknown setting"),
        ("sample-test/mono/en", {"languages": ["de"]}, "a setting, whose name says all of it; leave out languages"),
        ("sample-test", {"first": "5"}, "whole number from 1"),
        ("sample-test", {"first": 10**12}, "whole number from 1"),
        ("sample-test", {"allow_missing": True}, "no judgements of passages that could be missing"),
        ("~nobody-of-that-name/x", {}, "write the path in full"),
        ("./here", {"data_dir": "."}, "a path already"),
        ("sample-test/", {}, "unknown setting .* and 102 more"),
    ],
)
def test_wrong_calls_have_one_clear_error(name: str, choices: dict[str, Any], says: str) -> None:
    with pytest.raises(BeirHybridError, match=says):
        load(name, **choices)


def test_another_package_adds_its_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other_package.py").write_text(
        "from dataclasses import replace\n"
        "from beir_hybrid.collections.readers.lareqa import SPECS\n"
        "MINE = replace(SPECS[-1], name='mine', title='my own')\n"
        "TWO = [replace(MINE, name='yours'), replace(MINE, name='xquad-r')]\n"
    )
    entries = tmp_path / "other_package-1.0.dist-info"
    entries.mkdir()
    (entries / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (entries / "entry_points.txt").write_text(
        f"[{ENTRY_POINTS}]\none = other_package:MINE\ntwo = other_package:TWO\nbroken = other_package:NOTHING\n"
        "wrong = other_package:__name__\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    _of_other_packages.cache_clear()
    try:
        with pytest.warns(UserWarning, match="is left out") as warned:
            specs = available()
        said = " ".join(str(one.message) for one in warned)
        assert "broken (other_package:NOTHING) is left out" in said
        assert "wrong (other_package:__name__) is left out" in said
        assert "'xquad-r' is taken" in said
        assert specs["mine"].title == "my own"
        assert specs["xquad-r"].files
        assert load("mine@de+en").name == "mine@de+en"
        assert load("yours/mono/de").name == "yours/mono/de"
    finally:
        _of_other_packages.cache_clear()


def test_a_data_folder_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEIR_HYBRID_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(BeirHybridError, match=r"BEIR_HYBRID_DATA is .*nowhere', which is no folder"):
        load("xquad-r")


def test_a_folder_without_its_dot_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BeirHybridError, match=r"Write '\./mine'"):
        load("mine")


@pytest.mark.parametrize("name", ["my.news", "a/b", "", "up per", "news@en", "news.first5"])
def test_a_name_that_could_not_be_asked_for_is_refused(name: str) -> None:
    with pytest.raises(BeirHybridError):
        dataclasses.replace(available()["sample-test"], name=name)
