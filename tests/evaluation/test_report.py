"""Reports: tables, Markdown, a heat map with the same bytes each time."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation import heat_map
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.evaluation.grid import grid_from_embeddings
from beir_hybrid.evaluation.report import markdown, summary, summary_table, write_report


def results(system: str, seed: int, collection: str = "toy", **arguments) -> Results:
    builder = CollectionBuilder(collection, ("en", "de", "zh-Hant"), CollectionInfo("CC0", "A, B 2020.", "a test"))
    for item in range(6):
        for number, code in enumerate(builder.languages):
            row = builder.add_passage(f"{code}_{item}", "text", number, "a test")
            builder.add_query(f"q{item}_{code}", "question", number, f"q{item}", row, "a test")
    toy = builder.build()
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((2, 18, 6))
    return grid_from_embeddings(*vectors, toy, system=system, batching="hybrid", **arguments)


ONE, TWO = results("one", 1), results("two", 2)


def test_the_summary_has_a_row_a_system_and_the_difference():
    text = summary_table([ONE, TWO])
    for name in ("one (hybrid)", "two (hybrid)", "difference", "mono AP", "cross R@1", "multi R@10", "RankDistance ↓"):
        assert name in text
    assert f"{ONE.value(setting='mono', measure='AP', average='macro'):.3f}" in text
    assert "difference" not in summary_table([ONE])
    assert "micro" in summary_table([ONE], micro=True)


def test_the_difference_is_after_less_before():
    table = summary([ONE, TWO])
    before, after = (one.value(setting="mono", measure="AP", average="macro") for one in (ONE, TWO))
    assert table.rows[2][1] == f"{after - before:+.3f}".replace("-", "\u2212")


def test_what_was_not_evaluated_is_left_open():
    part = results("part", 1, settings=["mono"])
    table = summary([ONE, part])
    assert table.rows[1][1] == table.rows[0][1]
    assert set(table.rows[1][3:]) == set(table.rows[2][3:]) == {"–"}


def test_markdown_says_where_it_comes_from():
    text = markdown([ONE, TWO], picture="heatmap.png")
    digest = ONE.provenance["digest"]
    for said in (
        "# toy",
        "![AP by question",
        "| one (hybrid) |",
        "CC0",
        "A, B 2020.",
        digest,
        "each passage a sentence",
    ):
        assert said in text
    assert "| system | de | en | zh-Hant | mean |" in text
    value = ONE.value(setting="cross", measure="AP", average="macro", query_language="zh-Hant")
    assert f"| {value:.3f} |" in text
    assert "load(name)" in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_heat_map_has_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        heat_map.draw([ONE, TWO], tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    heat_map.draw(results("part", 1, settings=["cross/en-zh-Hant"]), tmp_path / "part.png", measure="R@1")
    assert "matplotlib.pyplot" not in sys.modules


def test_heat_map_refuses_what_it_cannot_draw(tmp_path):
    for wrong, said in [
        ([ONE, TWO, ONE], "one or two systems; found 3"),
        ([], "found 0"),
        ([results("pool", 1, settings=["multi"])], "no mono or cross figures"),
    ]:
        with pytest.raises(BeirHybridError, match=said):
            heat_map.draw(wrong, tmp_path / "map.png")
    assert not (tmp_path / "map.png").exists()


def test_a_report_is_written(tmp_path):
    paths = write_report([ONE, TWO], tmp_path / "report")
    assert [path.name for path in paths] == ["results.json", "report.md", "heatmap.png"]
    assert all(path.stat().st_size for path in paths)
    read = Results.read(paths[0])
    assert read.figures == ONE.figures + TWO.figures
    assert [system["digest"] for system in read.provenance["systems"]] == [ONE.provenance["digest"]] * 2
    assert "heatmap.png" in paths[1].read_text(encoding="utf-8")


def test_a_report_without_cells_has_no_heat_map(tmp_path):
    paths = write_report([results("pool", 1, settings=["multi"])], tmp_path)
    assert [path.name for path in paths] == ["results.json", "report.md"]
    assert "heatmap" not in paths[1].read_text(encoding="utf-8")


def test_collections_have_tables_of_their_own(tmp_path):
    other = results("one", 3, collection="another")
    text = summary_table([ONE, other])
    assert text.index("toy, mean") < text.index("another, mean")
    assert "difference" not in text
    assert len(write_report([ONE, other], tmp_path)) == 3


def test_figures_of_different_data_are_not_compared():
    other = replace(TWO, provenance={**TWO.provenance, "text_mode": "context"})
    with pytest.raises(BeirHybridError, match=r"text_mode sentence and context.*do not compare"):
        summary_table([ONE, other])
    with pytest.raises(BeirHybridError, match="no results"):
        summary_table([])
