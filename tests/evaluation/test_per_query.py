"""Each question's value goes to Parquet and comes back; it belongs to the figures beside it."""

from __future__ import annotations

import dataclasses
import errno
import os

import numpy as np
import pyarrow.parquet
import pytest

import beir_hybrid
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.figures import Results, combine, separate
from beir_hybrid.evaluation.grid import grid_from_embeddings
from tests.conftest import make_collection
from tests.data import LAREQA, needs_lareqa


def measured(system: str = "one", seed: int = 0, **arguments) -> Results:
    collection = make_collection(items=12)
    generator = np.random.default_rng(seed)
    vectors = [generator.standard_normal((len(texts), 8)) for texts in (collection.queries, collection.passages)]
    return grid_from_embeddings(*vectors, collection, system=system, batching="hybrid", **arguments)


def same(one, other) -> bool:
    fields = ("collection", "system", "batching", "setting", "measure")
    return len(one) == len(other) and all(
        all(getattr(a, name) == getattr(b, name) for name in fields)
        and (tuple(a.ids), tuple(a.items), a.values.tolist()) == (tuple(b.ids), tuple(b.items), b.values.tolist())
        for a, b in zip(one, other, strict=True)
    )


def test_a_figure_is_the_mean_of_its_values():
    results = measured()
    figures = {(figure.setting, figure.measure): figure for figure in results.figures if not figure.average}
    assert {one.key for one in results.queries} == set(figures)
    for one in results.queries:
        assert one.values.mean() == figures[one.key].value
        assert len(one.ids) == len(one.items) == figures[one.key].queries
        assert [identifier.rpartition("_")[0] for identifier in one.ids] == list(one.items)


def test_values_come_back_as_they_were(tmp_path):
    results = measured()
    results.write_json(tmp_path / "results.json")
    read = Results.read(tmp_path / "results.json")
    assert read == results
    assert same(read.queries, results.queries)
    table = pyarrow.parquet.read_table(tmp_path / "queries.parquet")
    assert table.column_names == ["system", "batching", "collection", "setting", "measure", "query", "item", "value"]
    assert len(table) == sum(len(one.values) for one in results.queries)
    results.write_json(tmp_path / "a.json")
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json", "queries.parquet", "a.json", "a.queries.parquet"
    }  # fmt: skip


def test_systems_of_one_name_stay_apart(tmp_path):
    for kwargs in ({}, {"settings": ["mono/en"], "measures": ["AP"]}):
        both = combine([measured(**kwargs), measured(seed=1, **kwargs)])
        both.write_json(tmp_path / "results.json")
        assert same(Results.read(tmp_path / "results.json").queries, both.queries)


def test_what_was_combined_can_be_separated(tmp_path):
    parts = [measured("one"), measured("two", seed=1)]
    combine(parts).write_json(tmp_path / "results.json")
    for part, one in zip(separate(Results.read(tmp_path / "results.json")), parts, strict=True):
        assert part.figures == one.figures
        assert part.provenance["digest"] == one.provenance["digest"]
        assert same(part.queries, one.queries)
    assert separate(parts[0]) == (parts[0],)


def test_values_of_other_figures_are_refused(tmp_path):
    measured().write_json(tmp_path / "results.json")
    measured(seed=1).write_json(tmp_path / "other.json")
    os.replace(tmp_path / "other.queries.parquet", tmp_path / "queries.parquet")
    with pytest.raises(BeirHybridError, match=r"queries\.parquet: belongs to other figures"):
        Results.read(tmp_path / "results.json")
    (tmp_path / "queries.parquet").unlink()
    assert Results.read(tmp_path / "results.json").queries == ()


def test_figures_without_values_leave_none_behind(tmp_path):
    results = measured()
    results.write_json(tmp_path / "results.json")
    dataclasses.replace(results, queries=()).write_json(tmp_path / "results.json")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert Results.read(tmp_path / "results.json") == results


def test_both_files_or_neither(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    results = measured()
    results.write_json(tmp_path / "results.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for place in ("beir_hybrid.evaluation.figures.write_json", "pyarrow.parquet.write_table"):
        with monkeypatch.context() as patched, pytest.raises(BeirHybridError, match="No space left"):
            patched.setattr(place, full)
            measured(seed=1).write_json(tmp_path / "results.json")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_questions_without_a_value_are_left_out(monkeypatch):
    from beir_hybrid.evaluation import grid

    whole = measured(settings=["mono"], measures=["AP"])

    def holes(measure, found):
        result = real(measure, found)
        result[::3] = np.nan
        return result

    real = grid.values
    monkeypatch.setattr(grid, "values", holes)
    part = measured(settings=["mono"], measures=["AP"])
    for one, other in zip(part.queries, whole.queries, strict=True):
        kept = np.arange(len(other.values)) % 3 > 0
        assert one.values.tolist() == other.values[kept].tolist()
        assert list(one.ids) == [identifier for identifier, there in zip(other.ids, kept, strict=True) if there]
        assert part.value(setting=one.setting, measure="AP") == one.values.mean()
    assert part.value(setting="mono", measure="AP", average="macro") == np.mean([q.values.mean() for q in part.queries])


@needs_lareqa
@pytest.mark.slow
def test_the_size_on_xquad_r(tmp_path):
    collection = beir_hybrid.load("xquad-r", data_dir=LAREQA)
    generator = np.random.default_rng(0)
    vectors = [generator.standard_normal((len(texts), 16)) for texts in (collection.queries, collection.passages)]
    results = grid_from_embeddings(*vectors, collection, system="random")
    results.write_json(tmp_path / "results.json")
    assert sum(len(one.values) for one in results.queries) == 275 * 1190
    assert (tmp_path / "queries.parquet").stat().st_size < 3 << 20
    assert same(Results.read(tmp_path / "results.json").queries, results.queries)
