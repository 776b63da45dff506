"""Names of collections and settings: what was asked for is in the name, so that unlike figures never look alike.

xquad-r                        all of it
xquad-r@de+en                  two of its languages
xquad-r.context                sentence and paragraph as the passage's text
xquad-r.first100               the first 100 questions of each language
miracl-dev.partial             an incomplete copy: judgements of what it lacks were left out
xquad-r.first100@de+en/cross/en-de      one setting of such a part
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from beir_hybrid.errors import BeirHybridError

SENTENCE, CONTEXT = "sentence", "context"
_BASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_FIRST = re.compile(r"first([1-9][0-9]{0,8})\Z")
_FORM = (
    "A name is NAME, NAME.context, NAME.first100, NAME.partial, NAME@de+en or these together in that order, then a "
    "setting if one is meant: NAME/mono/en, NAME/cross/en-de, NAME/multi/en, NAME/blend/de+en/multi."
)


@dataclass(frozen=True)
class Part:
    """A collection or a part of it, as its name says it.

    Attributes:
        languages: Only these; None for all.
        first: Only so many questions of each language; None for all.
        text_mode: `sentence` or `context`.
        partial: Judged passages that the corpus lacks are left out rather than an error.
    """

    base: str
    languages: tuple[str, ...] | None = None
    text_mode: str = SENTENCE
    first: int | None = None
    partial: bool = False

    def __str__(self) -> str:
        name = self.base
        if self.text_mode != SENTENCE:
            name += f".{self.text_mode}"
        if self.first is not None:
            name += f".first{self.first}"
        if self.partial:
            name += ".partial"
        return name if self.languages is None else f"{name}@{'+'.join(self.languages)}"


def parse_name(name: str) -> tuple[Part, str]:
    """A name as the part of a collection that it means, and its setting (`cross/en-de`; empty for a collection).

    Raises:
        BeirHybridError: it is not of the form above.
    """
    whole, _, setting = name.partition("/")
    front, at, back = whole.partition("@")
    base, *changes = front.split(".")
    languages = tuple(back.split("+")) if at else None
    if not _BASE.match(base) or (languages and not all(_LANGUAGE.match(code) for code in languages)):
        raise BeirHybridError(f"{name!r} is not a collection's name. {_FORM}")
    if at and (not back or len(set(back.split("+"))) != len(back.split("+"))):
        raise BeirHybridError(f"{name!r} names no language after '@', or one twice. {_FORM}")
    text_mode, first, partial = SENTENCE, None, False
    for change in changes:
        if change == CONTEXT:
            text_mode = CONTEXT
        elif change == "partial":
            partial = True
        elif found := _FIRST.match(change):
            first = int(found[1])
        else:
            raise BeirHybridError(f"{name!r}: unknown part {change!r}. {_FORM}")
    part = Part(base, languages, text_mode, first, partial)
    if str(part) != whole:
        raise BeirHybridError(f"{name!r}: write it as {str(part)!r}. {_FORM}")
    return part, setting


def base_name(name: str) -> str:
    """The collection that a name is a part of: `xquad-r` for `xquad-r.first100@de+en/mono/de`."""
    return re.split(r"[.@/]", name, maxsplit=1)[0]


def may_be_of_one(name: str, other: str) -> bool:
    """Whether two names may be of one collection; a prepared setting's folder is called `xquad-r-cross-en-de`."""
    one, two = sorted((base_name(name), base_name(other)), key=len)
    return one == two or two.startswith(f"{one}-")
