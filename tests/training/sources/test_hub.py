from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources import hub, read_hub


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def folder(path: Path, rows: list[dict[str, Any]], split: str = "train", schema: pa.Schema | None = None) -> str:
    (path / "data").mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows, schema), path / "data" / f"{split}-00000-of-00001.parquet")
    return str(path)


def shown(pairs: ParallelPairs) -> list[tuple[str, str, str, list[str]]]:
    return [
        (
            code,
            *pairs.pair(item, number, number),
            pairs.negatives.of(item * len(pairs.languages) + number, 9)[0] if pairs.negatives else [],
        )
        for item in range(len(pairs))
        for number, code in enumerate(pairs.languages)
        if pairs.query_row[item, number] >= 0
    ]


def test_rows_of_one_language(tmp_path: Path) -> None:
    rows = [
        {"anchor": "who?", "positive": "bees", "negative_1": "ants", "negative_10": "z", "negative_2": None},
        {"anchor": "what?", "positive": "ants", "negative_1": "", "negative_10": None, "negative_2": "flies"},
    ]
    name = folder(tmp_path / "ants", rows)
    pairs = read_hub(name, language="en")
    assert shown(pairs) == [("en", "who?", "bees", ["ants", "z"]), ("en", "what?", "ants", ["flies"])]
    assert pairs.negatives is not None
    assert pairs.negatives.group.tolist() == [1, -1, -1]
    assert pairs.source == f"{name} train"
    with pytest.raises(BeirHybridError, match="known to be the language; say which is"):
        read_hub(name)


def test_items_in_several_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"item": 7, "lang": "en", "q": "who?", "text": "bees", "no": ["ants"]},
        {"item": 7, "lang": "de", "q": "wer?", "text": "Bienen", "no": []},
        {"item": 8, "lang": "de", "q": "was?", "text": "Ameisen", "no": None},
    ]
    name, columns = folder(tmp_path / "mine", rows), {"query": "q", "passage": "text", "negatives": "no"}
    pairs = read_hub(name, columns=columns)
    assert shown(pairs) == [
        ("de", "wer?", "Bienen", []), ("en", "who?", "bees", ["ants"]), ("de", "was?", "Ameisen", []),
    ]  # fmt: skip
    assert len(pairs) == 2
    assert len(read_hub(name, columns=columns, languages=["en"])) == 1
    monkeypatch.setattr(hub, "_rows", lambda *_: pytest.fail("built again"))
    assert read_hub(name, columns=columns).digest == pairs.digest


def test_a_changed_folder_is_read_anew(tmp_path: Path) -> None:
    name = folder(tmp_path / "a", [{"query": "q", "answer": "a"}])
    assert len(read_hub(name, language="en")) == 1
    folder(tmp_path / "a", [{"query": "q", "answer": "a"}, {"query": "r", "answer": "b"}])
    assert len(read_hub(name, language="en")) == 2


def test_sentences(tmp_path: Path) -> None:
    rows = [
        {"english": "Good day.", "non_english": "Guten Tag."},
        {"english": "Bees.", "non_english": None},
        {"english": "Ants.", "non_english": "Ameisen."},
    ]
    name = folder(tmp_path / "a", rows, "test")
    pairs = read_hub(name, split="test", sentences={"en": "english", "de": "non_english"})
    assert (pairs.languages, len(pairs), pairs.same_language) == (("de", "en"), 2, False)
    assert pairs.pair(1, 0, 1) == ("Ameisen.", "Ants.")
    with pytest.raises(BeirHybridError, match=r"unknown column of .*'german'"):
        read_hub(name, split="test", sentences={"en": "english", "de": "german"})
    with pytest.raises(BeirHybridError, match="a column for each of two languages"):
        read_hub(name, split="test", sentences={"en": "english"})
    with pytest.raises(BeirHybridError, match="leave language and columns out"):
        read_hub(name, split="test", language="en", sentences={"en": "english", "de": "non_english"})


@pytest.mark.parametrize(
    ("row", "more", "says"),
    [
        ({"query": "q", "passage": None}, {}, r"a train, row 2: 'passage' is missing"),
        ({"query": "q", "passage": " "}, {}, "row 2: 'passage' is empty"),
        ({"query": "q", "passage": "p", "negatives": ["n", "p"]}, {}, "row 2 .*is its own passage"),
        ({"query": "q", "passage": ["p"]}, {}, r"column 'passage' is List\(.*; expected text in it"),
        ({"query": "q", "passage": "p", "item": 1.5}, {}, "column 'item' is .*; expected text or whole numbers"),
        ({"query": "q", "passage": "p", "negatives": [3]}, {}, "column 'negatives' is .*; expected text or lists"),
        ({"q": "q", "passage": "p"}, {}, "no column of q, passage is known to be the query"),
        ({"query": "q", "passage": "p"}, {"columns": {"question": "query"}}, "unknown key of columns .*'question'"),
        ({"query": "q", "passage": "p"}, {"columns": {"query": "quary"}}, "unknown column .*'quary'.*'query'"),
        ({"query": "q", "passage": "p"}, {"columns": {"query": ["query"]}}, "expected the name of one column"),
        ({"query": "q", "passage": "p"}, {"columns": {"language": "query"}}, "both language and columns"),
        ({"query": "q", "passage": "p"}, {"split": "dev"}, r"datasets cannot load it \(ValueError: Unknown split"),
        ({"query": "q", "passage": "p"}, {"config": "x"}, r"datasets cannot load it .*config='x'"),
    ],
)
def test_faults(tmp_path: Path, row: dict[str, Any], more: dict[str, Any], says: str) -> None:
    first = {key: value if value is not None else "p" for key, value in row.items()}
    if "negatives" in row and row["negatives"] == ["n", "p"]:
        first["negatives"] = ["n"]
    if isinstance(first["passage"], str):
        first["passage"] = "p"
    name = folder(tmp_path / "a", [first, row])
    with pytest.raises(BeirHybridError, match=says):
        read_hub(name, **{"language": "en", **more})


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    for name in ("no/such-dataset", str(tmp_path / "nowhere")):
        with pytest.raises(BeirHybridError, match="datasets cannot load it"):
            read_hub(name, language="en")
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(BeirHybridError, match="offline, and no/such-dataset is no folder here"):
        read_hub("no/such-dataset", language="en")
