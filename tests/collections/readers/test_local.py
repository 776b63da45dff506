from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from beir_hybrid.collections.formats.beir_export import load_beir, prepare_beir
from beir_hybrid.collections.readers.local import describe
from beir_hybrid.collections.registry import load_collection
from beir_hybrid.errors import BeirHybridError
from tests.collections.readers.test_beir_folder import CONFIGS, QRELS, write, write_hub
from tests.data import LAREQA, SHARED, needs_lareqa

SAMPLE = Path(__file__).parents[3] / "beir_hybrid" / "collections" / "sample" / "test"
MIRACL = SHARED / "miracl-mini"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE", "BEIR_HYBRID_DATA"):
        monkeypatch.delenv(name, raising=False)


def settings_of(folder: Path, **choices: Any) -> list[str]:
    return [str(setting) for setting in load_collection(folder, **choices).settings]


def test_a_beir_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "my data (2).v1", passages=[{"_id": "d1", "text": "a"}], qrels="q4\td1\t1\n")
    spec = describe(folder, None)
    assert spec.name == "my-data--2--v1"
    assert spec.languages == ("und",)
    assert spec.info.licence == "not stated"
    assert settings_of(folder) == ["my-data--2--v1/mono/und"]
    (folder / "queries.jsonl").unlink()
    with pytest.raises(BeirHybridError, match=r"queries\.jsonl"):
        load_collection(folder)


def test_a_hub_folder(tmp_path: Path) -> None:
    folder = write_hub(tmp_path / "mine", CONFIGS.format("", "parquet"))
    assert describe(folder, None).info.licence == "mit"
    assert "mine/multi/en" in settings_of(folder)
    (folder / "README.md").unlink()
    assert "mine/multi/en" in settings_of(folder)


def test_a_lareqa_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for code in ("en", "de"):
        shutil.copy(SAMPLE / f"{code}.json", folder)
    (folder / "notes_of_mine.json").write_text("{}")
    assert settings_of(folder)[:3] == ["mine/mono/de", "mine/mono/en", "mine/cross/de-en"]
    collection = load_collection(folder, languages=["en"], text_mode="context", first=2)
    assert collection.name == "mine.context.first2@en"
    assert len(collection.queries) == 2
    with pytest.raises(BeirHybridError, match="has one file a language and no splits"):
        describe(folder, "dev")


@needs_lareqa
def test_xquad_r_in_a_folder() -> None:
    assert len(load_collection(LAREQA / "xquad-r").settings) == 132


@pytest.mark.skipif(not MIRACL.is_dir(), reason=f"no MIRACL in {MIRACL}")
def test_a_miracl_folder() -> None:
    assert "sw" in describe(MIRACL, None).languages


def test_splits(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", split="train.tsv")
    assert describe(folder, None).name == "mine-train"
    write(folder, split="extra.jsonl", qrels='{"query-id": "q1", "corpus-id": "d1", "score": 1}\n')
    with pytest.raises(BeirHybridError, match="say which split is meant; there are extra, train"):
        describe(folder, None)
    write(folder, split="dev.tsv")
    assert describe(folder, None).name == "mine-dev"
    write(folder, split="test.tsv")
    assert describe(folder, None).name == "mine"
    assert load_collection(folder, split="extra").name == "mine-extra"
    assert list(load_collection(folder, split="extra").queries.ids) == ["q1"]
    with pytest.raises(BeirHybridError, match=r"unknown split of .* 'val'.* Known: dev, extra, test, train"):
        describe(folder, "val")


def test_what_is_asked_for_is_in_the_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", qrels=QRELS + "q1\tgone\t1\n")
    with pytest.raises(BeirHybridError, match="the judged passage 'gone' is not in the corpus"):
        load_collection(folder)
    collection = load_collection(folder, allow_missing=True, first=1)
    assert collection.name == "mine.first1.partial"
    assert collection.info.missing == 1
    with pytest.raises(BeirHybridError, match="unknown language in mine"):
        load_collection(folder, languages=["en"])


@pytest.mark.parametrize("layout", ["beir", "hub"])
def test_a_prepared_folder_keeps_its_name(tmp_path: Path, layout: Any) -> None:
    name, part = "sample-test.first4@de+en", "sample-test-cross-en-de"
    folder = prepare_beir(f"{name}/cross/en-de", tmp_path / "x", layout=layout)
    spec = describe(folder, None)
    assert (spec.name, spec.languages) == ("sample-test-cross-en-de", ("de", "en"))
    assert (spec.info.licence, spec.info.citation) == ("Apache-2.0", "Written for beir-hybrid.")
    assert settings_of(folder) == [f"{part}.first4@de+en/cross/en-de"]
    assert settings_of(folder, first=2) == [f"{part}.first2@de+en/cross/en-de"]
    assert settings_of(folder, first=9) == [f"{part}.first4@de+en/cross/en-de"]
    assert load_collection(folder, allow_missing=True).name == f"{part}.first4.partial@de+en"
    with pytest.raises(BeirHybridError, match="leave out the languages"):
        load_collection(folder, languages=["de"])


def test_a_prepared_folder_keeps_what_is_known(tmp_path: Path) -> None:
    folder = prepare_beir("sample-test.context/mono/en", tmp_path / "x", split="dev")
    collection = load_collection(folder)
    assert (collection.name, collection.info.text_mode) == ("sample-test-mono-en.context", "context")
    manifest = json.loads((folder / "beir_hybrid.json").read_text())
    (folder / "beir_hybrid.json").write_text(json.dumps({**manifest, "missing": 3}))
    assert load_collection(folder).info.missing == 3
    (folder / "qrels" / "dev.tsv").rename(folder / "qrels" / "train.tsv")
    assert load_collection(folder).name == "sample-test-mono-en-train.context"


@pytest.mark.parametrize(
    "said", ["[]", "{", '{"collection": "a b"}', '{"collection": 3.5}', '{"collection": "a/mono/b"}']
)
def test_a_broken_manifest(tmp_path: Path, said: str) -> None:
    folder = write(tmp_path)
    (folder / "beir_hybrid.json").write_text(said)
    with pytest.raises(BeirHybridError, match=r"beir_hybrid\.json"):
        describe(folder, None)


def test_a_manifest_of_something_else(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine")
    (folder / "beir_hybrid.json").write_text('{"languages": "en", "missing": null, "licence": 4}')
    assert load_collection(folder).name == "mine"


def test_no_layout(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match="no such folder"):
        describe(tmp_path / "nowhere", None)
    with pytest.raises(BeirHybridError, match=r"no collection in it; expected corpus\.jsonl.*\(LAReQA\)"):
        describe(tmp_path, None)
    (tmp_path / "corpus.jsonl").write_text("")
    with pytest.raises(BeirHybridError, match=r"it has corpus\.jsonl and no qrels/"):
        describe(tmp_path, None)
    folder = prepare_beir("sample-test@de+en", tmp_path / "all", every=True)
    with pytest.raises(
        BeirHybridError,
        match=r"it holds prepared settings in folders of their own; name one of these, such as .*mono/de",
    ):
        describe(folder, None)
    folder = prepare_beir("sample-test@de+en", tmp_path / "hub", every=True, layout="hub")
    with pytest.raises(BeirHybridError, match="It holds mono-de, mono-en, cross-de-en"):
        describe(folder, None)
    (tmp_path / "-").mkdir()
    write(tmp_path / "-")
    assert describe(tmp_path / "-", None).name.startswith("folder-")


def test_a_prepared_folder_that_was_changed_loses_its_name(tmp_path: Path) -> None:
    folder = prepare_beir("sample-test/mono/en", tmp_path / "mine")
    corpus = folder / "corpus.jsonl"
    needed = {passage for judged in load_beir(folder)[2].values() for passage in judged}
    kept = [line for line in corpus.read_text().splitlines(keepends=True) if json.loads(line)["_id"] in needed]
    corpus.write_text("".join(kept))
    with pytest.raises(BeirHybridError, match=r"passages where beir_hybrid\.json says 49"):
        load_collection(folder)
    (folder / "beir_hybrid.json").unlink()
    assert load_collection(folder).name == "mine"


def test_one_of_many_configs_is_read(tmp_path: Path) -> None:
    folder = prepare_beir("sample-test@de+en", tmp_path / "hub", every=True, layout="hub")
    with pytest.raises(BeirHybridError, match=r"name one, as in load\(.*config='mono-de'\)"):
        load_collection(folder)
    one = load_collection(folder, config="cross-en-de")
    assert one.name == "sample-test-cross-en-de@de+en"
    whole = load_collection("sample-test@de+en").view("cross/en-de")
    assert dict(one.view("cross/en-de").qrels) == dict(whole.qrels)
    with pytest.raises(BeirHybridError, match="not a hub dataset"):
        load_collection(prepare_beir("sample-test/mono/en", tmp_path / "x"), config="mono-en")
