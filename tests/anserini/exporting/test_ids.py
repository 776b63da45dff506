from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beir_hybrid.anserini.exporting.exported import topic_text
from beir_hybrid.anserini.exporting.ids import escape, escape_query, unescape
from beir_hybrid.errors import BeirHybridError

IDS = st.text(st.characters(), min_size=1)  # surrogates too: JSON can say half of a pair


@given(IDS)
def test_escaping_is_undone_and_what_it_gives_is_one_visible_word(identifier: str) -> None:
    for escaped in (escape(identifier), escape_query(identifier)):
        assert unescape(escaped) == identifier
        assert escaped.isascii()
        assert escaped.isprintable()
        assert escaped.split() == [escaped]
        assert '"' not in escaped


@given(IDS, IDS)
def test_different_ids_stay_different(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)
    assert (escape_query(one) == escape_query(other)) == (one == other)


@given(st.from_regex(r"[0-9]{1,12}", fullmatch=True))
def test_pyserini_takes_no_number_for_another_id(identifier: str) -> None:
    escaped = escape_query(identifier)
    read = str(int(escaped)) if escaped.isdigit() else escaped  # as Pyserini reads topics
    assert read == escaped
    assert unescape(read) == identifier


@pytest.mark.parametrize("identifier", ["en_12_3", "123#4", "doc-1", "http://a.b/c?d=e&f", "MED-10", "00123"])
def test_ids_as_they_mostly_are_stay_as_they_are(identifier: str) -> None:
    assert escape(identifier) == identifier


def test_an_empty_id_is_refused() -> None:
    with pytest.raises(BeirHybridError, match="empty id"):
        escape("")


@given(st.text())
def test_a_topic_is_one_field_of_one_line(text: str) -> None:
    found = topic_text(text)
    assert topic_text(found) == found
    assert not set(found) & {"\t", "\n", "\r", "\ufeff"}
    assert not found or (found[0] > " " and found[-1] > " ")
