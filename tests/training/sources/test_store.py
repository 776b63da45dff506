from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources import laying, store, tables
from beir_hybrid.training.sources.store import PairRow, Part, Source, open_pairs

ROOT = Path(__file__).parents[3]
CODES = ["en", "de", "hi"]
Cell = tuple[str, str, list[str], list[int]]


def opened(rows: list[PairRow], languages: list[str] | None = None, **more: Any) -> ParallelPairs:
    identity = hashlib.sha256(repr(rows).encode("utf-8", "replace")).hexdigest()
    return open_pairs(Source("toy", [identity], lambda: [Part("toy.rows", iter(rows))], **more), languages)


def must_not_build() -> list[Part]:
    raise AssertionError("built again")


def make_rows(items: int) -> Iterator[PairRow]:
    for item in range(items):
        for code in CODES:
            yield PairRow(
                f"{item}", code, f"{code} question {item}", f"{code} passage {item}", (f"{code} other {item}",)
            )


def plain(rows: list[PairRow], least: int = 1, codes: list[str] | None = None) -> list[tuple[int, dict[str, Cell]]]:
    """Item by item its group and its cells, found in the plainest way there is."""
    items = list(dict.fromkeys(row.item for row in rows))
    group = {item: number for number, item in enumerate(items)}
    for _ in items:
        for one in rows:
            for other in rows:
                if one.passage.strip() == other.passage.strip() or (one.question and one.question == other.question):
                    group[one.item] = group[other.item] = min(group[one.item], group[other.item])
    answers = {row.passage.strip(): group[row.item] for row in rows}
    wanted = sorted({row.language for row in rows}) if codes is None else codes
    kept = {
        item: {row.language: row for row in rows if row.item == item and row.language in wanted} for item in items
    }  # fmt: skip
    kept = {item: cells for item, cells in kept.items() if len(cells) >= least}
    names: dict[int, int] = {-1: -1}
    for item in kept:
        names.setdefault(group[item], len(names) - 1)
    return [
        (
            names[group[item]],
            {
                code: (
                    row.query,
                    row.passage,
                    list(row.negatives),
                    [names.get(answers.get(one.strip(), -1), -1) for one in row.negatives],
                )
                for code, row in cells.items()
            },
        )
        for item, cells in kept.items()
    ]


def shown(pairs: ParallelPairs) -> list[tuple[int, dict[str, Cell]]]:
    found = []
    for item in range(len(pairs)):
        cells: dict[str, Cell] = {}
        for number, code in enumerate(pairs.languages):
            assert (pairs.query_row[item, number] < 0) == (pairs.passage_row[item, number] < 0)
            if pairs.query_row[item, number] >= 0:
                cell = item * len(pairs.languages) + number
                texts, groups = pairs.negatives.of(cell, 99) if pairs.negatives else ([], [])
                cells[code] = (*pairs.pair(item, number, number), texts, groups)
        found.append((int(pairs.item_group[item]), cells))
    return found


PASSAGE = st.sampled_from(["u", "v", " v", "w", "x ", "y", "z", "ü", "a b", "ab"])
ROWS = st.dictionaries(
    st.tuples(st.integers(0, 9), st.sampled_from(CODES)),
    st.tuples(st.sampled_from("abcu"), PASSAGE, st.lists(PASSAGE, max_size=3), st.sampled_from(["", "", "", "q", "r"])),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.integers(1, 9), st.lists(st.sampled_from(CODES), min_size=1, max_size=3, unique=True), st.booleans())
def test_a_store_is_what_a_slow_reading_gives(
    tmp_path: Path, found: dict[Any, Any], batch: int, codes: list[str], same_language: bool
) -> None:
    rows = [
        PairRow(f"i{item}", code, query, passage, tuple(n for n in others if n.strip() != passage.strip()), question)
        for (item, code), (query, passage, others, question) in found.items()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laying, "BATCH_ROWS", batch)
        patch.setattr(tables, "_BLOCK", batch)
        patch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / f"{time.perf_counter_ns()}"))
        pairs = opened(rows, same_language=same_language)
        assert shown(pairs) == plain(rows)
        assert pairs.languages == tuple(sorted({row.language for row in rows}))
        assert pairs.same_language == same_language
        assert (pairs.negatives is None) == (not any(row.negatives for row in rows))
        known = [code for code in codes if code in pairs.languages]
        least = 1 if same_language else 2
        expected = plain(rows, least, known)
        if known and tuple(known) != pairs.languages and expected:
            part = opened(rows, known, same_language=same_language)
            assert part.languages == tuple(known)
            assert shown(part) == expected
            assert part.digest == pairs.digest
        patch.setattr(laying, "BATCH_ROWS", 1 + batch % 3)
        patch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / f"{time.perf_counter_ns()}"))
        assert opened(rows).digest == pairs.digest  # whatever the batches
        if len(rows) > 1 and rows[::-1] != rows:
            assert opened(rows[::-1]).digest != pairs.digest


def test_texts_are_stored_once_and_arrays_are_mapped() -> None:
    rows = [PairRow(str(item), code, f"{code} {item}", f"{code} {item}") for item in range(50) for code in CODES]
    pairs = opened(rows, same_language=False)
    assert len(pairs.query_texts) == len(rows)
    assert pairs.query_row is not None
    assert (pairs.query_row == pairs.passage_row).all()
    for array in (pairs.query_row, pairs.passage_row, pairs.item_group):
        assert array.dtype == np.int32
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    everything = opened(rows, ["de", "en", "hi"], same_language=False)
    assert not everything.query_row.flags.owndata


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (PairRow("", "en", "q", "p"), r"toy.rows, row 31: 'item' is empty"),
        (PairRow(3, "en", "q", "p"), "row 31: 'item' is a int; expected a string"),  # type: ignore[arg-type]
        (PairRow("i", "", "q", "p"), "row 31: 'language' is empty"),
        (PairRow("i", "en", " ", "p"), "row 31: 'query' is empty"),
        (PairRow("i", "en", "q", "\t"), "row 31: 'passage' is empty"),
        (PairRow("i", "en", "q", None), "row 31: 'passage' is missing"),  # type: ignore[arg-type]
        (PairRow("i", "en", "q", "p", "n"), "row 31: 'negatives' is a str"),  # type: ignore[arg-type]
        (PairRow("i", "en", "q", "p", ("n", "")), "row 31: one of 'negatives' is empty"),
        (PairRow("i", "en", "q", "p", ("n", 3)), "row 31: one of 'negatives' is a int"),  # type: ignore[arg-type]
        (PairRow("i", "en", "q", "p", ("n", "p ")), r"row 31 \(item 'i'\): one of its negatives is its own passage"),
        (PairRow("i", "en", "q\ud800", "p"), "row 31, item 'i': half of a surrogate pair"),
        (PairRow("3", "de", "q", "p"), r"toy.rows: the item '3' is there twice in de \(again in row 31\)"),
        (PairRow("3", "de", "de question 3", "de passage 3"), r"the item '3' is there twice in de"),
    ],
)
@pytest.mark.parametrize("batch", [4, 8192])
def test_a_fault_is_said_with_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: PairRow, says: str, batch: int
) -> None:
    monkeypatch.setattr(laying, "BATCH_ROWS", batch)
    with pytest.raises(BeirHybridError, match=says):
        opened([*make_rows(10), row, PairRow("last", "en", "q", "p")])
    assert [path for path in (tmp_path / "cache" / "texts").iterdir() if path.suffix != ".lock"] == []


def test_other_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BeirHybridError, match="the pairs of toy: no texts at all"):
        opened([])
    with pytest.raises(BeirHybridError, match="unknown language in toy: 'fr'"):
        opened(list(make_rows(2)), ["fr"])
    with pytest.raises(BeirHybridError, match="no languages were named"):
        opened(list(make_rows(2)), [])
    with pytest.raises(BeirHybridError, match="no item is left in en"):
        opened(list(make_rows(2)), ["en"], same_language=False)
    monkeypatch.setattr(laying, "LONGEST_ROW", 100)
    with pytest.raises(BeirHybridError, match=r"toy.rows, row 7: 120 characters, at most 100"):
        opened([*make_rows(2), PairRow("i", "en", "q" * 60, "p" * 60)])


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_what_is_there_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(make_rows(20))
    first = open_pairs(Source("toy", ["a"], lambda: [Part("p", rows)]))
    before = state(tmp_path / "cache")
    assert sorted(before) == sorted(
        {"texts", *store.FILES, *(path.name for path in (tmp_path / "cache" / "texts").iterdir())}
    )
    monkeypatch.setattr(store.Table, "column", lambda *_: pytest.fail("a text was read"))
    again = open_pairs(Source("toy", ["a"], must_not_build))
    assert (again.digest, len(again)) == (first.digest, 20)
    assert open_pairs(Source("toy", ["a"], must_not_build), ["hi", "en"]).query_row.shape == (20, 2)
    assert state(tmp_path / "cache") == before


@pytest.mark.parametrize("name", sorted(store.FILES))
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_store_is_built_again(tmp_path: Path, name: str, damage: str) -> None:
    rows = list(make_rows(20))
    expected = shown(opened(rows))
    [file] = (tmp_path / "cache").rglob(name)
    if damage == "gone":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size - 8)
    assert shown(opened(rows)) == expected


SLOW = """
    def parts():
        def rows():
            print("begun", flush=True)
            for number, row in enumerate(make_rows(1000)):
                if number == 2000:
                    time.sleep(SECONDS)
                yield row
        yield Part("p", rows())
    laying.BATCH_ROWS = 100
    pairs = open_pairs(Source("toy", ["slow"], parts))
    print(len(pairs), pairs.digest, flush=True)
"""


def start(cache: Path, seconds: float) -> subprocess.Popen[str]:
    head = "import time\nfrom tests.training.sources.test_store import *\n"
    code = head + "\n".join(line[4:] for line in SLOW.replace("SECONDS", str(seconds)).splitlines())
    environment = {**os.environ, "BEIR_HYBRID_CACHE": str(cache)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_killed_in_the_middle(tmp_path: Path) -> None:
    process = start(tmp_path / "cache", 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    wait_for(lambda: [one for one in tmp_path.rglob("scratch.item") if one.stat().st_size])
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    [left] = (tmp_path / "cache" / "texts").glob(".pairs-*.part")
    pairs = open_pairs(Source("toy", ["slow"], lambda: [Part("p", make_rows(1000))]))
    assert shown(pairs) == plain_rows(1000)
    assert not left.exists()
    open_pairs(Source("toy", ["slow"], must_not_build))


def test_two_processes_build_once(tmp_path: Path) -> None:
    both = [start(tmp_path / "cache", 1) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].split() for process in both]
    assert sorted(map(len, said)) == [2, 3]  # one has begun
    assert said[0][-2:] == said[1][-2:]
    assert said[0][-2] == "1000"


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def plain_rows(items: int) -> list[tuple[int, dict[str, Cell]]]:
    return [
        (n, {c: (f"{c} question {n}", f"{c} passage {n}", [f"{c} other {n}"], [-1]) for c in sorted(CODES)})
        for n in range(items)
    ]
