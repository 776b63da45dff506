from __future__ import annotations

import json
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.readers.lareqa import read_lareqa
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.mixing import BATCHINGS, BatchKind, mixture
from beir_hybrid.training.pairs import ParallelPairs

MLQA_R = Path(__file__).parents[3] / "shared" / "data" / "lareqa" / "mlqa-r"
CODES = ("en", "de", "hi", "ar", "zh")


def made(items: int, languages: int, has: float = 1.0, groups: int | None = None, seed: int = 0) -> ParallelPairs:
    """Pairs without texts: each question and each passage exists with probability `has`, those in English always."""
    random = np.random.default_rng(seed)
    rows = [np.where(random.random((items, languages)) < has, 0, -1) for _ in range(2)]
    for side in rows:
        side[:, 0] = 0
    numbers = np.arange(items) if groups is None else random.integers(groups, size=items)
    group = np.unique(numbers, return_inverse=True)[1]
    return ParallelPairs(CODES[:languages], [], [], rows[0], rows[1], group, "made", "")


def check(sampler: HybridBatchSampler, epoch: int) -> None:
    """Every rule of an epoch, row by row: the slow reference."""
    (pairs,), ranks = sampler.pairs.parts, sampler.world_size
    sampler.set_epoch(epoch)
    batches = list(sampler)
    plan = sampler.plan(epoch)
    assert len(batches) == len(sampler)
    assert len(sampler) % ranks == 0
    seen: Counter[int] = Counter()
    english = pairs.languages.index("en")
    for step in range(len(batches) // ranks):
        kind, groups, languages = list(BatchKind)[plan.kind[step]], [], set()
        for batch in batches[step * ranks : (step + 1) * ranks]:
            assert len(batch) == sampler.batch_size
            for item, query, passage in zip(*(a.tolist() for a in sampler.decode(batch)), strict=True):
                assert pairs.query_row[item, query] >= 0
                assert pairs.passage_row[item, passage] >= 0
                assert (query != passage) == (kind is BatchKind.X_Y)
                seen[item] += 1
                groups.append(int(pairs.item_group[item]))
                languages.add((query, passage))
        assert len(set(groups)) == len(groups)
        if kind in (BatchKind.X_X_MONO, BatchKind.EN_EN):
            assert len(languages) == 1
            assert plan.language[step] == next(iter(languages))[0]
        if kind is BatchKind.EN_EN:
            assert languages == {(english, english)}
    assert sampler.composition()["reused_rows"] == sum(seen.values()) - len(seen)


@settings(max_examples=150, deadline=None)
@given(
    items=st.integers(8, 60),
    languages=st.integers(1, 5),
    has=st.sampled_from([1.0, 0.9, 0.6, 0.3]),
    groups=st.sampled_from([None, 40, 12, 5]),
    batch_size=st.integers(1, 6),
    world_size=st.integers(1, 3),
    batching=st.sampled_from(BATCHINGS),
    alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 1000),
)
def test_every_rule_holds(
    items: int, languages: int, has: float, groups: int | None, batch_size: int, world_size: int, batching: str,
    alpha: float, seed: int, epoch: int,
) -> None:  # fmt: skip
    pairs = made(items, languages, has, groups, seed % 1000)
    needed = batch_size * world_size
    asks, answers = pairs.query_row >= 0, pairs.passage_row >= 0
    both = asks & answers
    kinds = mixture(batching, alpha)
    usable = [both[:, number] for number in range(languages) if BatchKind.X_X_MONO in kinds]
    usable += [both[:, 0]] * (BatchKind.EN_EN in kinds) + [both.any(axis=1)] * (BatchKind.X_X in kinds)
    usable += [(asks[:, :, None] & answers[:, None] & ~np.eye(languages, dtype=bool)).any(axis=(1, 2))] * (
        BatchKind.X_Y in kinds
    )
    mixed = {BatchKind.X_Y, BatchKind.X_X} & set(kinds)
    absent = (not both.any(axis=0).all() and BatchKind.X_X in kinds) or not (asks | answers).any(axis=0).all()
    if (mixed and (languages < 2 or absent)) or min(
        len(set(pairs.item_group[mask].tolist())) for mask in usable
    ) < needed:  # some step cannot be drawn
        with pytest.raises(BeirHybridError, match="batch"):
            HybridBatchSampler(pairs, batch_size, batching, alpha, seed, world_size)
        return
    sampler = HybridBatchSampler(pairs, batch_size, batching, alpha, seed, world_size)
    check(sampler, epoch)
    first = sampler.plan(epoch).flat
    other = HybridBatchSampler(pairs, batch_size, batching, alpha, seed, world_size)
    other.plan(epoch + 1)
    np.testing.assert_array_equal(other.plan(epoch).flat, first)  # nothing but (seed, epoch) matters
    assert len(other) == len(sampler)


@settings(max_examples=40, deadline=None)
@given(
    items=st.integers(12, 80), languages=st.integers(2, 5), rows=st.integers(1, 6), seed=st.integers(0, 99),
    alpha=st.floats(0, 1),
)  # fmt: skip
def test_parallel_items_are_never_used_twice(items: int, languages: int, rows: int, seed: int, alpha: float) -> None:
    sampler = HybridBatchSampler(made(items, languages), rows, "hybrid", alpha, seed)
    assert len(sampler) == items // rows
    assert sampler.composition()["reused_rows"] == 0
    assert sampler.composition()["redrawn_steps"] == 0


def test_seeds_and_epochs_differ() -> None:
    pairs = made(60, 3)
    drawn = {
        HybridBatchSampler(pairs, 6, seed=seed).plan(epoch).flat.tobytes() for seed in range(4) for epoch in range(4)
    }
    assert len(drawn) == 16


def test_a_step_is_the_same_however_many_processes_share_it() -> None:
    pairs = made(96, 3, 0.7, 60)
    alone, shared = HybridBatchSampler(pairs, 12, world_size=1), HybridBatchSampler(pairs, 4, world_size=3)
    np.testing.assert_array_equal(alone.plan(5).flat, shared.plan(5).flat)
    ranks = list(shared)
    assert [[*ranks[i], *ranks[i + 1], *ranks[i + 2]] for i in range(0, len(ranks), 3)] == list(alone)


def test_frequencies_are_those_of_the_mixture() -> None:
    pairs, alpha, epochs = made(400, 4), 0.3, 40
    sampler = HybridBatchSampler(pairs, 4, alpha=alpha, seed=11)
    done = sampler.composition(epochs * sampler.steps)
    steps, kinds, languages = done["steps"], done["kinds"], done["languages"]
    assert steps == epochs * 100

    def close(count: int, total: int, p: float) -> bool:
        return abs(count - total * p) < 4.5 * math.sqrt(total * p * (1 - p))

    assert close(kinds["x-x-mono"], steps, alpha)
    assert all(close(languages[code], kinds["x-x-mono"], 1 / 4) for code in CODES[:4])
    crossing = {name: n for name, n in done["pairs"].items() if name[:2] != name[3:]}
    assert len(crossing) == 12
    assert all(close(n, sum(crossing.values()), 1 / 12) for n in crossing.values())
    json.dumps(done)


def test_ordered_pairs_are_uniform_over_those_the_item_has() -> None:
    pairs = made(6, 4)
    pairs.query_row[:, [1, 3]] = -1  # questions in 0 and 2, passages in 0, 1 and 2: (0,1), (0,2), (2,0), (2,1)
    pairs.passage_row[:, 3] = -1
    pairs.query_row[0, 3] = pairs.passage_row[0, 3] = 0  # or the language would be refused as empty
    sampler = HybridBatchSampler(pairs, 6, "x-y")
    counts: Counter[tuple[int, int]] = Counter()
    for epoch in range(600):
        item, query, passage = sampler.decode(sampler.plan(epoch).flat[0])
        counts.update(zip(query[item > 0].tolist(), passage[item > 0].tolist(), strict=True))
    assert set(counts) == {(0, 1), (0, 2), (2, 0), (2, 1)}
    assert all(abs(n - 750) < 4.5 * math.sqrt(3000 * 0.25 * 0.75) for n in counts.values())


def test_scarce_languages_move_first_and_reuse_is_counted() -> None:
    pairs = made(200, 3)
    pairs.query_row[20:, 1] = -1  # 20 items in German
    sampler = HybridBatchSampler(pairs, 10, "x-x-mono", seed=1)
    for epoch in range(20):
        check(sampler, epoch)
        done = sampler.composition()
        assert done["languages"].get("de", 0) <= 2
        assert done["reused_rows"] == 0
    assert sampler.composition(20 * sampler.steps)["redrawn_steps"] > 0

    half = made(200, 3)
    half.query_row[100:, 1:] = half.passage_row[100:, 1:] = -1  # half of the items are in English alone
    sampler = HybridBatchSampler(half, 10, "x-y")
    assert len(sampler) == 10  # what no batch can use does not count
    check(HybridBatchSampler(half, 10, "hybrid", 0.2), 3)
    assert HybridBatchSampler(half, 10, "hybrid", 0.2).composition(20)["reused_rows"] > 0


def test_composition_counts_what_was_yielded() -> None:
    sampler = HybridBatchSampler(made(50, 3, 0.8, 40), 5, seed=4)
    flats = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        flats += [flat for batch in sampler for flat in batch]
    steps = 2 * sampler.steps + 3
    _, query, passage = sampler.decode(flats[: steps * 5])
    counted = Counter(f"{CODES[q]}-{CODES[p]}" for q, p in zip(query.tolist(), passage.tolist(), strict=True))
    done = sampler.composition(steps)
    assert done["pairs"] == counted
    assert done["steps"] == steps
    assert done["rows"] == 5 * steps
    assert sampler.composition(0)["rows"] == 0


def test_mixture() -> None:
    assert mixture("hybrid", 0.25) == {BatchKind.X_X_MONO: 0.25, BatchKind.X_Y: 0.75}
    assert mixture("hybrid", 1.0) == {BatchKind.X_X_MONO: 1.0}
    assert mixture("en-en") == {BatchKind.EN_EN: 1.0}
    with pytest.raises(BeirHybridError, match=r"'xy'.*Known: hybrid, x-x-mono, x-y, x-x, en-en"):
        mixture("xy", 0.5)
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(BeirHybridError, match="alpha"):
            mixture("hybrid", alpha)


def test_what_cannot_be_drawn_is_refused_at_once() -> None:
    with pytest.raises(BeirHybridError, match="has only en"):
        HybridBatchSampler(made(20, 1), 4, "x-y")
    pairs = made(20, 3)
    pairs.query_row[3:, 2] = -1
    with pytest.raises(BeirHybridError, match=r"in hi.*3 items.*batch size of at most 3"):
        HybridBatchSampler(pairs, 4)
    with pytest.raises(BeirHybridError, match=r"2 x 3 processes.*at most 1"):
        HybridBatchSampler(pairs, 2, world_size=3)
    pairs.query_row[:, 2] = pairs.passage_row[:, 2] = -1
    with pytest.raises(BeirHybridError, match="no item of made exists in hi"):
        HybridBatchSampler(pairs, 4, "x-y")
    with pytest.raises(BeirHybridError, match="2 different answers"):
        HybridBatchSampler(made(20, 2, groups=2), 4)
    with pytest.raises(BeirHybridError, match="need English"):
        HybridBatchSampler(
            ParallelPairs(("de",), [], [], *[np.zeros((9, 1), dtype=np.int64)] * 2, np.arange(9), "x", ""), 4, "en-en"
        )
    for bad in ({"batch_size": 0}, {"batch_size": 2, "seed": -1}, {"batch_size": 2, "world_size": 0}):
        with pytest.raises(BeirHybridError, match="start at"):
            HybridBatchSampler(made(20, 2), **bad)


@pytest.mark.parametrize("batching", BATCHINGS)
def test_toy_collection(toy_collection: MultilingualCollection, batching: str) -> None:
    sampler = HybridBatchSampler(ParallelPairs.from_collection(toy_collection), 5, batching, world_size=2)
    for epoch in range(5):
        check(sampler, epoch)


@pytest.mark.skipif(not MLQA_R.is_dir(), reason=f"MLQA-R is not at {MLQA_R}")
@pytest.mark.parametrize("batching", BATCHINGS)
def test_mlqa_r(batching: str) -> None:
    codes = ("ar", "de", "en", "es", "hi", "vi", "zh")
    collection = read_lareqa(MLQA_R, "mlqa-r", codes, CollectionInfo("CC BY-NC 4.0", "", "LAReQA"))
    pairs = ParallelPairs.from_collection(collection)
    assert len(pairs) == 1148
    sampler = HybridBatchSampler(pairs, 100, batching, seed=5)
    assert len(sampler) == 11
    for epoch in range(3):
        check(sampler, epoch)
        assert sampler.composition()["reused_rows"] == 0


def test_a_large_epoch_is_planned_in_well_under_a_second() -> None:
    sampler = HybridBatchSampler(made(87_600, 5, 0.6, 60_000), 100)
    start = time.perf_counter()
    sampler.plan(0)
    assert time.perf_counter() - start < 1.0
