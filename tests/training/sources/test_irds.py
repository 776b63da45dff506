from __future__ import annotations

from pathlib import Path
from typing import Any

import ir_datasets
import pytest
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import TrecQrels, TsvDocPairs, TsvDocs, TsvQueries
from ir_datasets.util import LocalDownload

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources import irds, read_ir_datasets

DOCS = {"d1": "bees fly", "d2": "ants walk", "d3": "wasps sting", "d4": " bees fly ", "d5": "ants walk"}
QUERIES = {"q1": "who flies?", "q2": "who walks?", "q3": "never asked"}
QRELS = [("q1", "d1", 1), ("q1", "d2", 0), ("q2", "d2", 2), ("q1", "d3", 1), ("q1", "d4", 0), ("q2", "d3", -1)]
PAIRS = [("q1", "d1", "d4"), ("q1", "d1", "d2"), ("q1", "d1", "d5"), ("q2", "d5", "d3"), ("q1", "d1", "d3")]


def dataset(folder: Path, language: str | None, name: str, *, shared: Any = None, **parts: Any) -> str:
    """Register a dataset of local files with ir_datasets; the texts of a language begin with its code."""
    folder = folder / name
    folder.mkdir()
    found: list[Any] = []
    for key, default in (("docs", DOCS), ("queries", QUERIES)):
        table = parts.get(key, default)
        path = folder / f"{key}.tsv"
        if table is not None:
            path.write_text("".join(f"{one}\t{language} {text}\n" for one, text in table.items()), encoding="utf-8")
            found.append((TsvDocs if key == "docs" else TsvQueries)(LocalDownload(path), lang=language))
    if parts.get("qrels"):
        (folder / "qrels").write_text("".join(f"{q} Q0 {d} {grade}\n" for q, d, grade in parts["qrels"]))
        found.append(TrecQrels(LocalDownload(folder / "qrels"), {}))
    if parts.get("pairs"):
        (folder / "pairs").write_text("".join("\t".join(row) + "\n" for row in parts["pairs"]))
        found.append(TsvDocPairs(LocalDownload(folder / "pairs")))
    if shared is not None:
        found.append(shared)
    registered = f"test-{folder.parent.name}/{name}"
    ir_datasets.registry.register(registered, Dataset(*found))
    return registered


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


def test_qrels(tmp_path: Path) -> None:
    name = dataset(tmp_path, "sw", "train", qrels=QRELS)
    pairs = read_ir_datasets(name, negatives=2)
    assert (pairs.source, pairs.languages) == (name, ("sw",))
    assert shown(pairs) == [
        ("sw", "sw who flies?", "sw bees fly", ["sw ants walk", "sw  bees fly "]),
        ("sw", "sw who walks?", "sw ants walk", ["sw wasps sting"]),
        ("sw", "sw who flies?", "sw wasps sting", ["sw ants walk", "sw  bees fly "]),
    ]
    assert pairs.item_group.tolist() == [0, 1, 0]  # one question, two answers
    assert pairs.negatives is not None
    assert pairs.negatives.group.tolist() == [1, -1, 0, 1, -1]
    assert read_ir_datasets(name).negatives is None
    assert [len(one[3]) for one in shown(read_ir_datasets({"xx": name}, negatives=1))] == [1, 1, 1]


def test_docpairs(tmp_path: Path) -> None:
    name = dataset(tmp_path, None, "train", qrels=QRELS, pairs=PAIRS)
    pairs = read_ir_datasets({"en": name}, negatives=3, name="mine")
    assert pairs.source == "mine"
    assert shown(pairs) == [
        ("en", "None who flies?", "None bees fly", ["None  bees fly ", "None ants walk", "None ants walk"]),
        ("en", "None who walks?", "None ants walk", ["None wasps sting"]),
    ]
    with pytest.raises(BeirHybridError, match=r"does not know its language; say it: \{'en': 'test-"):
        read_ir_datasets(name)


def test_a_negative_with_the_text_of_its_positive_is_left_out(tmp_path: Path) -> None:
    name = dataset(tmp_path, "en", "train", pairs=[("q2", "d2", "d5"), ("q2", "d2", "d1")])
    assert shown(read_ir_datasets(name, negatives=2)) == [("en", "en who walks?", "en ants walk", ["en bees fly"])]


def test_parallel_and_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs").write_text("".join("\t".join(row) + "\n" for row in PAIRS))
    shared = TsvDocPairs(LocalDownload(tmp_path / "pairs"))
    ids = {code: dataset(tmp_path, code, f"{code}-train", shared=shared) for code in ("en", "de")}
    read: list[int] = []
    honest = irds._judgements
    monkeypatch.setattr(irds, "_judgements", lambda *all_: (read.append(1), honest(*all_))[1])
    pairs = read_ir_datasets(ids, parallel=True, negatives=1)
    assert len(read) == 1  # what languages share is read once
    assert (len(pairs), pairs.languages) == (2, ("de", "en"))
    assert pairs.pair(0, 0, 1) == ("de who flies?", "en bees fly")
    apart = read_ir_datasets(ids, negatives=1)
    assert len(apart) == 4
    assert sorted(shown(apart)) == sorted(shown(pairs))
    monkeypatch.setattr(irds, "_parts", lambda *_: pytest.fail("built again"))
    assert read_ir_datasets(ids, parallel=True, negatives=1).digest == pairs.digest
    assert read_ir_datasets(ids, True, 1, ["en"]).languages == ("en",)


def test_changed_files_are_read_anew(tmp_path: Path) -> None:
    name = dataset(tmp_path, "sw", "train", qrels=QRELS)
    assert len(read_ir_datasets(name)) == 3
    (tmp_path / "train" / "qrels").write_text("q1 Q0 d1 1\n")
    assert len(read_ir_datasets(name)) == 1


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"docs": None, "qrels": QRELS}, "train has no documents; name a part"),
        ({"queries": None, "qrels": QRELS}, "train has no questions"),
        ({}, r"train has no judgements \(qrels or docpairs\)"),
        ({"qrels": [*QRELS, ("q9", "d1", 1)]}, "train: the question 'q9' is judged but not there"),
        ({"qrels": [*QRELS, ("q3", "d9", 1)]}, "train: the document 'd9' is judged but not there"),
        ({"pairs": [("q1", "d1", "d9")]}, "train: the document 'd9' is judged but not there"),
        ({"qrels": [("q1", "d1", 0)]}, "train: no document is judged to be relevant"),
        ({"queries": {"q1\tx": "a"}, "qrels": QRELS}, r"ir_datasets cannot read test-.*/train \(RuntimeError"),
    ],
)
def test_faults(tmp_path: Path, parts: dict[str, Any], says: str) -> None:
    name = dataset(tmp_path, "sw", "train", **parts)
    with pytest.raises(BeirHybridError, match=says):
        read_ir_datasets(name, negatives=1)


def test_wrong_calls() -> None:
    with pytest.raises(BeirHybridError, match="ir_datasets cannot read no/such"):
        read_ir_datasets("no/such")
    with pytest.raises(BeirHybridError, match="no datasets were named"):
        read_ir_datasets({})
    with pytest.raises(BeirHybridError, match="negatives=-1"):
        read_ir_datasets("miracl/sw/train", negatives=-1)
