"""Published figures: the rows as they were published, beside results of the same task only."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources

import pytest

from beir_hybrid.collections.registry import available
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.figures import Figure, Results, separate
from beir_hybrid.evaluation.published import SOURCES, published_beside, published_figures, published_results
from tests.data import SHARED

FOLDER = importlib.resources.files("beir_hybrid.evaluation").joinpath("published")


def measured(collection: str, languages: tuple[str, ...]) -> Results:
    rows = [
        Figure(collection, "mine", "hybrid", f"{collection}/mono/{code}", "AP", "", code, 0.5, 3) for code in languages
    ]
    return Results(tuple(rows), {"languages": list(languages)})


@pytest.mark.skipif(not (SHARED / "published").is_dir(), reason=f"no published figures in {SHARED}")
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.file)
def test_the_package_has_the_published_files(source):
    assert FOLDER.joinpath(source.file).read_bytes() == (SHARED / "published" / source.file).read_bytes()
    assert {path.name for path in (SHARED / "published").glob("*.csv")} == {one.file for one in SOURCES}


def test_every_row_is_there_with_its_digits():
    rows = [row for one in SOURCES for row in csv.DictReader(FOLDER.joinpath(one.file).read_text().splitlines())]
    figures = published_figures()
    assert len(figures) == len(rows) == 1076
    for figure, row in zip(figures, rows, strict=True):
        assert f"{figure.value:.{figure.digits}f}".removeprefix("0") == row["value"].removeprefix("0")
        assert figure.measure == row["measure"]
        assert figure.collection.split(".")[0].removesuffix("-dev") == row["collection"]
        assert (figure.average or figure.query_language) in (row["query_language"], "macro")
    assert {figure.collection for figure in figures} == {
        "xquad-r", "mlqa-r", "miracl-dev", "xquad-r.context", "mlqa-r.context"
    }  # fmt: skip


def test_rows_are_figures_like_any_other():
    (hybrid,) = (
        one
        for one in published_results("xquad-r")
        if (one.figures[0].system, one.figures[0].batching) == ("xlm-r", "hybrid")
    )
    assert hybrid.value(setting="mono", measure="AP", average="macro") == 0.7977
    assert hybrid.value(setting="mono/ar", measure="AP") == 0.7619
    assert hybrid.value(setting="cross", measure="AP", average="macro", query_language="en") == 0.7473
    assert hybrid.value(setting="multi", measure="RankDistance", average="macro") == 286.6
    assert hybrid.origin == "published"
    assert "2408.10536" in hybrid.provenance["published"]
    assert set(hybrid.to_json()["figures"][0]) == {field.name for field in dataclasses.fields(Figure)}
    assert len(separate(hybrid)) == 1


def test_averages_are_of_their_rows():
    for one in published_results():
        for figure in one.figures:
            if figure.average == "macro" and not figure.query_language:
                rows = [
                    other.value
                    for other in one.figures
                    if (other.kind, other.measure) == (figure.kind, figure.measure) and other.query_language
                ]
                tolerance = 0.06 if figure.measure == "RankDistance" else 0.0006
                assert sum(rows) / len(rows) == pytest.approx(figure.value, abs=tolerance), figure


def test_chosen_by_name():
    assert {figure.batching for figure in published_figures("mlqa-r", system="labse")} == {"x-x-mono", "x-y", "hybrid"}
    assert {figure.average for figure in published_figures("xquad-r.context")} == {"micro"}
    assert {figure.batching for figure in published_figures("miracl-dev", system="bm25")} == {""}
    with pytest.raises(BeirHybridError, match="unknown system among the published figures: 'xlmr'"):
        published_figures(system="xlmr")


def test_only_the_same_task_is_set_beside():
    eleven = available()["xquad-r"].languages
    whole = published_beside(measured("xquad-r", eleven))
    assert [one.label for one in whole][:3] == ["xlm-r (x-x-mono)", "xlm-r (x-y)", "xlm-r (hybrid)"]
    assert {figure.kind for one in whole for figure in one.figures} == {"mono", "cross", "multi"}
    blended = published_beside(measured("xquad-r", (*eleven, "de+en")))
    assert blended == whole
    part = published_beside(measured("xquad-r@de+en", ("de", "en")))
    assert {figure.setting for one in part for figure in one.figures} == {
        f"xquad-r@de+en/mono/{code}" for code in eleven
    }
    assert {one.figures[0].system for one in published_beside(measured("xquad-r.context", eleven))} == {"mbert"}
    for other in ("xquad-r.first100", "toy", "squad", "my data"):
        assert published_beside(measured(other, eleven)) == ()


def test_miracl_averages_are_over_fifteen_languages():
    eighteen = available()["miracl-dev"].languages
    beside = published_beside(measured("miracl-dev", eighteen))
    averages = {one.label for one in beside if any(figure.average for figure in one.figures)}
    assert averages == set()
    assert {one.origin for one in beside} == {"published"}
    fifteen = tuple(code for code in eighteen if code not in ("en", "de", "yo"))
    named = f"miracl-dev@{'+'.join(fifteen)}"
    assert any(figure.average for one in published_beside(measured(named, fifteen)) for figure in one.figures)
