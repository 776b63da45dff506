"""Figures go to JSON and come back; what is not a result is refused by name."""

from __future__ import annotations

import json

import pytest

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.figures import Figure, Results, combine, kind_of, lower_is_better


def figure(**fields):
    row = {
        "collection": "toy",
        "system": "one",
        "batching": "hybrid",
        "setting": "toy/mono/en",
        "measure": "AP",
        "average": "",
        "query_language": "en",
        "value": 0.5,
        "queries": 3,
    }
    return Figure(**{**row, **fields})


RESULTS = Results(
    (
        figure(),
        figure(setting="toy/mono", average="macro", query_language="", value=0.25),
        figure(setting="toy/cross", average="macro", query_language="", value=0.1),
        figure(setting="toy/cross", average="macro", query_language="en", value=0.2),
    ),
    {"collection": "toy"},
)


def test_results_come_back_as_they_were(tmp_path):
    RESULTS.write_json(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == RESULTS
    written = json.loads((tmp_path / "results.json").read_text())
    assert list(written) == ["provenance", "figures"]
    assert ",".join(written["figures"][0]) == (
        "collection,system,batching,setting,measure,average,query_language,value,queries"
    )


def test_value_finds_the_one_figure():
    assert RESULTS.value(setting="toy/mono/en", measure="AP") == 0.5
    assert RESULTS.value(setting="mono/en", measure="AP") == 0.5
    assert RESULTS.value(setting="mono", measure="AP", average="macro") == 0.25
    assert RESULTS.value(setting="cross", measure="AP", average="macro") == 0.1
    assert RESULTS.value(setting="cross", measure="AP", average="macro", query_language="en") == 0.2
    with pytest.raises(BeirHybridError, match=r"no figure with .*There are: toy/cross AP macro"):
        RESULTS.value(setting="multi/en", measure="AP")
    with pytest.raises(BeirHybridError, match="a figure has no field 'sistem'"):
        RESULTS.select(sistem="one")


def test_systems_are_combined_with_their_provenance():
    assert combine([RESULTS]) is RESULTS
    other = Results((figure(system="two", batching=""),), {"collection": "toy", "seed": 1})
    both = combine([RESULTS, other])
    assert [system["label"] for system in both.provenance["systems"]] == ["one (hybrid)", "two"]
    assert both.provenance["systems"][1]["seed"] == 1
    assert both.value(setting="mono/en", measure="AP", system="two") == 0.5
    with pytest.raises(BeirHybridError, match=r"2 figures .*name the system: toy, one, hybrid; toy, two"):
        both.value(setting="mono/en", measure="AP")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("toy@de+en/mono/en", "mono"),
        ("toy@de+en/mono", "mono"),
        ("toy@de+en/cross/zh-Hant-de", "cross"),
        ("toy@de+en/multi/de", "multi"),
        ("toy@de+en/blend/de+en/en", "blend/mono"),
        ("toy@de+en/blend/de+en/multi", "blend/multi"),
        ("toy@de+en/blend/mono", "blend/mono"),
        ("toy@de+en/blend/multi", "blend/multi"),
    ],
)
def test_the_kind_of_a_setting_is_that_of_its_average(setting, kind):
    assert kind_of(setting, "toy@de+en") == figure(collection="toy@de+en", setting=setting).kind == kind


@pytest.mark.parametrize(
    ("system", "batching", "label"),
    [
        ("one", "hybrid", "one (hybrid)"),
        ("hybrid", "hybrid", "hybrid"),
        ("hybrid-alpha0.5", "hybrid", "hybrid-alpha0.5"),
        ("", "x-y", "x-y"),
        ("one", "", "one"),
        ("", "", "system"),
    ],
)
def test_a_label_says_the_batching_once(system, batching, label):
    assert Results((figure(system=system, batching=batching),)).label == label


def test_where_figures_come_from():
    assert RESULTS.origin == "ours"
    assert Results((figure(batching=""),)).origin == "baseline"
    assert Results((figure(batching=""),), {"encoder": {"training": {"steps": 1}}}).origin == "ours"
    assert Results((figure(),), {"published": "A paper"}).origin == "published"


def test_a_distance_is_better_when_it_is_lower():
    lower = [name for name in ("AP", "R@10", "RankDistance", "RankDistance(rel=2)", "nDCG@10") if lower_is_better(name)]
    assert lower == ["RankDistance", "RankDistance(rel=2)"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.pop("value"), "figure 1: value missing"),
        (lambda row: row.update(extra=1), "figure 1: unknown field 'extra'"),
        (lambda row: row.update(value="0.5"), "figure 1: value is str; expected int or float"),
        (lambda row: row.update(value=float("nan")), "figure 1: value is nan"),
        (lambda row: row.update(queries=True), "figure 1: queries is bool"),
        (lambda row: row.update(average="median"), "figure 1: average is 'median'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, change, said):
    content = RESULTS.to_json()
    change(content["figures"][0])
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(BeirHybridError) as caught:
        Results.read(tmp_path / "results.json")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", '{"figures": []}', '{"figures": {}, "provenance": {}}', '{"figures": [1'])
def test_what_is_not_results_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(BeirHybridError, match=r"results\.json"):
        Results.read(tmp_path / "results.json")
