from __future__ import annotations

import gzip
import json
import os
import random
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.storage import jsonl
from beir_hybrid.collections.storage.jsonl import id_field, read_jsonl, text_field
from beir_hybrid.errors import BeirHybridError
from tests.data import QA, needs_qa

RECORDS = [{"_id": f"d{i}", "text": "größer שלום 😀\n\\"[i % 3 :] * (i % 7), "n": i} for i in range(40)]
PLAIN = b"".join(json.dumps(r, ensure_ascii=i % 2 == 0).encode() + b"\n" for i, r in enumerate(RECORDS))


def read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    return list(read_jsonl(path, "a corpus"))


def outcome(path: Path) -> list[dict[str, Any]] | None:
    """The records of a file, or None where the reader refuses it; any other exception is a failure of the test."""
    try:
        return [record for _, record in read(path)]
    except BeirHybridError as error:
        assert str(error).startswith(str(path))
        return None


def reference(data: bytes) -> list[dict[str, Any]] | None:
    """What a plain file holds, by the standard library's parser; None where it is not JSON lines."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = []
    try:
        for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            if line.strip():
                record = json.loads(line.decode("utf-8"), parse_constant=refuse)
                json.dumps(record, ensure_ascii=False).encode("utf-8")  # refuses a lone surrogate
                if not isinstance(record, dict):
                    return None
                found.append(record)
    except (ValueError, RecursionError):
        return None
    return found


values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
records = st.lists(st.dictionaries(st.text(), values | st.lists(values, max_size=3), max_size=4), max_size=12)


@settings(max_examples=100, deadline=None)
@given(records, st.data())
def test_round_trip_whatever_the_form(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], data: Any) -> None:
    ends = [b"\n", b"\r\n", b"\n\n", b" \r\n\t\n"]
    written, expected, number = b"\xef\xbb\xbf" if data.draw(st.booleans()) else b"", [], 1
    for row in rows:
        end = data.draw(st.sampled_from(ends))
        written += json.dumps(row, ensure_ascii=data.draw(st.booleans())).encode() + end
        expected.append((number, row))
        number += end.count(b"\n")
    if data.draw(st.booleans()):
        written = written.rstrip()
    if data.draw(st.booleans()):  # in several members, with padding between
        cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=3)))
        parts = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
        padding = b"\0" * data.draw(st.sampled_from([0, 1, 9]))
        written = b"".join(gzip.compress(part) + padding for part in parts)
    path = tmp_path_factory.mktemp("jsonl") / "a"
    path.write_bytes(written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BLOCK", data.draw(st.sampled_from([1, 2, 3, 7, 64, 2**18])))
        assert read(path) == expected


@pytest.mark.parametrize(("block", "files"), [(5, 300), (2**18, 700)])
def test_fuzz_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, files: int) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", block)
    random_ = random.Random(block)
    refused = 0
    for number in range(files):
        path = tmp_path / "a.jsonl.gz"  # a plain file, whatever its name
        data = mutated(PLAIN, random_)
        path.write_bytes(data)
        found = outcome(path)
        assert found == reference(data), f"file {number}"
        refused += found is None
    assert files // 5 < refused < files


@pytest.mark.parametrize(("block", "files"), [(5, 300), (2**18, 700)])
def test_fuzz_gzip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, files: int) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", block)
    random_ = random.Random(block)
    whole = gzip.compress(PLAIN)
    assert outcome_of(tmp_path, whole) == RECORDS
    refused = 0
    for _ in range(files):
        data = mutated(whole, random_)
        found = outcome_of(tmp_path, data)
        # The checksum covers all but the header: what is read at all is what was written.
        assert found is None or found == (RECORDS if data else [])
        refused += found is None
    assert refused > files // 2


def outcome_of(folder: Path, data: bytes) -> list[dict[str, Any]] | None:
    (folder / "a.jsonl").write_bytes(data)  # gzip, whatever its name
    return outcome(folder / "a.jsonl")


def mutated(data: bytes, random_: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random_.choice([1, 1, 2, 8])):
        place = random_.randrange(len(changed) + 1)
        kind = random_.choice(["flip", "cut", "insert", "remove", "swap"])
        if kind == "flip" and place < len(changed):
            changed[place] ^= 1 << random_.randrange(8)
        elif kind == "cut":
            del changed[place:]
        elif kind == "insert":
            changed[place:place] = random_.choice([random_.randbytes(3), b"\n", b"\r", b'"', b"\\ud800", b"{", b"\0"])
        elif kind == "remove":
            del changed[place : place + random_.randrange(20)]
        elif place < len(changed):
            changed[place] = random_.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "not valid JSON .* at column"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid JSON .*surrogate"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8 at byte 8 of the line"),
        (b'{"a": "gr\xfc\xdf"}', "not UTF-8 at byte 10 of the line"),
        (b"[1]", "a JSON array, not an object"),
        (b"3", "a JSON number, not an object"),
        (b"null", "a JSON null, not an object"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),  # the mark belongs at the start of the file only
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": 1} {"a": 2}', "not valid JSON"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_bad_line_is_named_and_those_before_it_are_read(tmp_path: Path, line: bytes, fault: str, pack: Any) -> None:
    path = tmp_path / "a"
    path.write_bytes(pack(b'{"a": 1}\n\n{"a": 2}\r\n' + line + b'\n{"a": 3}\n'))
    lines = read_jsonl(path, "a corpus")
    assert [next(lines), next(lines)] == [(1, {"a": 1}), (3, {"a": 2})]
    with pytest.raises(BeirHybridError, match=f"a, line 4: .*{fault}.*; expected a corpus.$"):
        next(lines)


def test_gzip_cut_short_says_where_it_stopped(tmp_path: Path) -> None:
    lines = [b'{"n": %d, "t": "%s"}\n' % (i, random.Random(i).randbytes(9).hex().encode()) for i in range(30_000)]
    whole = gzip.compress(b"".join(lines))
    path = tmp_path / "a.gz"
    for size, least in ((len(whole) * 2 // 3, 18_000), (len(whole) - 3, 30_000), (5, 0), (2, 0)):
        path.write_bytes(whole[:size])
        seen = 0
        with pytest.raises(BeirHybridError, match="cut short") as caught:
            for seen, record in read_jsonl(path, "a corpus"):
                assert record["n"] == seen - 1
        assert f"stopped after line {seen}." in str(caught.value)
        assert seen >= least  # what was there to read has been read
    path.write_bytes(whole[:-6] + b"\0" + whole[-5:])
    with pytest.raises(BeirHybridError, match="corrupt"):
        read(path)


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match="no such file; expected a corpus"):
        read(tmp_path / "none")
    with pytest.raises(BeirHybridError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(BeirHybridError, match="cannot be read"):
        read(Path("a\0b"))
    (tmp_path / "empty").touch()
    assert read(tmp_path / "empty") == []


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_from_a_pipe(tmp_path: Path, pack: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(pack(PLAIN),), daemon=True)
    writer.start()
    assert [record for _, record in read(tmp_path / "pipe")] == RECORDS
    writer.join(timeout=10)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_longest_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", 64)
    monkeypatch.setattr(jsonl, "MAX_LINE", 1000)
    path = tmp_path / "a"
    longest = b'{"a": "' + b"x" * 991 + b'"}'
    assert len(longest) == 1000
    path.write_bytes(pack(b'{"a": 1}\n' + longest + b"\n" + longest))
    assert [number for number, _ in read(path)] == [1, 2, 3]
    path.write_bytes(pack(b'{"a": 1}\n' + longest[:-2] + b'x"}\n'))
    with pytest.raises(BeirHybridError, match=r"line 2: longer than 1000 bytes; expected a corpus\.$"):
        read(path)


def test_a_bomb_does_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 2**20)
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(2**25), 1))
    (tmp_path / "lines").write_bytes(gzip.compress(b'{"a": "b"}\n' * 100_000, 1))
    tracemalloc.start()
    try:
        with pytest.raises(BeirHybridError, match="line 1: longer than"):
            read(tmp_path / "bomb")
        assert sum(1 for _ in read_jsonl(tmp_path / "lines", "a corpus")) == 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_text_field() -> None:
    record = {"a": "x", "none": None, "number": 3, "list": [], "empty": "", "true": True}
    assert text_field(record, "a", "f, line 1") == "x"
    assert text_field(record, "empty", "f, line 1", default="d") == ""
    assert text_field(record, "none", "f, line 1", default="") == ""
    assert text_field(record, "missing", "f, line 1", default="d") == "d"
    for key in ("none", "missing"):
        with pytest.raises(BeirHybridError, match=f"^f, line 1: no '{key}'; expected a string. The object has 'a', "):
            text_field(record, key, "f, line 1")
    for key, kind in (("number", "number"), ("list", "array"), ("true", "boolean")):
        with pytest.raises(BeirHybridError, match=f"^f, line 1: '{key}' is a JSON {kind}; expected a string"):
            text_field(record, key, "f, line 1", default="d")


def test_id_field() -> None:
    keys = ("_id", "id", "docid")
    assert id_field({"docid": "a", "id": "b"}, keys, "f") == "b"
    assert id_field({"docid": 7, "_id": None}, keys, "f") == "7"
    assert id_field({"_id": 0}, keys, "f") == "0"
    for record, fault in (
        ({}, "no id; expected '_id' or 'id' or 'docid'. The object has no fields"),
        ({"text": "x"}, "no id; .*'text'"),
        ({"_id": ""}, "'_id' is empty"),
        ({"_id": True}, "'_id' is a JSON boolean"),
        ({"id": 1.5}, "'id' is a JSON number; expected an id, a string or a whole number"),
        ({"id": ["a"], "docid": "b"}, "'id' is a JSON array"),
    ):
        with pytest.raises(BeirHybridError, match=f"^f: {fault}"):
            id_field(record, keys, "f")


@needs_qa
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("ar_arcd", 1_395),
        ("en_nqg_squadtrain_sent", 11_877),
        ("en_qed_dev", 1_355),
        ("ja_jaquad_train", 31_748),
        ("th_iapp_train", 5_761),
        ("zh_cmrc2018_dev", 3_219),
    ],
)
def test_counts_of_real_files(name: str, rows: int) -> None:
    path = QA / f"{name}.jsonl.gz"
    found = list(read_jsonl(path, "question-passage pairs"))
    assert [number for number, _ in found] == list(range(1, rows + 1))
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        assert [record for _, record in found] == [json.loads(line) for line in stream]
