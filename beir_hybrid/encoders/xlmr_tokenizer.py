"""XLM-R's tokenizer (a Unigram model), built from its pieces, scores and one-character replacements.

SentencePiece's normaliser also joins what is written as letter and accents. Those rules are canonical compositions of
Unicode, so they are derived here rather than carried. `tokenizers` looks a rule up for a whole grapheme of at most
five bytes, takes the shortest that fits, and otherwise goes character by character: only rules that can be reached
this way are derived, and none of them has changed since Unicode 12.
"""

from __future__ import annotations

import itertools
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LONGEST_GRAPHEME = 5  # bytes; the longest that `tokenizers` looks up as a whole


def build_tokenizer(
    pieces: Sequence[str], scores: Sequence[float], special: Mapping[str, int], replacements: Mapping[str, str]
) -> Tokenizer:
    """The tokenizer whose ids are the row numbers of `pieces`; `special` has the ids of `bos`, `eos`, `pad`, `unk`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=special["unk"]))
    rules = {**compositions(replacements), **replacements}
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(precompiled_charsmap(rules)), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    bos, eos = pieces[special["bos"]], pieces[special["eos"]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, special["bos"]), (eos, special["eos"])],
    )
    marks = [*(pieces[index] for index in special.values()), *(["<mask>"] if "<mask>" in pieces else [])]
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return tokenizer


def compositions(replacements: Mapping[str, str]) -> dict[str, str]:
    """Letter and combining marks to the composed character, as far as a normaliser with `replacements` can reach it."""
    same: dict[str, list[str]] = {}
    for character, target in replacements.items():
        same.setdefault(target, []).append(character)
    rules = {}
    for code in itertools.chain(range(0x80, 0xD800), range(0xE000, 0x10000)):
        character = chr(code)
        parts = unicodedata.normalize("NFD", character)
        first = parts[0]
        # A first character with a replacement of its own is the shorter rule, and that one wins.
        if parts == character or first in replacements or unicodedata.normalize("NFC", parts) != character:
            continue
        for marks in itertools.product(*([mark, *same.get(mark, [])] for mark in parts[1:])):
            written = first + "".join(marks)
            if len(written.encode()) <= _LONGEST_GRAPHEME:
                rules[written] = replacements.get(character, character)
    return rules


def precompiled_charsmap(rules: Mapping[str, str]) -> bytes:
    """The rules in SentencePiece's binary form: a double-array trie over UTF-8 bytes, then the replacements.

    A unit of the array is 32 bits: the label in 0 to 7, whether a value hangs on it in 8, the distance (exclusive or)
    to its children's base in 10 up; a value's unit has bit 31 set. The child for byte `c` is at `base ^ c`, the value
    at `base`.
    """
    texts = bytearray()
    root = _Node()
    for written, replacement in sorted(rules.items()):
        node = root
        for byte in written.encode():
            node = node.children.setdefault(byte, _Node())
        node.value = len(texts)
        texts += replacement.encode() + b"\0"

    # Children lie in the page of 256 units that their base is in; the last page is always empty, so a place is found.
    units = [0] * 512
    taken = bytearray(512)
    taken[0] = 1  # the root
    bases: set[int] = set()
    free = 1  # no unit below this one is free
    waiting = [(0, 0, root)]
    while waiting:
        position, label, node = waiting.pop()
        labels = sorted(node.children) if node.value is None else [0, *sorted(node.children)]
        candidate = free = taken.find(0, free)
        # Two nodes with one base would take each other's children for their own.
        while (base := candidate ^ labels[0]) in bases or any(taken[base ^ byte] for byte in labels):
            candidate = taken.find(0, candidate + 1)
        bases.add(base)
        if base >= len(taken) - 256:
            units += [0] * 256
            taken += bytes(256)
        units[position] = label | (node.value is not None) << 8 | (position ^ base) << 10
        for byte in labels:
            taken[base ^ byte] = 1
        if node.value is not None:
            units[base] = node.value | 1 << 31
        waiting += [(base ^ byte, byte, child) for byte, child in node.children.items()]
    del units[-256:]
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(texts)


@dataclass
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)
    value: int | None = None
