"""Run files and BEIR's results, both ways, and every fault that a file may have."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.retrieval.runs import Run
from tests.conftest import make_collection

VIEW = make_collection(items=6).view("cross/en-de")
QUERIES, DOCUMENTS = list(VIEW.queries), list(VIEW.corpus)
single = st.floats(width=32, allow_nan=False, allow_infinity=False)
results_of_beir = st.dictionaries(
    st.sampled_from(QUERIES),
    st.dictionaries(st.sampled_from(DOCUMENTS), st.one_of(single, st.sampled_from([0.0, 0.5])), min_size=1),
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(results_of_beir, st.booleans())
def test_what_is_written_is_read(tmp_path_factory, results, zipped):
    run = Run.from_beir(results, VIEW)
    assert run.to_beir() == results
    for query, found in run.to_beir().items():
        assert list(found) == sorted(results[query], key=lambda one: (results[query][one], one), reverse=True)
    path = tmp_path_factory.mktemp("run") / ("a.run.gz" if zipped else "a.run")
    run.write(path, tag="test")
    again = Run.read(path, VIEW)
    for name in ("queries", "passages", "scores"):
        np.testing.assert_array_equal(getattr(run, name), getattr(again, name))
    text = (gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()).decode()
    assert len(text.splitlines()) == len(run)
    first = text.splitlines()[0].split(" ")
    assert (first[1], first[3], first[5]) == ("Q0", "1", "test")


def test_rows_of_a_search_make_a_run():
    queries, passages = VIEW.query_rows[:2], VIEW.passage_rows[:3]
    run = Run.of(VIEW, queries[:, None], np.stack([passages, passages]), [[1, 3, 2], [1, 1, 1]])
    assert run.passages[:3].tolist() == passages[[1, 2, 0]].tolist()
    ids = [VIEW.collection.passages.ids[row] for row in run.passages[3:]]
    assert ids == sorted(ids, reverse=True)
    with pytest.raises(BeirHybridError, match="stands twice"):
        Run.of(VIEW, queries[0], passages[[0, 0]], [1, 2])
    with pytest.raises(BeirHybridError, match="NaN"):
        Run.of(VIEW, queries[0], passages[:1], [np.nan])
    with pytest.raises(BeirHybridError, match="passage row 999"):
        Run.of(VIEW, queries[0], [999], [1])


Q, D, E = QUERIES[0], DOCUMENTS[0], DOCUMENTS[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        (f"{Q} Q0 {D} 1 0.5", "line 1: 5 columns"),
        (f"{Q} Q0 {D} 1 0.5 t\n{Q} Q0 {E} 2 x t", "line 2: the score is 'x'"),
        (f"{Q} Q0 {D} 1 nan t", "line 1: the score of document"),
        (f"{Q} Q0 {D} 1 1e39 t", "finite float32"),
        (f"{Q} Q0 {D} 1 1 t\n{Q} Q0 {E} 2 0.5 t\n\n{Q} Q0 {D} 3 0.1 t", "line 4: document"),
        (f"nobody Q0 {D} 1 1 t", "line 1: query 'nobody'"),
        (f"{Q} Q0 nothing 1 1 t", "line 1: document 'nothing'"),
        (f"{Q} Q0 en_p1 1 1 t", "document 'en_p1'"),
    ],
)
def test_faults_are_named_by_line(tmp_path, text, said):
    (tmp_path / "a.run").write_text(text)
    with pytest.raises(BeirHybridError) as caught:
        Run.read(tmp_path / "a.run", VIEW)
    assert said in str(caught.value)
    assert "a.run" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.run.gz").write_bytes(gzip.compress(f"{Q} Q0 {D} 1 1 t\n".encode() * 100)[:-12])
    (tmp_path / "b.run").write_bytes(b"\xff\xfe")
    for name, said in (("a.run.gz", "cannot be read"), ("b.run", "not UTF-8"), ("c.run", "cannot be read")):
        with pytest.raises(BeirHybridError, match=said):
            Run.read(tmp_path / name, VIEW, unknown="skip")


def test_unknown_ids_may_be_skipped_and_counted(tmp_path):
    (tmp_path / "a.run").write_text(f"x Q0 {D} 1 1 t\n{Q} Q0 y 1 1 t\n{Q} Q0 {D} 2 0.5 t\n{Q} Q0 z 3 0.1 t\n")
    run = Run.read(tmp_path / "a.run", VIEW, unknown="skip")
    assert (len(run), run.unknown_queries, run.unknown_documents) == (1, 1, 2)
    assert run.to_beir() == {Q: {D: 0.5}}


def test_a_run_is_written_whole_or_not_at_all(tmp_path):
    run = Run.from_beir({Q: {D: 1.0}}, VIEW)
    with pytest.raises(BeirHybridError, match="the tag"):
        run.write(tmp_path / "a.run", tag="two words")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BeirHybridError, match="query"):
        Run.from_beir({"nobody": {D: 1.0}}, VIEW)
