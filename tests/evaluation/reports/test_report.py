"""Reports: tables, Markdown, a heat map with the same bytes each time."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from beir_hybrid.collections.blend import blended
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.figures import Figure, Results
from beir_hybrid.evaluation.grid import grid_from_embeddings
from beir_hybrid.evaluation.published import SOURCES, PublishedFigure, published_figures
from beir_hybrid.evaluation.reports import heat_map
from beir_hybrid.evaluation.reports.report import (
    by_language,
    figures_csv,
    latex,
    markdown,
    summary,
    summary_table,
    write_report,
)
from beir_hybrid.evaluation.reports.tables import Table, notes_once
from tests.conftest import make_collection


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
    assert table.rows[2][2] == f"{after - before:+.3f}".replace("-", "\u2212")


def test_what_was_not_evaluated_is_left_open():
    part = results("part", 1, settings=["mono"])
    table = summary([ONE, part])
    assert table.rows[1][2] == table.rows[0][2]
    assert set(table.rows[1][4:]) == set(table.rows[2][4:]) == {"–"}


def test_markdown_says_where_it_comes_from():
    text = markdown([ONE, TWO], picture="heatmap.png")
    digest = ONE.provenance["digest"]
    for said in (
        "# toy",
        "![AP by question",
        "| one (hybrid) | ● ours |",
        "CC0",
        "A, B 2020.",
        digest,
        "each passage a sentence",
    ):
        assert said in text
    assert "| system | origin | de | en | zh-Hant | mean |" in text
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
    assert [path.name for path in paths] == [
        "results.json", "queries.parquet", "report.md", "report.html", "report.tex", "figures.csv", "heatmap.png"
    ]  # fmt: skip
    assert all(path.stat().st_size for path in paths)
    assert {path.name for path in (tmp_path / "report").iterdir()} == {path.name for path in paths}
    read = Results.read(paths[0])
    assert [one.key for one in read.queries] == [one.key for one in (*ONE.queries, *TWO.queries)]
    assert read.figures == ONE.figures + TWO.figures
    assert [system["digest"] for system in read.provenance["systems"]] == [ONE.provenance["digest"]] * 2
    assert "heatmap.png" in paths[2].read_text(encoding="utf-8")


def test_a_report_without_cells_has_no_heat_map(tmp_path):
    paths = write_report([results("pool", 1, settings=["multi"])], tmp_path)
    assert "heatmap.png" not in [path.name for path in paths]
    assert "heatmap" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_collections_have_tables_of_their_own(tmp_path):
    other = results("one", 3, collection="another")
    text = summary_table([ONE, other])
    assert text.index("toy, mean") < text.index("another, mean")
    assert "difference" not in text
    assert len(write_report([ONE, other], tmp_path)) == 7


def test_figures_of_different_data_are_not_compared():
    other = replace(TWO, provenance={**TWO.provenance, "text_mode": "context"})
    with pytest.raises(BeirHybridError, match=r"text_mode sentence and context.*do not compare"):
        summary_table([ONE, other])
    with pytest.raises(BeirHybridError, match="no results"):
        summary_table([])


def reference(value: float, digits: int) -> Results:
    row = PublishedFigure("toy", "xlm-r", "x-y", "toy/mono", "AP", "macro", "", value, 0, digits, SOURCES[0])
    return Results((row,), {"published": "A paper 2024"})


def test_published_rows_are_told_apart_and_keep_their_digits(tmp_path):
    untrained = results("plain", 3)
    untrained = replace(untrained, figures=tuple(replace(figure, batching="") for figure in untrained.figures))
    references = [reference(0.123, 2), reference(0.81, 4)]
    table = summary([untrained, ONE], references=references)
    assert [row[:3] for row in table.rows[:2]] == [
        ("xlm-r (x-y)", "published", "0.12"), ("xlm-r (x-y)", "published", "0.8100")
    ]  # fmt: skip
    assert [row[1] for row in table.rows[2:]] == ["baseline", "ours", ""]
    before, after = (one.value(setting="mono", measure="AP", average="macro") for one in (untrained, ONE))
    assert table.rows[-1][2] == f"{after - before:+.3f}".replace("-", "\u2212")
    assert "published: A paper 2024." in table.note
    assert "published" not in summary([ONE], "micro", references).note  # that average was not published
    assert len(by_language([ONE], "mono", "AP", references).rows) == 3
    assert len(by_language([ONE], "cross", "AP", references).rows) == 1
    for path in write_report([untrained, ONE], tmp_path, references):
        if path.suffix in (".md", ".tex", ".csv"):
            assert "A paper 2024" in path.read_text(encoding="utf-8")
    assert "xlm-r" not in (tmp_path / "results.json").read_text(encoding="utf-8")
    other = replace(references[0], figures=tuple(replace(f, collection="another") for f in references[0].figures))
    assert summary([ONE], references=[other]).rows == summary([ONE]).rows


def test_figures_as_csv():
    rows = list(csv.DictReader(figures_csv([ONE], [reference(0.5, 1)]).splitlines()))
    assert len(rows) == len(ONE.figures) + 1
    assert (rows[0]["origin"], rows[0]["source"], rows[1]["origin"]) == ("published", "A paper 2024", "ours")
    assert [float(row["value"]) for row in rows[1:]] == [figure.value for figure in ONE.figures]


def test_latex_is_whole_and_escaped():
    text = latex([results("a_b & 50%", 1), TWO])
    assert r"a\_b \& 50\% (hybrid)" in text
    for one, other in ((r"\begin{table}", r"\end{table}"), (r"\begin{tabular}", r"\end{tabular}"), ("{", "}")):
        assert text.count(one) == text.count(other) > 0
    tables = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}(.*?)\\end", text, re.DOTALL)
    assert len(tables) == text.count(r"\begin{tabular}")
    for table in tables:
        columns, body = table
        for line in body.splitlines():
            if line.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
    assert "↓" not in text
    assert "\u2212" not in text


def test_origins_have_signs_and_rules():
    rows = (
        ("xlm-r", "published", "0.5"),
        ("BM25", "baseline", "0.6"),
        ("E5", "baseline", "0.7"),
        ("mine", "ours", "–"),
    )
    table = Table("title", ("system", "origin", "AP"), rows, 2)
    signed = ["◇ published", "○ baseline", "○ baseline", "● ours"]
    assert [line.split("|")[2].strip() for line in table.markdown().splitlines()[2:]] == signed
    assert all(sign in table.text() for sign in signed)
    assert "BM25,baseline,0.6" in table.csv()
    rules = [line for line in table.latex().splitlines() if "&" in line or line == r"\midrule"]
    assert [rules.index(line) for line in rules if "BM25" in line or "mine" in line] == [4, 7]
    assert [number for number, line in enumerate(rules) if line == r"\midrule"] == [1, 3, 6]


def test_languages_without_an_analyzer_are_named():
    about = {"engine": "Lucene", "analyzers": {"de": "a.German", "el": "plain words"}, "without_analyzer": ["el", "th"]}
    one = replace(results("BM25", 1), provenance={**ONE.provenance, "encoder": about})
    assert "BM25 (hybrid) has no analyzer for el, th: plain words there." in summary([one]).note
    text = markdown([one])
    assert "- analyzers: de: a.German; el: plain words\n- without_analyzer: el, th" in text


def test_notes_are_said_once():
    first, second = (Table(title, ("a",), (), note=note) for title, note in (("1", "All."), ("2", "All. More.")))
    assert [one.note for one in notes_once([first, second, first])] == ["All.", "More.", ""]


def test_a_table_as_csv():
    table = Table("title", ("system", "AP"), (("a, b", "0.5"), ("difference", "\u22120.1"), ("c", "–")))
    assert table.csv() == 'system,AP\n"a, b",0.5\ndifference,-0.1\nc,\n'


def test_blends_have_columns_of_their_own():
    data = blended(make_collection(items=12, missing=0), ["de+en", "en+hi"])
    generator = np.random.default_rng(0)
    vectors = [generator.standard_normal((len(texts), 6)) for texts in (data.queries, data.passages)]
    found = grid_from_embeddings(*vectors, data, system="one")
    table = summary([found])
    row = dict(zip(table.heading, table.rows[0], strict=True))
    for kind in ("blend/mono", "blend/multi"):
        value = found.value(setting=kind, measure="AP", average="macro")
        assert row[f"{kind} AP"] == f"{value:.3f}"
    languages = by_language([found], "blend/mono", "AP")
    assert languages.heading == ("system", "origin", "de+en", "en+hi", "mean")
    cells = [found.value(setting=f"blend/de+en/{code}", measure="AP") for code in ("en", "de", "hi")]
    assert languages.rows[0][2] == f"{np.mean(cells):.3f}"
    assert "blend/multi (a question of two languages" in markdown([found])


def test_the_published_rows_stand_in_a_report_of_their_collection():
    row = Figure("xquad-r", "mine", "", "xquad-r/multi", "RankDistance", "macro", "", 900.25, 3)
    figures = published_figures("xquad-r", system="labse", batching="hybrid")
    table = summary([Results((row,))], references=[Results(figures, {"published": "A paper"})])
    assert table.rows == (("labse (hybrid)", "published", "221.1"), ("mine", "baseline", "900.2"))
