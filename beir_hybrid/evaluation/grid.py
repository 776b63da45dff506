"""Every language setting of a collection from one encoding of its texts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from beir_hybrid.collections.collection import KINDS, MultilingualCollection
from beir_hybrid.collections.names import may_be_of_one
from beir_hybrid.collections.texts import first_of_equal
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.evaluation.averages import figures_of, query_figures
from beir_hybrid.evaluation.by_id import VectorsById, is_by_id, of_part
from beir_hybrid.evaluation.figures import Figure, Results, data_provenance, package_versions
from beir_hybrid.evaluation.measures import setting_ranks, values
from beir_hybrid.evaluation.plan import GridPlan, GridRows, Measures, needed_rows, plan_grid
from beir_hybrid.evaluation.text_vectors import Placed, TextVectors, as_vectors
from beir_hybrid.evaluation.whole_rankings import with_whole_rankings
from beir_hybrid.evaluation.write_runs import write_runs
from beir_hybrid.retrieval.search import Progress, relevant_ranks

if TYPE_CHECKING:
    from beir_hybrid.encoders.dense import Side
    from beir_hybrid.encoders.store import EmbeddingStore


class Encoder(Protocol):
    """BEIR's model contract. `score_function` ("cos_sim", the default, or "dot") and `describe()` are optional."""

    def encode_queries(self, queries: list[str], **kwargs: Any) -> Any:
        """Shape (queries, dimensions)."""

    def encode_corpus(self, corpus: list[dict[str, str]], **kwargs: Any) -> Any:
        """Shape (passages, dimensions), of dicts with `title` and `text`."""


def evaluate_grid(
    encoder: Encoder,
    collection: MultilingualCollection,
    *,
    measures: Measures | None = None,
    settings: Sequence[str] | None = None,
    system: str = "",
    batching: str = "",
    batch_size: int = 32,
    progress: bool = True,
    allow_seen: bool = False,
    embeddings: Path | str | None = None,
    passage_vectors: VectorsById | None = None,
    runs: Path | str | None = None,
    depth: int = 1000,
) -> Results:
    """Encode each text once and read out every setting.

    Args:
        encoder: Anything with BEIR's two methods. Texts that are equal are encoded once and share the vector, so that
            they tie exactly. Vectors are normalised unless `encoder.score_function` is "dot".
        measures: Names for every setting; by default those of the papers (`measures.DEFAULT`). RankDistance is
            computed in multi settings only, as are LanguageRecall, AWRF, which ranks the pool once more as deep as its
            cutoff, and MRC, which ranks it fully for the questions of all languages.
        settings: Kinds (`mono`) or single settings (`cross/en-de`); all by default. Only the languages that these
            need are encoded. An average is given where all of its settings are evaluated.
        system, batching: What was evaluated and how it was trained, for the figures.
        batch_size: Handed to the encoder.
        progress: Show progress on stderr, if it is a terminal.
        allow_seen: Evaluate even on what the encoder's own description says that it was trained on.
        embeddings: A folder in which embeddings are kept, by model, prompt and texts: what is there is taken from
            there, and a run that was killed goes on where it stopped. Only for a DenseEncoder.
        passage_vectors: Where the passages' vectors are taken from, such as a Pyserini index
            (`beir_hybrid.read_vectors`): only the questions are then encoded.
        runs: Write the rankings to this folder, a TREC run for each setting.
        depth: How many passages a question has in these runs. The figures are of whole rankings all the same.

    Raises:
        BeirHybridError: an unknown measure or setting; vectors of the wrong shape, not finite, or zero; an encoder that
            was trained on this collection.
    """
    plan = plan_grid(collection, measures, settings)
    part = needed_rows(collection, plan)
    questions, passages = part.collection.queries.texts, part.collection.passages
    if callable(settle := getattr(encoder, "settle_precision", None)):  # on real texts, before it is described
        settle(questions, "query")
    about = dict(describe()) if callable(describe := getattr(encoder, "describe", None)) else {}
    if not allow_seen:
        refuse_seen(about, collection)
    started = time.perf_counter()
    options = {"batch_size": batch_size, "show_progress_bar": progress}

    def ask(texts: Sequence[str]) -> Any:
        if embeddings is not None:
            return _kept(encoder, texts, "query", Path(embeddings), progress)
        return encoder.encode_queries(list(texts), **options)

    def find(texts: Sequence[str]) -> Any:
        if embeddings is not None:
            return _kept(encoder, texts, "passage", Path(embeddings), progress)
        return encoder.encode_corpus([{"title": "", "text": text} for text in texts], **options)

    # What is there already comes first, for it may not fit the collection.
    found = None if passage_vectors is None else of_part(passage_vectors, part, "passages")
    asked = _encode_once(questions, ask)
    passages_encoded = 0
    if found is None:
        found = _encode_once(passages.full_texts, find)
        passages_encoded = len(found.vectors)
    seconds = time.perf_counter() - started
    results = _read_out(
        asked,
        found,
        part,
        plan,
        Figure(collection.name, system, batching, "", "", "", "", 0.0, 0),
        _score_function(getattr(passage_vectors or encoder, "score_function", "cos_sim")),
        progress,
        runs,
        depth,
    )
    provenance = dict(results.provenance)
    timing = {"encode_seconds": round(seconds, 3), **provenance.pop("timing")}
    if embeddings is not None:  # what was kept has the precision in which it was begun
        kept = {one.manifest["precision"] for one in (asked.vectors, found.vectors) if hasattr(one, "manifest")}
        about["precision"] = " and ".join(sorted(kept))
    provenance["encoder"] = about or {"class": type(encoder).__qualname__}
    provenance["texts_encoded"] = {"queries": len(asked.vectors), "passages": passages_encoded}
    if passage_vectors is not None:
        provenance["passage_vectors"] = passage_vectors.describe()
    return replace(results, provenance={**provenance, "timing": timing})


def grid_from_embeddings(
    query_vectors: npt.ArrayLike | VectorsById,
    passage_vectors: npt.ArrayLike | VectorsById,
    collection: MultilingualCollection,
    *,
    measures: Measures | None = None,
    settings: Sequence[str] | None = None,
    system: str = "",
    batching: str = "",
    score_function: str | None = None,
    progress: bool = False,
    runs: Path | str | None = None,
    depth: int = 1000,
) -> Results:
    """Read out every setting from vectors that are there already.

    Args:
        query_vectors: Shape (queries, dimensions), of all of the collection's questions in its order: an array, a
            mapped file, a tensor or an EmbeddingStore; or vectors by id, in any order, as
            `beir_hybrid.read_vectors` gives them.
        passage_vectors: Shape (passages, dimensions), or by id, likewise. They are read a block at a time.
        score_function: "cos_sim" normalises the vectors, "dot" takes them as they are. By default what an index that
            the passages come from ranks by, else "cos_sim".
        runs, depth: As for `evaluate_grid`.

    Raises:
        BeirHybridError: as `evaluate_grid`; vectors by id lack a text, or have one that the collection has not.
    """
    plan = plan_grid(collection, measures, settings)
    part = needed_rows(collection, plan)
    given = {"query_vectors": query_vectors, "passage_vectors": passage_vectors}
    by_id = {name: vectors for name, vectors in given.items() if is_by_id(vectors)}
    if is_by_id(query_vectors):
        asked = of_part(query_vectors, part, "queries")
    else:
        asked = Placed.of(query_vectors, len(collection.queries), part.query_rows)
    if is_by_id(passage_vectors):
        found = of_part(passage_vectors, part, "passages")
    else:
        found = Placed.of(passage_vectors, len(collection.passages), part.passage_rows)
    if score_function is None:
        score_function = getattr(by_id.get("passage_vectors"), "score_function", "cos_sim")
    blank = Figure(collection.name, system, batching, "", "", "", "", 0.0, 0)
    results = _read_out(asked, found, part, plan, blank, _score_function(score_function), progress, runs, depth)
    about = {name: vectors.describe() for name, vectors in by_id.items()}
    return replace(results, provenance={**results.provenance, **about})


def _read_out(
    asked: Placed,
    found: Placed,
    part: GridRows,
    plan: GridPlan,
    blank: Figure,
    score_function: str,
    progress: bool,
    runs: Path | str | None = None,
    depth: int = 0,
) -> Results:
    normalise = score_function == "cos_sim"
    query_vectors = TextVectors(asked.vectors, part.collection.queries, asked.place, normalise=normalise)
    passage_vectors = TextVectors(found.vectors, part.collection.passages, found.place, normalise=normalise)
    started = time.perf_counter()
    with _bar(progress) as advance:
        ranks = relevant_ranks(query_vectors, passage_vectors, part.collection, advance)
    if runs is not None:
        write_runs(query_vectors, passage_vectors, part.collection, plan.settings, runs, depth=depth, tag=blank.system)
    asked_in = {setting: setting_ranks(part.collection, ranks, setting) for setting in plan.settings}
    asked_in = with_whole_rankings(
        asked_in, plan, query_vectors, passage_vectors, part.collection, partial(_bar, progress)
    )
    by_setting = {
        setting: (
            asked.query_rows,
            {str(measure): values(measure, asked.found) for measure in plan.measures[setting.kind]},
        )
        for setting, asked in asked_in.items()
    }
    seconds = time.perf_counter() - started
    provenance = {
        **data_provenance(part.whole),
        "score_function": score_function,
        "dimensions": query_vectors.shape[1],
        "measures": {kind: [str(measure) for measure in plan.measures[kind]] for kind in KINDS},
        "versions": package_versions(),
        "timing": {"rank_seconds": round(seconds, 3)},
    }
    measured = {setting: values for setting, (_, values) in by_setting.items()}
    return Results(
        tuple(figures_of(measured, plan, blank)), provenance, tuple(query_figures(by_setting, part.collection, blank))
    )


def _encode_once(texts: Sequence[str], encode: Callable[[Sequence[str]], Any]) -> Placed:
    """Vectors of the texts: equal texts are encoded once and share a vector."""
    different, place = first_of_equal(texts)
    return Placed(as_vectors(encode(different), len(different)), place)


def _kept(encoder: Encoder, texts: Sequence[str], side: Side, folder: Path, progress: bool) -> EmbeddingStore:
    """The vectors of texts from the folder, encoded first as far as they are not there."""
    from beir_hybrid.encoders.dense import DenseEncoder
    from beir_hybrid.encoders.digests import texts_digest
    from beir_hybrid.encoders.storing import encode_to_store, store_for

    if not isinstance(encoder, DenseEncoder):
        raise BeirHybridError(
            f"embeddings can be kept of a DenseEncoder alone, and this is a {type(encoder).__name__}: nothing says "
            "whether it would give the same ones again. Leave `embeddings` out."
        )
    digest = texts_digest(texts)
    own = store_for(encoder, texts, side, folder, digest=digest)
    return encode_to_store(encoder, texts, side, own, digest=digest, progress=progress)


def _score_function(name: str) -> str:
    if name not in ("cos_sim", "dot"):
        raise unknown("score function", str(name), ("cos_sim", "dot"))
    return name


def refuse_seen(about: Mapping[str, Any], collection: MultilingualCollection) -> None:
    """Refuse an encoder, by its description, that was trained on this collection.

    Raises:
        BeirHybridError: it was.
    """
    for source in (about.get("training") or {}).get("sources", ()):
        same_name = may_be_of_one(str(source.get("name", "")), collection.name)
        if same_name or source.get("digest") == collection.digest:
            raise BeirHybridError(
                f"{about.get('model', 'the encoder')} was trained on {source.get('name')}, so its figures on "
                f"{collection.name} would say nothing. Evaluate on another collection, or ask for it with allow_seen "
                "(--allow-seen)."
            )


@contextlib.contextmanager
def _bar(shown: bool) -> Iterator[Progress]:
    """A progress bar on stderr, if that is a terminal."""
    from tqdm.auto import tqdm

    with tqdm(desc="Ranking", unit="query", disable=None if shown else True) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance
