from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beir_hybrid.collections.names import Part, base_name, parse_name
from beir_hybrid.errors import BeirHybridError

codes = st.from_regex(r"[a-z]{2,3}(-[A-Z][a-z]{3})?", fullmatch=True)
parts = st.builds(
    Part,
    base=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True),
    languages=st.none() | st.lists(codes, min_size=1, max_size=4, unique=True).map(tuple),
    text_mode=st.sampled_from(["sentence", "context"]),
    first=st.none() | st.integers(1, 10**9 - 1),
    partial=st.booleans(),
)


@given(parts, st.sampled_from(["", "mono/en", "cross/en-de", "multi/en", "blend/de+en/multi"]))
def test_a_name_says_all_of_a_part(part: Part, setting: str) -> None:
    name = f"{part}/{setting}" if setting else str(part)
    assert parse_name(name) == (part, setting)
    assert base_name(name) == part.base


@given(parts, parts)
def test_unlike_parts_never_look_alike(one: Part, other: Part) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_one_clear_error(text: str) -> None:
    try:
        part, setting = parse_name(text)
    except BeirHybridError as error:
        assert repr(text) in str(error)
    else:
        assert text == (f"{part}/{setting}" if "/" in text else str(part))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("xquad-r.contxt", "unknown part 'contxt'"),
        ("xquad-r.first0", "unknown part 'first0'"),
        ("xquad-r@", "not a collection|no language"),
        ("xquad-r@en+en", "twice"),
        ("xquad-r.first10.context", r"write it as 'xquad-r\.context\.first10'"),
        ("", "not a collection's name"),
        ("../up", "not a collection's name"),
    ],
)
def test_wrong_names_say_the_right_form(name: str, says: str) -> None:
    with pytest.raises(BeirHybridError, match=says):
        parse_name(name)
