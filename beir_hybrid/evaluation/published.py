"""The figures that papers and regressions have published, as rows to stand beside one's own.

They are facts, one row each in the CSV files of the folder `published/`. Where a publication does not say what text
stands for a passage, its rows are taken for this package's default, the sentence; reports name the publication.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass, replace

from beir_hybrid.collections.names import CONTEXT, SENTENCE, Part, parse_name
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.evaluation.figures import Figure, Results


@dataclass(frozen=True)
class Source:
    """Where figures were published.

    Attributes:
        paper: How it is cited, with its address.
        text_mode: The passage text that they were measured with.
    """

    file: str
    paper: str
    text_mode: str = SENTENCE


SOURCES = (
    Source(
        "elmahdy2024.csv",
        "Elmahdy, Lin, Ahmad 2024: Synergistic approach for simultaneous optimization of monolingual, cross-lingual, "
        "and multilingual information retrieval, arXiv 2408.10536",
    ),
    Source(
        "lareqa2020.csv",
        "Roy, Constant, Al-Rfou, Barua, Phillips, Yang 2020: LAReQA, arXiv 2004.05484",
        CONTEXT,  # a candidate is the sentence with its paragraph
    ),
    Source(
        "pyserini_miracl_bm25.csv", "Pyserini's reproductions of MIRACL v1.0, BM25 with the language's analyzer, dev"
    ),
)
_COLLECTIONS = {"miracl": "miracl-dev"}


@dataclass(frozen=True)
class PublishedFigure(Figure):
    """A figure from a publication.

    Attributes:
        digits: How many it was published with after the point.
        source: Where.
    """

    digits: int
    source: Source


def published_figures(
    collection: str | None = None, *, system: str | None = None, batching: str | None = None
) -> tuple[PublishedFigure, ...]:
    """The published figures, all or those of one collection, system (`xlm-r`) and batching (`hybrid`).

    Args:
        collection: A collection's name. Of `xquad-r.context` there are others than of `xquad-r`; of a part of a
            collection there are none: see `published_beside`.

    Raises:
        BeirHybridError: nothing of that name has been published here.
    """
    found = _all()
    for name, value in {"collection": collection, "system": system, "batching": batching}.items():
        if value is not None:
            known = dict.fromkeys(getattr(figure, name) for figure in found)
            if value not in known:
                raise unknown(f"{name} among the published figures:", value, known)
            found = tuple(figure for figure in found if getattr(figure, name) == value)
    return found


def published_results(collection: str | None = None) -> tuple[Results, ...]:
    """The published figures, those of one source and system together, with where they come from."""
    groups: dict[tuple[str, str, str, str], list[PublishedFigure]] = {}
    for figure in published_figures(collection):
        groups.setdefault((figure.source.file, figure.collection, figure.system, figure.batching), []).append(figure)
    return tuple(
        Results(
            tuple(figures),
            {"published": figures[0].source.paper, "collection": name, "text_mode": figures[0].source.text_mode},
        )
        for (_, name, _, _), figures in groups.items()
    )


def published_beside(results: Results) -> tuple[Results, ...]:
    """The published figures that were measured on the same task as these results; none where nobody has reported any.

    With other languages in the pool or in an average it is another task: then only the figures within one language are
    left. Of a collection with fewer questions there are none.
    """
    name = _without_languages(results.collection)
    codes = results.provenance.get("languages") or {one.query_language for one in results.figures} - {""}
    languages = {code for code in codes if "+" not in code}  # blends ask in a mixture and are found in the same pool
    found = []
    for one in published_results():
        if one.collection == name:
            same = languages == _languages(one)
            kept = [figure for figure in one.figures if same or figure.setting.startswith(f"{name}/mono/")]
            figures = tuple(_in_part(figure, results.collection) for figure in kept)
            if figures:
                found.append(replace(one, figures=figures))
    return tuple(found)


def _without_languages(collection: str) -> str:
    try:
        part, _ = parse_name(collection)
    except BeirHybridError:
        return ""  # the user's own
    return str(replace(part, languages=None))


def _languages(published: Results) -> set[str]:
    """What the averages are over: the languages that have rows, or else all of the collection."""
    from beir_hybrid.collections.registry import available

    named = {figure.query_language for figure in published.figures if figure.query_language}
    return named or set(available()[parse_name(published.collection)[0].base].languages)


def _in_part(figure: Figure, collection: str) -> Figure:
    setting = figure.setting.removeprefix(f"{figure.collection}/")
    return replace(figure, collection=collection, setting=f"{collection}/{setting}")


@functools.cache
def _all() -> tuple[PublishedFigure, ...]:
    return tuple(figure for source in SOURCES for figure in _read(source))


def _read(source: Source) -> Iterator[PublishedFigure]:
    folder = importlib.resources.files("beir_hybrid.evaluation").joinpath("published")
    for row in csv.DictReader(folder.joinpath(source.file).read_text(encoding="utf-8").splitlines()):
        name = str(Part(_COLLECTIONS.get(row["collection"], row["collection"]), text_mode=source.text_mode))
        language = row["query_language"]
        average = language if language in ("macro", "micro") else ""
        setting = f"{name}/{row['setting']}"
        if not average and row["setting"] == "cross":
            average = "macro"  # over the languages of the passages
        elif not average:
            setting += f"/{language}"
        yield PublishedFigure(
            collection=name,
            system=row["encoder"],
            batching="" if row["batching"] == "none" else row["batching"],
            setting=setting,
            measure=row["measure"],
            average=average,
            query_language="" if language == average else language,
            value=float(row["value"]),
            queries=0,
            digits=len(row["value"].partition(".")[2]),
            source=source,
        )
