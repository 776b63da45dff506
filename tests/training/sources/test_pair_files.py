from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources import read_pairs

ROWS = [
    {"item": "1", "language": "en", "query": "who?", "passage": "bees"},
    {"item": "1", "language": "de", "query": "wer?", "passage": "Bienen"},
    {"item": 2, "language": "en", "query": "what?", "passage": "ants"},
    {"item": "3", "language": "en", "query": "which?", "passage": " bees "},  # as item 1, but for the spaces
    {"item": "4", "language": "hi", "query": "कौन?", "passage": "चींटी"},
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def cells(pairs: ParallelPairs) -> dict[tuple[int, str], tuple[str, str]]:
    return {
        (item, code): pairs.pair(item, number, number)
        for item in range(len(pairs))
        for number, code in enumerate(pairs.languages)
        if pairs.query_row[item, number] >= 0
    }


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_are_items_by_languages(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist([{**row, "item": str(row["item"])} for row in ROWS]), path)
    else:
        lines(path, ROWS)
    pairs = read_pairs(path)
    assert (pairs.source, pairs.languages, len(pairs)) == ("mine", ("de", "en", "hi"), 4)
    assert sorted(cells(pairs).values()) == sorted((row["query"], row["passage"]) for row in ROWS)
    both = [item for item in range(4) if (pairs.query_row[item] >= 0).sum() == 2]
    assert len(both) == 1
    assert pairs.pair(both[0], 0, 1) == ("wer?", "bees")
    assert len(set(pairs.item_group.tolist())) == 3  # items 1 and 3 share a passage
    again = read_pairs(path)
    assert again.digest == pairs.digest
    assert (again.query_row == pairs.query_row).all()


def test_several_files_are_one_source_and_languages_can_be_chosen(tmp_path: Path) -> None:
    files = [lines(tmp_path / "a.jsonl", ROWS[:2]), lines(tmp_path / "b.jsonl", ROWS[2:])]
    pairs = read_pairs(files, languages=["en", "de"], name="both")
    assert (pairs.source, pairs.languages, len(pairs)) == ("both", ("en", "de"), 3)
    assert sorted(set(pairs.item_group.tolist())) == [0, 1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"item": "1", "language": "en", "query": "a"}], "line 1: no 'passage'"),
        ([*ROWS, {"language": "en", "query": "a", "passage": "b"}], r"line 6: .*item"),
        ([{**ROWS[0], "query": "  "}], r"line 1: 'query' is empty"),
        ([{**ROWS[0], "negatives": "x"}], r"line 1: 'negatives' is not a list of strings"),
        ([{**ROWS[0], "negatives": ["x", 3]}], r"line 1: 'negatives' is not a list of strings"),
        ([{**ROWS[0], "negatives": ["x", " "]}], r"line 1: 'negatives' is not a list of strings"),
        ([{**ROWS[0], "negatives": ["x", "bees "]}], r"line 1: the passage 'bees' is among its own 'negatives'"),
        ([{**ROWS[0], "language": 3}], r"line 1: 'language' is a JSON number"),
        ([{**ROWS[0], "query": "\ud800"}], r"line 1.*not valid JSON"),
        ([*ROWS, ROWS[1]], r"the item '1' is there twice in de \(again in row 6\)"),
        ([], "no texts at all"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, rows: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(BeirHybridError, match=says):
        read_pairs(lines(tmp_path / "mine.jsonl", rows))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_negatives_stand_beside_their_passage(tmp_path: Path, ending: str) -> None:
    rows = [{**row, "item": str(row["item"]), "negatives": None} for row in ROWS]
    rows[0]["negatives"], rows[2]["negatives"] = ["wasps", " ants"], ["bees", "flies"]
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines(path, rows)
    pairs = read_pairs(path)
    assert pairs.negatives is not None
    groups = pairs.item_group.tolist()
    assert pairs.negatives.of(0 * 3 + 1, 9) == (["wasps", " ants"], [-1, groups[1]])
    assert pairs.negatives.of(1 * 3 + 1, 9) == (["bees", "flies"], [groups[0], -1])
    assert pairs.negatives.of(0, 9) == ([], [])
    assert int(pairs.negatives.start[-1]) == 4
    assert read_pairs(lines(tmp_path / "none.jsonl", ROWS)).negatives is None


def test_the_file_of_a_repeated_item_is_named(tmp_path: Path) -> None:
    files = [lines(tmp_path / "a.jsonl", ROWS), lines(tmp_path / "b.jsonl", [ROWS[4] | {"item": 9}, ROWS[1]])]
    with pytest.raises(BeirHybridError, match=r"b\.jsonl: the item '1' is there twice in de \(again in row 2\)"):
        read_pairs(files)


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", ROWS)
    before = read_pairs(path)
    lines(path, ROWS[:2])
    assert (len(before), len(read_pairs(path))) == (4, 1)


def test_wrong_calls(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", ROWS)
    with pytest.raises(BeirHybridError, match="unknown language in mine: 'fr'"):
        read_pairs(path, languages=["fr"])
    with pytest.raises(BeirHybridError, match="nowhere"):
        read_pairs(tmp_path / "nowhere.jsonl")
    with pytest.raises(BeirHybridError, match="no files"):
        read_pairs([])
    with pytest.raises(BeirHybridError, match="named twice"):
        read_pairs(path, languages=["en", "en"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 12), st.sampled_from(["en", "de", "hi"])),
        st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")),
        min_size=1,
        max_size=30,
    )
)
def test_groups_and_cells_are_what_a_slow_reading_gives(
    tmp_path: Path, found: dict[tuple[int, str], tuple[str, str]]
) -> None:
    rows = [
        {"item": item, "language": code, "query": f"{query}{item}", "passage": passage}
        for (item, code), (query, passage) in found.items()
    ]
    pairs = read_pairs(lines(tmp_path / f"{hash(str(rows)) & 0xFFFFFFFF}.jsonl", rows))
    assert sorted(cells(pairs).values()) == sorted((row["query"], row["passage"]) for row in rows)
    of_item = {int(query[1:]): item for (item, _), (query, _) in cells(pairs).items()}
    # one group: reachable through equal passages
    joined = {item: {item} for item, _ in found}
    for (item, _), (_, passage) in found.items():
        for (other, _), (_, same) in found.items():
            if passage == same and joined[item] is not joined[other]:
                union = joined[item] | joined[other]
                for one in union:
                    joined[one] = union
    for item in joined:
        for other in joined:
            same_group = pairs.item_group[of_item[item]] == pairs.item_group[of_item[other]]
            assert same_group == (other in joined[item])
    assert set(pairs.item_group.tolist()) == set(range(int(pairs.item_group.max()) + 1))


def test_batches_are_drawn_from_a_file(tmp_path: Path) -> None:
    rows = [
        {"item": item, "language": code, "query": f"{code} question {item}", "passage": f"{code} passage {item}"}
        for item in range(40)
        for code in ("en", "de", "hi")
    ]
    pairs = read_pairs(lines(tmp_path / "many.jsonl", rows))
    sampler = HybridBatchSampler(pairs, 8)
    items = np.concatenate([sampler.decode(batch)[0] for batch in sampler])
    assert len(set(items.tolist())) == len(items) == 40
