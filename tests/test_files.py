from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import (
    atomic_file,
    atomic_folder,
    cache_root,
    check_target,
    check_writable,
    offline,
    read_json,
    write_json,
)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"ü": [1]})
    assert read_json(tmp_path / "new" / "a.json", "a test") == {"ü": [1]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(BeirHybridError, match="No space left"), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_is_never_seen(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match="No space left"), atomic_folder(tmp_path / "a") as temporary:
        (temporary / "b").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_other_errors_pass_unchanged_and_clean_up(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_folder(tmp_path / "a"):
        raise KeyError("mine")
    assert not list(tmp_path.iterdir())


def test_the_first_of_two_folders_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as ours:
        (ours / "who").write_text("ours")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "who").write_text("theirs")
    assert (tmp_path / "a" / "who").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_race_lost_at_the_rename_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def beaten(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "who").write_text("theirs")
        real(source, target)

    monkeypatch.setattr("beir_hybrid.files.os.rename", beaten)
    with atomic_folder(tmp_path / "a") as ours:
        (ours / "who").write_text("ours")
    assert (tmp_path / "a" / "who").read_text() == "theirs"


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "a", replace=True) as temporary:
            (temporary / "who").write_text(text)
    assert (tmp_path / "a" / "who").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_permission_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BeirHybridError, match="cannot be written"), atomic_file(tmp_path / "file" / "a.json"):
        pass


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "line 1: not valid JSON"), (b"[1,\n\n2", "line 3"), (b"\xff\xfe", "not UTF-8"), (b"[" * 10**6, "deeply")],
)
def test_a_damaged_json_names_the_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BeirHybridError, match=said):
        read_json(tmp_path / "a.json", "a test")


def test_a_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match=r"a\.json: no such file; expected a test"):
        read_json(tmp_path / "a.json", "a test")


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("BEIR_HYBRID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_root() == tmp_path / "x" / "beir_hybrid"


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_offline(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("BEIR_HYBRID_OFFLINE", value)
    assert offline() is expected


def test_an_unknown_name_suggests_the_nearest() -> None:
    assert str(unknown("collection", "xqad-r", ["xquad-r", "mlqa-r"])) == (
        "unknown collection 'xqad-r'. Did you mean 'xquad-r'? Known: xquad-r, mlqa-r."
    )


def test_what_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a.json")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(BeirHybridError, match="cannot be written"):
        check_writable(tmp_path / "file" / "a.json")


def test_a_folder_with_something_else_is_never_replaced(tmp_path: Path) -> None:
    check_target(tmp_path / "new", "a model", "modules.json", replace=False)
    check_target(tmp_path, "a model", "modules.json", replace=True)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(BeirHybridError, match="is not a model"):
        check_target(tmp_path, "a model", "modules.json", replace=True)
    (tmp_path / "modules.json").write_text("[]")
    check_target(tmp_path, "a model", "modules.json", replace=True)
    with pytest.raises(BeirHybridError, match="exists already"):
        check_target(tmp_path, "a model", "modules.json", replace=False)
