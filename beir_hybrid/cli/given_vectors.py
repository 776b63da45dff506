"""Vectors that `evaluate` is given: read, and compared with the model that encodes the questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from beir_hybrid.errors import BeirHybridError

if TYPE_CHECKING:
    from beir_hybrid.anserini.reading import KeyedVectors, StoredByText
    from beir_hybrid.collections.collection import MultilingualCollection
    from beir_hybrid.encoders.dense import DenseEncoder
    from beir_hybrid.evaluation.figures import Results


@dataclass(frozen=True)
class GivenVectors:
    """Where the vectors of passages are, and of questions if no model encodes these."""

    passages: Path
    queries: Path | None

    @property
    def name(self) -> str:
        """What tables call them."""
        return self.passages.resolve().name

    def passages_for(self, encoder: DenseEncoder) -> KeyedVectors | StoredByText:
        """The passages' vectors, for questions that this encoder encodes.

        Raises:
            BeirHybridError: they cannot be read, or are another model's.
        """
        from beir_hybrid.anserini.reading import read_vectors

        found = read_vectors(self.passages)
        _check_model(found, encoder)
        _tell(found)
        return found

    def evaluate(self, data: MultilingualCollection, allow_seen: bool, **chosen: Any) -> Results:
        """The figures of both, as `grid_from_embeddings` takes the choice of them.

        Raises:
            BeirHybridError: they cannot be read, are not of this collection, or of a model that was trained on it.
        """
        from beir_hybrid.anserini.reading import read_vectors
        from beir_hybrid.evaluation.grid import grid_from_embeddings, refuse_seen

        passages, queries = read_vectors(self.passages), read_vectors(self.queries or self.passages, "queries")
        for vectors in (passages, queries):
            if not allow_seen:
                refuse_seen(_encoder(vectors), data)
            _tell(vectors)
        return grid_from_embeddings(queries, passages, data, progress=True, **chosen)


def vectors_call(models: list[str], passages: Path | None, queries: Path | None) -> GivenVectors | None:
    """What these options ask for; None for nothing.

    Raises:
        BeirHybridError: they do not go together.
    """
    if passages is None:
        if queries is not None:
            raise BeirHybridError("--query-vectors needs --passage-vectors: name the vectors of the passages too.")
        return None
    if queries is None and len(models) != 1:
        raise BeirHybridError(
            f"--passage-vectors with {len(models)} models: name the one that made them, to encode the questions, "
            "or give --query-vectors, and no model."
        )
    if queries is not None and models:
        raise BeirHybridError("--query-vectors and a model: questions are encoded once; leave one of the two out.")
    return GivenVectors(passages, queries)


def _encoder(vectors: KeyedVectors | StoredByText) -> dict[str, Any]:
    """What the manifest beside the vectors says of their encoder."""
    manifest = vectors.describe().get("manifest") or {}
    about = manifest.get("encoder")
    return about if isinstance(about, dict) else {}


def _check_model(found: KeyedVectors | StoredByText, encoder: DenseEncoder) -> None:
    dimension = encoder.model.get_embedding_dimension()
    if found.vectors.dimension != dimension:
        raise BeirHybridError(
            f"{found.source}: vectors of {found.vectors.dimension} dimensions, and {encoder.name} makes them of "
            f"{dimension}; name the model that made these."
        )
    about = _encoder(found)
    if "digest" not in about:
        return
    from beir_hybrid.encoders.dense import weights_digest

    if about["digest"] != weights_digest(encoder.model):
        raise BeirHybridError(
            f"{found.source}: made by {about.get('model', 'another model')}, and {encoder.name} has other weights, so "
            "their vectors cannot be compared; name the model that made these."
        )
    wanted = (about.get("prompts") or {}).get("query")
    if isinstance(wanted, str) and wanted != encoder.query_prompt:
        typer.echo(
            f"{found.source} was exported for questions with {wanted!r} before them, and {encoder.name} puts "
            f"{encoder.query_prompt!r}; --query-prompt says which.",
            err=True,
        )


def _tell(found: KeyedVectors | StoredByText) -> None:
    if found.note:
        typer.echo(f"{found.source}: {found.note}.", err=True)
