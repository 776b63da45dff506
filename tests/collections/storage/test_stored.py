from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.storage import storing
from beir_hybrid.collections.storage.stored import Row, StoredTexts, open_or_build
from beir_hybrid.errors import BeirHybridError

ROOT = Path(__file__).parents[3]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ROWS = st.lists(
    st.builds(Row, TEXT, TEXT, TEXT, st.sampled_from(["en", "de", "", "zh-Hant", "ü"])),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row.id,
)


def make_rows(count: int) -> Iterator[Row]:
    for number in range(count):
        language = ("fi", "ar", "en")[number % 3]
        yield Row(
            f"{language}:{number}", f"title {number % 7}" * (number % 2), f"tëxt {number} " * (number % 5), language
        )


def build(folder: Path, rows: Iterable[Row], what: str = "a corpus") -> StoredTexts:
    return open_or_build(folder, lambda: rows, what)


def must_not_build() -> Iterable[Row]:
    raise AssertionError("built again")


def all_of(texts: StoredTexts) -> list[Row]:
    codes = [texts.languages[number] for number in texts.language]
    return [Row(*row) for row in zip(texts.ids, texts.titles, texts.texts, codes, strict=True)]


def plain_digest(rows: Iterable[Row]) -> str:
    state = hashlib.sha256()
    for row in rows:
        for part in row:
            state.update(len(part.encode()).to_bytes(4, "little") + part.encode())
    return state.hexdigest()


@settings(max_examples=50, deadline=None)
@given(ROWS, st.data())
def test_a_store_is_the_rows_it_was_made_from(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], data: Any
) -> None:
    folder = tmp_path_factory.mktemp("stored") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storing, "BATCH_ROWS", data.draw(st.sampled_from([1, 2, 3, 16_384])))
        patch.setattr(storing, "BATCH_CHARACTERS", data.draw(st.sampled_from([1, 20, 2**20])))
        build(folder, rows)
    texts = open_or_build(folder, must_not_build, "a corpus")
    assert all_of(texts) == rows
    assert len(texts) == len(texts.ids) == len(texts.row_of) == len(rows)
    assert texts.language.dtype == np.int16
    assert texts.languages == tuple(dict.fromkeys(row.language for row in rows))
    assert texts.digest == plain_digest(rows)
    part = data.draw(st.slices(len(rows)))
    expected = [row.text for row in rows]
    assert texts.texts[part] == expected[part]
    for number in range(-len(rows), len(rows)):
        assert texts.texts[number] == expected[number]
    for outside in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            texts.texts[outside]
    row_of = {row.id: number for number, row in enumerate(rows)}
    assert dict(texts.row_of) == row_of
    asked = [*row_of, *data.draw(st.lists(st.text(max_size=3), max_size=9)), "\ud800", "a\udfffb"]
    assert texts.find_rows(asked).tolist() == [row_of.get(identifier, -1) for identifier in asked]
    for identifier in asked:
        assert texts.row_of.get(identifier) == row_of.get(identifier)
        assert (identifier in texts.row_of) == (identifier in row_of)
    assert None not in texts.row_of
    assert 0 not in texts.row_of


def test_ids_that_share_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = storing.hashes
    monkeypatch.setattr(storing, "hashes", lambda ids: honest(ids) % 5)
    rows = list(make_rows(200))
    texts = build(tmp_path / "a", rows)
    assert texts.find_rows([row.id for row in rows]).tolist() == list(range(200))
    assert texts.find_rows(["x", "", "en:200"]).tolist() == [-1, -1, -1]
    with pytest.raises(BeirHybridError, match=r"^a corpus: the id 'fi:33' comes twice, in rows 33 and 150 \(from 0\)"):
        build(tmp_path / "b", [*rows[:150], rows[33], *rows[150:], rows[3]])


@pytest.mark.parametrize("batch", [1, 7, 16_384])
def test_an_id_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(storing, "BATCH_ROWS", batch)
    rows = list(make_rows(30))
    with pytest.raises(BeirHybridError, match=r"the id 'ar:25' comes twice, in rows 25 and 30 "):
        build(tmp_path / "a", [*rows, rows[25]._replace(text="other"), rows[2], rows[25]])
    with pytest.raises(BeirHybridError, match=r"the id 'fi:0' comes twice, in rows 0 and 1 "):
        build(tmp_path / "a", [rows[0]] * 5000)
    assert not (tmp_path / "a").exists()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_what_cannot_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BeirHybridError, match="a corpus: no texts at all"):
        build(tmp_path / "a", [])
    for field in Row._fields:
        rows = [*make_rows(5), Row("id", "", "", "en")._replace(**{field: "a\ud800b"})]
        with pytest.raises(BeirHybridError, match=r"a corpus, row 5 \(from 0\), id .*: half of a surrogate pair"):
            build(tmp_path / "a", rows)
    with pytest.raises(BeirHybridError, match="more than 32767 languages"):
        build(tmp_path / "a", (Row(str(n), "", "", str(n)) for n in range(40_000)))
    monkeypatch.setattr(storing, "LONGEST_ROW", 100)
    with pytest.raises(BeirHybridError, match="id 'long': 101 characters; at most 100"):
        build(tmp_path / "a", [Row("long", "", "x" * 95, "en")])
    assert len(build(tmp_path / "a", [Row("long", "", "x" * 94, "en")])) == 1


def test_an_error_of_the_rows_comes_through(tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        yield from make_rows(3)
        raise BeirHybridError("f, line 4: no text")

    with pytest.raises(BeirHybridError, match=r"^f, line 4: no text$"):
        open_or_build(tmp_path / "a", rows, "a corpus")
    assert [path.name for path in tmp_path.iterdir() if path.name != ".a.lock"] == []


@pytest.mark.parametrize("name", ["rows.arrow", "language", "hash", "row", "store.json"])
@pytest.mark.parametrize("damage", ["cut", "whole rows cut", "empty", "gone"])
def test_a_damaged_store_is_built_again(tmp_path: Path, name: str, damage: str) -> None:
    rows = list(make_rows(50))
    first = build(tmp_path / "a", rows)
    file = tmp_path / "a" / name
    if damage == "gone":
        file.unlink()
    else:
        size = file.stat().st_size
        os.truncate(file, {"cut": size - 5, "whole rows cut": size - 16, "empty": 0}[damage])
    second = build(tmp_path / "a", rows)
    assert all_of(second) == rows
    assert second.find_rows([row.id for row in rows]).tolist() == list(range(50))
    assert second.digest == first.digest
    assert {path.name for path in tmp_path.iterdir()} <= {"a", ".a.lock"}
    open_or_build(tmp_path / "a", must_not_build, "a corpus")


@pytest.mark.parametrize(
    "manifest", ["[]", "null", '"x"', "{}", '{"version": 1}', '{"version": 1, "bytes": 3}', "[" * 99_999, "\udcff"]
)
def test_a_manifest_of_another_kind_is_built_again(tmp_path: Path, manifest: str) -> None:
    build(tmp_path / "a", make_rows(5))
    (tmp_path / "a" / "store.json").write_text(manifest, errors="surrogateescape")
    assert all_of(build(tmp_path / "a", make_rows(6))) == list(make_rows(6))


@pytest.mark.parametrize("change", [{"version": 0}, {"starts": [0, 5, 50]}, {"starts": 3}, {"languages": None}])
def test_a_manifest_that_does_not_fit_is_built_again(tmp_path: Path, change: dict[str, Any]) -> None:
    build(tmp_path / "a", make_rows(50))
    path = tmp_path / "a" / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert len(build(tmp_path / "a", make_rows(51))) == 51


def test_what_is_not_a_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("x")
    (tmp_path / "b").write_text("x")
    for name in ("a", "b"):
        with pytest.raises(BeirHybridError, match="exists and is not a store of texts"):
            open_or_build(tmp_path / name, must_not_build, "a corpus")
    assert (tmp_path / "a" / "mine.txt").read_text() == (tmp_path / "b").read_text() == "x"
    (tmp_path / "b" / "c").parent.unlink()
    (tmp_path / "b").mkdir()
    assert len(build(tmp_path / "b", make_rows(3))) == 3  # an empty folder is no one's


def test_only_leftovers_of_this_store_are_removed(tmp_path: Path) -> None:
    kept = [".a.b.abcdefgh.part", ".a.mine.part", ".b.abcdefgh.part", "a.abcdefgh.part"]
    for name in [*kept, ".a.abcdefgh.part", ".a.abc_1234.old"]:
        (tmp_path / name).mkdir()
    build(tmp_path / "a", make_rows(3))
    assert {path.name for path in tmp_path.iterdir()} - {".a.lock"} == {*kept, "a"}


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            build(folder, make_rows(20_000))
        except BeirHybridError as error:
            print(error)
    """
    said = run(code, tmp_path / "a")
    assert "a: cannot be written" in said
    assert "File too large" in said
    assert {path.name for path in tmp_path.iterdir()} <= {".a.lock"}
    assert len(build(tmp_path / "a", make_rows(30))) == 30


def test_killed_in_the_middle(tmp_path: Path) -> None:
    code = """
        def slow():
            for number, row in enumerate(make_rows(3000)):
                if number == 2000:
                    print("half", flush=True)
                    time.sleep(60)
                yield row
        storing.BATCH_ROWS = 100
        open_or_build(folder, slow, "a corpus")
    """
    process = subprocess.Popen(command(code, tmp_path / "a"), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    [left] = tmp_path.glob(".a.*.part")
    assert (left / "rows.arrow").stat().st_size > 0
    assert not (tmp_path / "a").exists()
    texts = build(tmp_path / "a", make_rows(3000))
    assert all_of(texts) == list(make_rows(3000))
    assert texts.digest == plain_digest(make_rows(3000))
    assert not left.exists()


def test_two_at_once_build_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def rows() -> Iterator[Row]:
        calls.append(1)
        time.sleep(0.2)
        yield from make_rows(100)

    found: list[StoredTexts] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_or_build(tmp_path / "a", rows, "a corpus"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert [all_of(texts) for texts in found] == [list(make_rows(100))] * 4


def test_opened_where_nothing_may_be_written(tmp_path: Path) -> None:
    build(tmp_path / "a", make_rows(3))
    shutil.copytree(tmp_path / "a", tmp_path / "copy" / "a")
    for path in (tmp_path / "copy" / "a", tmp_path / "copy"):
        path.chmod(0o500)
    try:
        texts = open_or_build(tmp_path / "copy" / "a", must_not_build, "a corpus")
        assert all_of(texts) == list(make_rows(3))
        assert {path.name for path in (tmp_path / "copy").iterdir()} == {"a"}  # not even a lock
        with pytest.raises(ValueError, match="read-only"):
            texts.language[0] = 1
    finally:
        (tmp_path / "copy").chmod(0o700)
        (tmp_path / "copy" / "a").chmod(0o700)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    code = """
        def heap():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))
        def rows(count):
            for number in range(count):
                yield Row(f"d{number}", "a title", f"{number:06d}" + "text " * 120, "en")
        build(folder.with_name("warm"), rows(1000))
        before = heap()
        peak = 0
        def watched():
            global peak
            for number, row in enumerate(rows(200_000)):
                if number % 1000 == 0:
                    peak = max(peak, heap())
                yield row
        texts = open_or_build(folder, watched, "a corpus")
        for number, text in enumerate(texts.texts):
            if number % 1000 == 0:
                assert text.startswith(f"{number:06d}text")
                peak = max(peak, heap())
        assert number == 199_999
        start = time.perf_counter()
        assert texts.find_rows([f"d{number}" for number in range(0, 200_000, 20)])[-1] == 199_980
        print(peak - before, folder.joinpath("rows.arrow").stat().st_size / 2**20, time.perf_counter() - start)
    """
    grown, size, seconds = map(float, run(code, tmp_path / "a").split())
    assert size > 110
    assert grown < 40  # a few batches, of the more than 110 MiB
    assert 10_000 / seconds > 20_000  # lookups a second


def command(code: str, folder: Path) -> list[str]:
    head = (
        "import time\nfrom pathlib import Path\nfrom beir_hybrid.collections.storage import storing\n"
        "from tests.collections.storage.test_stored import *\nfolder = Path(sys.argv[1])\n"
    )
    lines = [line[8:] for line in code.splitlines()]
    return [sys.executable, "-c", head + "\n".join(lines), str(folder)]


def run(code: str, folder: Path) -> str:
    done = subprocess.run(command(code, folder), capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
