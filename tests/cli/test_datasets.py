from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from beir_hybrid.cli import app
from beir_hybrid.collections.registry import available, load_collection
from tests.data import LAREQA, needs_lareqa


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["datasets", *(str(argument) for argument in arguments)])


def test_all_are_listed_with_licence_and_size() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    for name, spec in available().items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert spec.info.licence.split()[0] in line
        assert ("bundled" in line) == spec.bundled
    assert "non-commercial" in result.output


def test_a_collection_is_shown() -> None:
    result = run("show", "sample-test@de+en", "--items", "1")
    assert result.exit_code == 0, result.output
    collection = load_collection("sample-test@de+en")
    assert "settings: 2 mono, 2 cross, 2 multi" in result.output
    assert collection.digest in result.output
    first = next(iter(collection.view("mono/de").queries.values()))
    assert first in result.output
    assert "licence: Apache-2.0" in result.output


def test_a_setting_and_a_blend_are_shown() -> None:
    result = run("show", "sample-test/cross/en-de", "--items", "2")
    assert f"36 questions, {len(load_collection('sample-test').view('mono/de').corpus)} passages" in result.output
    assert "_en" in result.output
    blend = run("show", "sample-test/blend/de+en/multi")
    assert blend.exit_code == 0, blend.output
    assert "sample-test/blend/de+en/multi" in blend.output


def test_a_folder_is_prepared_and_shown(tmp_path: Path) -> None:
    result = run("prepare", "sample-test/cross/en-de", tmp_path / "one")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "one" / "qrels" / "test.tsv").is_file()
    shown = run("show", tmp_path / "one")
    assert shown.exit_code == 0, shown.output
    assert "36 " in shown.output
    again = run("prepare", "sample-test/cross/en-de", tmp_path / "one")
    assert again.exit_code == 2
    assert "--overwrite" in again.output
    assert run("prepare", "sample-test/cross/en-de", tmp_path / "one", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "sample"), "unknown collection 'sample'"),
        (("show", "./nowhere"), "nowhere"),
        (("prepare", "sample-test", "out"), "sample-test"),
        (("prepare", "sample-test/cross/en-de", "out", "--layout", "xml"), "layout"),
    ],
)
def test_wrong_calls_are_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@needs_lareqa
def test_all_of_xquad_r_is_prepared(tmp_path: Path) -> None:
    result = run("prepare", "xquad-r.first20", tmp_path / "all", "--all", "--data-dir", LAREQA)
    assert result.exit_code == 0, result.output
    settings = [path.parent.relative_to(tmp_path / "all").as_posix() for path in tmp_path.glob("all/*/*/corpus.jsonl")]
    assert len(settings) == 132
    assert {"mono/en", "cross/en-de", "multi/zh"} <= set(settings)
