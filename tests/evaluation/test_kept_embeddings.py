from __future__ import annotations

from pathlib import Path

import pytest

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.grid import evaluate_grid

pytestmark = pytest.mark.usefixtures("one_thread")


def test_embeddings_are_kept_and_taken_again(
    tiny_model: Path, toy_collection: MultilingualCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = DenseEncoder(tiny_model, precision="float32", progress=False)
    plain = evaluate_grid(encoder, toy_collection)
    first = evaluate_grid(encoder, toy_collection, embeddings=tmp_path)
    for one, other in zip(plain.figures, first.figures, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-6 if one.measure != "RankDistance" else 0.5)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(encoder.model, "forward", never)
    again = evaluate_grid(encoder, toy_collection, embeddings=tmp_path)
    assert again.figures == first.figures
    assert again.provenance["encoder"]["precision"] == "float32"
    monkeypatch.undo()
    other = DenseEncoder(tiny_model, precision="float32", progress=False, query_prompt="ask: ")
    evaluate_grid(other, toy_collection, embeddings=tmp_path)
    assert len(list(tmp_path.glob("query-*"))) == 2
    assert len(list(tmp_path.glob("passage-*"))) == 1


def test_embeddings_of_which_a_bit_was_flipped_are_refused(
    tiny_model: Path, toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    encoder = DenseEncoder(tiny_model, precision="float32", progress=False)
    evaluate_grid(encoder, toy_collection, embeddings=tmp_path)
    (shard,) = tmp_path.glob("passage-*/*.npy")
    data = bytearray(shard.read_bytes())
    data[-2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(BeirHybridError, match="another SHA-256 than its name says"):
        evaluate_grid(encoder, toy_collection, embeddings=tmp_path)
    shard.unlink()
    evaluate_grid(encoder, toy_collection, embeddings=tmp_path)
    assert shard.exists()


def test_only_of_an_encoder_that_can_be_told_from_others(
    toy_collection: MultilingualCollection, tmp_path: Path
) -> None:
    class Some:
        def encode_queries(self, queries: list[str], **_: object) -> object:
            raise AssertionError

        encode_corpus = encode_queries

    with pytest.raises(BeirHybridError, match="of a DenseEncoder alone"):
        evaluate_grid(Some(), toy_collection, embeddings=tmp_path)  # type: ignore[arg-type]
