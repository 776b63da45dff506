"""Systems are compared on the figures that they share; runs are averaged; what does not compare is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from beir_hybrid.collections.blend import blended
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.comparing.comparison import Comparison, compare
from beir_hybrid.evaluation.comparing.significance import TestSettings, holm
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.evaluation.grid import grid_from_embeddings
from beir_hybrid.evaluation.reports.comparison_report import comparison_csv, comparison_tables
from tests.conftest import make_collection

TOY = make_collection(items=40, missing=0.1)
QUICK = TestSettings(permutations=500, resamples=200)


def measured(system: str, noise: float, seed: int = 0, collection=TOY, **arguments) -> Results:
    """Vectors of the items with some noise: the less, the better the system."""
    generator = np.random.default_rng(seed)
    items = np.random.default_rng(99).standard_normal((len(collection.items), 12))
    queries = items[collection.query_item]
    passages = generator.standard_normal((len(collection.passages), 12))
    passages[collection.relevant.passages] = queries[collection.relevant.queries]
    noisy = (vectors + noise * generator.standard_normal(vectors.shape) for vectors in (queries, passages))
    return grid_from_embeddings(*noisy, collection, system=system, **arguments)


ONE, TWO = measured("one", 1.0), measured("two", 0.4, seed=1)


@pytest.fixture(scope="module")
def both() -> Comparison:
    return compare({"one": ONE, "two": TWO}, settings=QUICK)


def test_every_shared_figure_is_compared(both):
    figures = {(f.setting, f.measure, f.average, f.query_language): f.value for f in ONE.figures}
    after = {(f.setting, f.measure, f.average, f.query_language): f.value for f in TWO.figures}
    assert len(both.differences) == len(figures)
    for one in both.differences:
        key = (one.setting, one.measure, one.average, one.query_language)
        assert one.baseline_value == pytest.approx(figures[key], abs=1e-12)
        assert one.value == pytest.approx(after[key], abs=1e-12)
        assert one.difference == pytest.approx(one.value - one.baseline_value, abs=1e-9)
        assert one.low <= one.difference <= one.high
        assert one.wins + one.ties + one.losses == one.pairs
        assert one.p <= one.corrected <= 1


def test_the_better_system_wins_also_where_lower_is_better(both):
    (distance,) = both.select(kind="multi", measure="RankDistance", average="macro")
    assert distance.difference < 0
    assert distance.wins > distance.losses
    (average,) = both.select(kind="mono", measure="AP", average="macro")
    assert average.difference > 0
    assert average.corrected < 0.01
    assert average.pairs == 40  # items, not questions


def test_a_setting_is_tested_by_its_questions(both):
    with_t = compare({"one": ONE, "two": TWO}, settings=dataclasses.replace(QUICK, test="t"))
    values = [{one.key: one.values for one in run.queries}["toy/mono/de", "AP"] for run in (ONE, TWO)]
    (one,) = with_t.select(setting="toy/mono/de", measure="AP")
    assert one.p == pytest.approx(scipy.stats.ttest_rel(*values).pvalue, abs=1e-12)
    (one,) = both.select(setting="toy/mono/de", measure="AP")
    assert (one.wins, one.losses) == ((values[1] > values[0]).sum(), (values[1] < values[0]).sum())
    difference = values[1] - values[0]
    assert one.effect == pytest.approx(difference.mean() / difference.std(ddof=1))


def test_families_are_the_settings_of_a_kind_and_measure(both):
    for kind, size in (("mono", 3), ("cross", 6), ("multi", 3)):
        members = both.select(kind=kind, measure="AP", average="")
        assert {one.family for one in members} == {len(members)} == {size}
        assert [one.corrected for one in members] == holm([one.p for one in members]).tolist()
    third = compare({"one": ONE, "two": TWO, "three": measured("three", 0.9, 2)}, settings=QUICK)
    assert {one.family for one in third.select(kind="mono", measure="AP", average="")} == {6}
    assert {one.system for one in third.differences} == {"two", "three"}
    other = compare({"one": ONE, "two": TWO}, settings=QUICK, baseline="two", measures=["AP"])
    assert {(one.baseline, one.system, one.measure) for one in other.differences} == {("two", "one", "AP")}


def test_runs_are_averaged_question_by_question():
    runs = [measured("one", 1.0, seed) for seed in (0, 5, 6)]
    found = compare({"one": runs, "two": TWO}, settings=QUICK)
    (one,) = found.select(kind="cross", measure="AP", average="macro", query_language="")
    means = [run.value(setting="cross", measure="AP", average="macro") for run in runs]
    assert one.baseline_value == pytest.approx(np.mean(means))
    (spread,) = (s for s in found.spreads if (s.setting, s.measure, s.average) == ("toy/cross", "AP", "macro"))
    assert (spread.system, spread.runs) == ("one", 3)
    assert (spread.mean, spread.deviation) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
    same = compare({"one": [ONE, ONE], "two": ONE}, settings=QUICK)
    assert {(row.difference, row.p, row.ties) for row in same.differences} == {
        (0.0, 1.0, row.pairs) for row in same.differences
    }


def test_questions_are_paired_by_id():
    turned = tuple(
        dataclasses.replace(one, ids=one.ids[::-1], items=one.items[::-1], values=one.values[::-1])
        for one in ONE.queries
    )
    found = compare({"one": ONE, "turned": dataclasses.replace(ONE, queries=turned)}, settings=QUICK)
    assert all(one.difference == 0 and one.ties == one.pairs for one in found.differences)
    missing = tuple(
        dataclasses.replace(one, ids=one.ids[1:], items=one.items[1:], values=one.values[1:]) for one in ONE.queries
    )
    with pytest.raises(BeirHybridError, match="answers other questions"):
        compare({"one": ONE, "other": dataclasses.replace(ONE, queries=missing)})


def test_shared_settings_only():
    part = measured("part", 0.5, settings=["mono", "cross/en-de"])
    found = compare({"one": ONE, "part": part}, settings=QUICK)
    assert {(one.kind, one.average) for one in found.differences} == {
        ("mono", ""), ("mono", "macro"), ("mono", "micro"), ("cross", "")
    }  # fmt: skip
    assert {one.family for one in found.select(kind="cross")} == {1}


def test_blends_are_kinds_of_their_own():
    data = blended(make_collection(items=20, missing=0), ["de+en"])
    found = compare({name: measured(name, 0.5, seed, data) for seed, name in enumerate("ab")}, settings=QUICK)
    assert {one.kind for one in found.differences} == {"mono", "cross", "multi", "blend/mono", "blend/multi"}
    text = comparison_tables(found)[0].text()
    assert "blend/mono AP" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provenance": {**TWO.provenance, "digest": "0"}}, "digest"),
        ({"provenance": {**TWO.provenance, "text_mode": "context"}}, "text_mode sentence and context"),
        ({"queries": ()}, "do not hold the values of each question"),
        ({"queries": TWO.queries * 2}, "two systems of one name"),
        ({"figures": tuple(dataclasses.replace(f, collection="other") for f in TWO.figures)}, "on one collection"),
    ],
)
def test_what_does_not_compare_is_refused(change, said):
    with pytest.raises(BeirHybridError, match=said):
        compare({"one": ONE, "two": dataclasses.replace(TWO, **change)})


def test_of_another_depth_only_what_looks_no_deeper_is_compared(both):
    cut = dataclasses.replace(TWO, provenance={**TWO.provenance, "depth": 9})
    found = compare({"one": ONE, "two": cut}, settings=QUICK)
    assert {one.measure for one in found.differences} == {"R@1"}
    assert found.select(measure="R@1") == both.select(measure="R@1")
    assert found.provenance["left_out"] == {"two": ["AP", "R@10", "RankDistance"]}
    assert "different depth: AP, R@10, RankDistance of two." in comparison_tables(found)[0].note
    with pytest.raises(BeirHybridError, match="depth full and 9"):
        compare({"one": ONE, "two": cut}, settings=QUICK, measures=["AP"])
    alike = dataclasses.replace(ONE, provenance={**ONE.provenance, "depth": 9})
    assert compare({"one": alike, "two": cut}, settings=QUICK).differences == both.differences


def test_wrong_calls_are_named():
    with pytest.raises(BeirHybridError, match="1 systems to compare"):
        compare({"one": ONE})
    with pytest.raises(BeirHybridError, match="unknown baseline 'three'"):
        compare({"one": ONE, "two": TWO}, baseline="three")
    with pytest.raises(BeirHybridError, match="unknown measure 'nDCG@10'"):
        compare({"one": ONE, "two": TWO}, measures=["nDCG@10"])


def test_the_same_seed_gives_the_same_file(both, tmp_path):
    for name in ("a", "b"):
        compare({"one": ONE, "two": TWO}, settings=QUICK).write_json(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    written = json.loads((tmp_path / "a").read_text())
    assert written["provenance"]["test"]["seed"] == 0
    assert written["provenance"]["baseline"] == "one"
    assert [row["p"] for row in written["differences"]] == [row.p for row in both.differences]
    other = compare({"one": ONE, "two": TWO}, settings=dataclasses.replace(QUICK, seed=1))
    assert [row.low for row in other.differences] != [row.low for row in both.differences]


def test_tables_of_a_comparison(both):
    (average,) = both.select(kind="multi", measure="RankDistance", average="macro")
    tables = comparison_tables(both, by_language=True)
    text = tables[0].text()
    assert "multi RankDistance ↓" in text
    assert f"{average.wins}/{average.ties}/{average.losses}" in text
    assert "\u2212" in text
    assert "randomisation test of 500 sign vectors" in text
    assert [table.title.split(": ")[0] for table in tables[1:]] == [
        f"toy, {kind} {measure}"
        for kind, measure in [
            ("mono", "AP"), ("mono", "R@1"), ("cross", "AP"), ("cross", "R@1"), ("multi", "AP"), ("multi", "R@10"),
            ("multi", "RankDistance ↓"),
        ]
    ]  # fmt: skip
    assert {len(table.rows) for table in tables[1:]} == {3}
    assert "3 tests in the family" in tables[1].note
    rows = comparison_csv(both).splitlines()
    assert len(rows) == 1 + len(both.differences)
    assert rows[0].startswith("collection,baseline,system,setting,measure")


def test_settings_stand_alone_where_there_is_no_average():
    names = ["cross/en-de", "cross/en-hi", "cross/de-hi"]
    runs = {name: measured(name, noise, settings=names, measures=["AP"]) for name, noise in (("a", 1.0), ("b", 0.5))}
    (table,) = comparison_tables(compare(runs, settings=QUICK))
    assert {row[0] for row in table.rows} == set(names)
