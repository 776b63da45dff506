"""XQuAD-R and MLQA-R, and any folder in their format: SQuAD JSON, one file a language, with `sentence_breaks`.

LAReQA: Roy et al. 2020, arXiv 2004.05484. A candidate is a sentence of a paragraph; a question is answered by the
sentence in which its answer starts, in its own language and, by the shared question id, in every other.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.names import CONTEXT, SENTENCE
from beir_hybrid.collections.spec import CollectionSpec, Request
from beir_hybrid.collections.storage.fetch import RemoteFile, fetch
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import cache_root, read_json


def read_lareqa(
    folder: Path, name: str, languages: Sequence[str], info: CollectionInfo, text_mode: str = SENTENCE
) -> MultilingualCollection:
    """Read `folder/{language}.json` for each of `languages`.

    Question ids are `{qas id}_{language}`, passage ids `{language}_{paragraph}_{sentence}`, with paragraphs counted
    from 1 in file order and sentences from 0.

    Args:
        text_mode: `sentence`: a passage's text is the sentence. `context`: the sentence, a line break, and the whole
            paragraph that it stands in, as in LAReQA's own input.

    Raises:
        BeirHybridError: a file is missing, cut short or not in the format; sentence breaks lie outside their context
            or overlap; an answer is in no sentence; an id is used twice. The message names file, paragraph and item.
    """
    builder = CollectionBuilder(name, tuple(languages), replace(info, text_mode=text_mode))
    for number, language in enumerate(languages):
        _read_language(builder, folder / f"{language}.json", number, language)
    return builder.build()


def _read_language(builder: CollectionBuilder, path: Path, number: int, language: str) -> None:
    content = read_json(path, "a SQuAD-format JSON file with sentence_breaks")
    paragraph_number = 0
    for a, article in enumerate(_get(content, "data", list, str(path))):
        for p, paragraph in enumerate(_get(article, "paragraphs", list, f"{path}, article {a + 1}")):
            paragraph_number += 1
            where = f"{path}, article {a + 1}, paragraph {p + 1}"
            _read_paragraph(builder, paragraph, number, language, paragraph_number, where)


def _read_paragraph(
    builder: CollectionBuilder, paragraph: Any, number: int, language: str, paragraph_number: int, where: str
) -> None:
    context = _get(paragraph, "context", str, where)
    breaks = _breaks(paragraph, context, where)
    around = f"\n{context}" if builder.info.text_mode == CONTEXT else ""
    rows = []
    for s, (start, end) in enumerate(breaks):
        text = context[start:end] + around
        rows.append(builder.add_passage(f"{language}_{paragraph_number}_{s}", text, number, f"{where}, sentence {s}"))
    starts = [start for start, _ in breaks]
    for question in _get(paragraph, "qas", list, where):
        identifier = _get(question, "id", str, f"{where}, a question")
        here = f"{where}, question {identifier!r}"
        answers = _get(question, "answers", list, here)
        if not answers:
            raise BeirHybridError(f"{here}: it has no answer; every question needs one with `answer_start`.")
        start = _get(answers[0], "answer_start", int, here)
        sentence = bisect.bisect_right(starts, start) - 1
        if sentence < 0 or start >= breaks[sentence][1]:
            raise BeirHybridError(
                f"{here}: its answer starts at character {start}, which is in no sentence "
                f"(sentence_breaks {breaks}; a sentence holds start <= answer_start < end)."
            )
        text = _get(question, "question", str, here)
        builder.add_query(f"{identifier}_{language}", text, number, identifier, rows[sentence], here)


def _breaks(paragraph: Any, context: str, where: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for pair in _get(paragraph, "sentence_breaks", list, where):
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(bound) is int for bound in pair)):
            raise BeirHybridError(f"{where}: sentence_breaks has {pair!r}; expected [start, end] in characters.")
        start, end = pair
        if not (found[-1][1] if found else 0) <= start < end <= len(context):
            raise BeirHybridError(
                f"{where}: the sentence break [{start}, {end}] is empty, overlaps the one before it or lies outside "
                f"the context of {len(context)} characters."
            )
        found.append((start, end))
    return found


def _get(record: Any, key: str, kind: type, where: str) -> Any:
    """`record[key]`, which must be a `kind`; bool is no int."""
    if not isinstance(record, dict):
        raise BeirHybridError(f"{where}: expected an object with {key!r}, found {type(record).__name__}.")
    if key not in record:
        raise BeirHybridError(f"{where}: {key!r} is missing; it is needed in the LAReQA format.")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BeirHybridError(f"{where}: {key!r} is {type(value).__name__}; expected {kind.__name__}.")
    return value


_ADDRESS = "https://raw.githubusercontent.com/google-research-datasets/lareqa"
_CITATION = "Roy, Constant, Al-Rfou, Barua, Phillips, Yang 2020: LAReQA, arXiv 2004.05484"


def _files(base: str, table: str) -> dict[str, RemoteFile]:
    rows = (line.split() for line in table.strip().splitlines())
    return {code: RemoteFile(f"{base}/{code}.json", digest, int(size)) for code, size, digest in rows}


_XQUAD_R = _files(
    f"{_ADDRESS}/master/xquad-r",
    """
    ar 2234875 c52922d3b8ac1ae03ed5ac38647ad59870dca3dda2beefe18ecdc30729acb69d
    de 732156 16fb0f4bf4916154b585a20c24c66074591c9718a1affe764ff4697572328949
    el 2810127 163fd43ee785a30eb534ae2061e9eaa766a7ee4e8ffce5e4b422480c150f64b6
    en 628651 7b0954f39297c27a31fef610f0883337dd2907fa8699151dc922afdd0fa12ffe
    es 746335 f8e836b2d91009c4363e04315f7ede363eedbbb49c67dda60de6c4aa782f58de
    hi 2408404 ea45ba8ae4513d1533b222bebdc02a90bc319c055d3aeea68584a053d2e92872
    ru 2764904 7f4dff853538b9a5fcc28c070b8bb983a5c5d190ac747b8e005a1ada9cab18f1
    th 2618544 c3a041864c3a9fb0b4dd91cfdf99cf36b411b3e704c58a303c97bc6dc786cfe4
    tr 827827 f3e8c13002bbce154a4578f535f7533cb70f3da08840e6b62735935baec7bd94
    vi 1132303 e35926bf5cc6fc6ecbdfca49467aabeb454f08d152d7818143a906bd31dde995
    zh 959291 80c2cde7b9c2fb134c303cbb52f2ba396ead9eb0014aec43993543d2ba9e93ed
    """,
)
# Removed upstream after this commit.
_MLQA_R = _files(
    f"{_ADDRESS}/354d67d1cd066854cdfbf5ad0e6105528976141d/mlqa-r",
    """
    ar 3329081 2132fbc03208535c0fe01f2e2c5121d06f9c2aa799af93b0a719dbc105bdf137
    de 887185 ce9454dc5aa6f2d85c23cd6e49cb367fbb7c4c6e62d7f71e355c6b5dae4d0886
    en 2251129 fedd9a5cc0848dda80caf84aa36f482adaae230526a3f6e9e86926a93ef3b1e4
    es 819818 70ecba276b8c96a692b120693a595d076ce94ad21d4b28311538a9fcbfe0f9d7
    hi 3179023 4dd0fb3c06f737a5481d705bc1dcac7876712a5815c9265908fbb3a0696cb654
    vi 1807239 9d3baff6ba03e6793b25594217265ea59a136b9733833dca8a9582a84a78ff85
    zh 1360698 57f01d2fff50cf3392805635b01445339f225ad5bf28ba8443b12f8dbd1e69dc
    """,
)


def _cache(name: str) -> Path:
    return cache_root() / "collections" / name


def _spec(
    name: str, title: str, counts: tuple[int, int], info: CollectionInfo, files: dict[str, RemoteFile]
) -> CollectionSpec:
    """The declaration of a published collection, one file a language."""

    def read(request: Request) -> MultilingualCollection:
        folder = request.folder or _cache(name)
        for language in request.languages if request.folder is None else ():
            fetch(files[language], folder / f"{language}.json")
        return read_lareqa(folder, request.name, request.languages, info, request.text_mode)

    return CollectionSpec(
        name=name,
        title=title,
        languages=tuple(files),
        info=info,
        read=read,
        questions=counts[0],
        passages=counts[1],
        text_modes=(SENTENCE, CONTEXT),
        layout="one file a language, such as en.json",
        files=files,
        download=sum(file.size for file in files.values()),
        is_here=lambda: all((_cache(name) / f"{language}.json").is_file() for language in files),
    )


def _sample(name: str, title: str, counts: tuple[int, int]) -> CollectionSpec:
    """The declaration of a part of the bundled sample."""
    folder = Path(__file__).parents[1] / "sample" / name.removeprefix("sample-")
    info = CollectionInfo("Apache-2.0", "Written for beir-hybrid.", "bundled with beir-hybrid")

    def read(request: Request) -> MultilingualCollection:
        return read_lareqa(request.folder or folder, request.name, request.languages, info, request.text_mode)

    return CollectionSpec(
        name=name,
        title=title,
        languages=tuple(_XQUAD_R),
        info=info,
        read=read,
        questions=counts[0],
        passages=counts[1],
        text_modes=(SENTENCE, CONTEXT),
        download=0,
        is_here=lambda: True,
    )


SPECS = (
    _spec(
        "xquad-r",
        "XQuAD-R (LAReQA): parallel questions on Wikipedia in 11 languages",
        (13_090, 13_014),
        CollectionInfo("CC BY-SA 4.0", _CITATION, f"{_ADDRESS}/master/xquad-r"),
        _XQUAD_R,
    ),
    _spec(
        "mlqa-r",
        "MLQA-R (LAReQA): partly parallel questions on Wikipedia in 7 languages",
        (4_199, 20_534),
        CollectionInfo("CC BY-NC 4.0 (non-commercial)", _CITATION, f"{_ADDRESS} at 354d67d, mlqa-r"),
        _MLQA_R,
    ),
    _sample("sample-train", "The bundled sample: 24 paragraphs to train on, in 11 languages", (792, 1_089)),
    _sample("sample-test", "The bundled sample: 12 other paragraphs to test on, in 11 languages", (396, 539)),
)
