"""Epochs of several sources, of several blocks, with rows of like length, and with an adaptive alpha."""

from __future__ import annotations

import json
import math
import pickle
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training import supply
from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.mixing import BatchKind
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.schedule import AdaptiveAlpha
from tests.training.test_joined import source

KINDS = [kind.value for kind in BatchKind]


def check(sampler: HybridBatchSampler, epoch: int) -> Counter[int]:
    """Every rule of an epoch, row by row: the slow reference. How often each item was used."""
    pairs, ranks = sampler.pairs, sampler.world_size
    sampler.set_epoch(epoch)
    batches, plan = list(sampler), sampler.plan(epoch)
    assert len(batches) == len(sampler) == sampler.steps * ranks
    seen: Counter[int] = Counter()
    for step in range(sampler.steps):
        flat = [one for batch in batches[step * ranks : (step + 1) * ranks] for one in batch]
        item, query, passage = sampler.decode(flat)
        kind = list(BatchKind)[plan.kind[step]]
        assert set(pairs.source_of(item).tolist()) == {int(plan.source[step])}
        assert len(set(pairs.groups(item).tolist())) == len(flat)
        width = len(pairs.languages)
        for table, language in ((pairs.asks, query), (pairs.answers, passage)):
            assert table.table(item, width)[np.arange(len(item)), language].all()
        assert ((query != passage) == (kind is BatchKind.X_Y)).all()
        if kind is not BatchKind.X_Y:
            assert pairs.parts[int(plan.source[step])].same_language
        if kind is BatchKind.X_X_MONO:
            assert set(query.tolist()) == {int(plan.language[step])}
        assert int(plan.reused[step]) == sum(1 for one in item.tolist() if one in seen)
        seen.update(item.tolist())
    done = sampler.composition()
    assert done["reused_rows"] == sum(seen.values()) - len(seen)
    assert sum(done["sources"].values()) == sampler.steps  # type: ignore[attr-defined]
    json.dumps(done, allow_nan=False)
    return seen


SOURCES = st.lists(
    st.tuples(st.sampled_from(["en".replace("n", ""), "ea", "abe", "ab"]), st.integers(10, 60), st.booleans()),
    min_size=1,
    max_size=3,
)


@settings(max_examples=120, deadline=None)
@given(
    chosen=SOURCES,
    batching=st.sampled_from(["hybrid", "x-x-mono", "x-y", "x-x"]),
    weights=st.sampled_from(["proportional", "uniform", 2.0]),
    repeat=st.booleans(),
    bucketing=st.booleans(),
    batch_size=st.integers(1, 4),
    world_size=st.integers(1, 2),
    seed=st.integers(0, 999),
)
def test_every_rule_holds(
    chosen: list[tuple[str, int, bool]], batching: str, weights: Any, repeat: bool, bucketing: bool, batch_size: int,
    world_size: int, seed: int,
) -> None:  # fmt: skip
    parts = [source(f"s{n}", *one[:2], seed + n, same=one[2]) for n, one in enumerate(chosen)]

    def sampler() -> HybridBatchSampler:
        return HybridBatchSampler(
            parts, batch_size, batching, 0.4, seed, world_size,
            source_weights=weights, repeat_items=repeat, length_bucketing=bucketing,
        )  # fmt: skip

    try:
        made = sampler()
    except BeirHybridError:
        return  # which of them must be refused is the business of the tests of one source
    for epoch in (seed % 3, 7):
        check(made, epoch)
    other = sampler()
    other.plan(3)
    np.testing.assert_array_equal(other.plan(7).flat, made.plan(7).flat)  # nothing but (seed, epoch) matters


def full(name: str, codes: str, items: int) -> ParallelPairs:
    rows = np.arange(items * len(codes)).reshape(items, len(codes))
    texts = [f"{name} {row} " + "long " * (row * 7919 % 40) for row in range(rows.size)]
    return ParallelPairs(tuple(codes), texts, texts, rows, rows, np.arange(items), name, name)


@pytest.mark.parametrize(
    ("weights", "share"), [("proportional", 0.9), ("uniform", 0.5), (2, 3 / 4), ({"big": 1, "small": 3}, 0.25)]
)
def test_sources_are_drawn_by_weight(weights: Any, share: float) -> None:
    parts = [full("big", "ab", 900), full("small", "ab", 100)]
    sampler = HybridBatchSampler(parts, 5, source_weights=weights)
    assert sampler.steps == int(min(900 / share, 100 / (1 - share)) / 5 + 1e-9)  # until the first has run out
    seen = check(sampler, 3)
    assert max(seen.values()) == 1
    again = HybridBatchSampler(parts, 5, source_weights=weights, repeat_items=True)
    assert again.steps == 200
    done: Any = again.composition(40 * 200)
    assert abs(done["sources"]["big"] - 8000 * share) < 4.5 * math.sqrt(8000 * share * (1 - share))
    assert done["redrawn_steps"] == 0
    assert done["settings"]["sources"] == pytest.approx({"big": share, "small": 1 - share})
    seen = check(again, 5)
    small = [seen[item] for item in range(900, 1000)]
    assert max(small) - min(small) <= 2  # passes over what is short, each as whole as its streams allow


def test_a_source_serves_what_it_holds() -> None:
    parallel, sentences, alone = full("parallel", "ab", 60), full("sentences", "ab", 60), full("alone", "c", 60)
    sentences = ParallelPairs(
        sentences.languages, sentences.query_texts, sentences.passage_texts, sentences.query_row,
        sentences.passage_row, sentences.item_group, "sentences", "", same_language=False,
    )  # fmt: skip
    sampler = HybridBatchSampler([parallel, sentences, alone], 4, "hybrid", 0.5)
    kinds: dict[str, set[int]] = {}
    for epoch in range(10):
        check(sampler, epoch)
        plan = sampler.plan(epoch)
        for kind, own in zip(plan.kind.tolist(), plan.source.tolist(), strict=True):
            kinds.setdefault(list(BatchKind)[kind].value, set()).add(own)
    assert kinds == {"x-x-mono": {0, 2}, "x-y": {0, 1}}
    with pytest.raises(BeirHybridError, match="x-x-mono batches in a"):
        HybridBatchSampler([sentences], 4, "x-x-mono")
    with pytest.raises(BeirHybridError, match="'smal'"):
        HybridBatchSampler(
            [full("big", "a", 9), full("small", "a", 9)], 2, source_weights={"smal": 1}, batching="x-x-mono"
        )


@pytest.mark.parametrize("chosen", [{}, {"batching": "x-y"}, {"length_bucketing": True}, {"world_size": 2}])
def test_blocks(monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]) -> None:
    monkeypatch.setattr(supply, "BLOCK", 400)
    monkeypatch.setattr(supply, "_PLENTY", 4)
    parts = [full("a", "abc", 1700), full("b", "bcd", 1000)]
    settings_: dict[str, Any] = {"batch_size": 8, "seed": 4, **chosen}
    sampler = HybridBatchSampler(parts, **settings_)
    pieces = sampler._drawing.pieces(0)
    assert len(pieces) > 3
    assert [piece.first for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    seen = check(sampler, 2)
    assert max(seen.values()) == 1
    last = sampler._drawing.plan(2, len(pieces) - 1)
    other = HybridBatchSampler(parts, **settings_)
    np.testing.assert_array_equal(other._drawing.plan(2, len(pieces) - 1).flat, last.flat)  # without those before
    assert sampler.plan(3).flat.tobytes() != sampler.plan(2).flat.tobytes()
    steps = sampler.steps + pieces[1].first + 3
    counted: Counter[str] = Counter()
    for epoch, part in ((0, sampler.steps), (1, pieces[1].first + 3)):
        counted.update(list(BatchKind)[kind].value for kind in sampler.plan(epoch).kind[:part].tolist())
    assert sampler.composition(steps)["kinds"] == counted


def test_pieces_are_what_they_are_whoever_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "BLOCK", 400)
    monkeypatch.setattr(supply, "_PLENTY", 4)
    pairs = full("a", "abc", 4000)
    threads = HybridBatchSampler(pairs, 8, seed=2)
    alone = HybridBatchSampler(pairs, 8, seed=2)._drawing
    pieces = len(alone.pieces(1))
    assert pieces == 10
    backwards = [alone._whole_block(1, number) for number in reversed(range(pieces))][::-1]
    for name in ("kind", "language", "flat", "redrawn", "source", "reused"):
        whole = np.concatenate([getattr(plan, name) for plan in backwards])
        np.testing.assert_array_equal(getattr(threads.plan(1), name), whole)
    # Out of order, of two epochs in turn, and of one that another process would have planned.
    other = pickle.loads(pickle.dumps(threads))._drawing
    for number in (7, 2, 3, 9, 0):
        np.testing.assert_array_equal(other.plan(1, number).flat, backwards[number].flat)
        assert other.plan(0, number).flat.tobytes() != backwards[number].flat.tobytes()


def test_the_next_block_is_drawn_while_this_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "BLOCK", 400)
    sampler = HybridBatchSampler(full("a", "ab", 4000), 4)
    drawn: list[int] = []
    lock, block_items = threading.Lock(), supply.Supply.block_items

    def noted(self: supply.Supply, epoch: int, block: int, random: np.random.Generator) -> Any:
        with lock:
            drawn.append(block)
        if block == 3:
            raise BeirHybridError("the table cannot be read")
        return block_items(self, epoch, block, random)

    monkeypatch.setattr(supply.Supply, "block_items", noted)
    batches = iter(sampler)
    next(batches)
    until = time.monotonic() + 20
    while 1 not in drawn and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(drawn) == [0, 1]  # one ahead, and no more
    with pytest.raises(BeirHybridError, match="cannot be read"):
        list(batches)
    assert sorted(drawn) in ([0, 1, 2, 3], [0, 1, 2, 3, 4])


def test_scarce_languages_make_blocks_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "BLOCK", 400)
    pairs = full("a", "ab", 4000)
    assert HybridBatchSampler(pairs, 4)._drawing.supply.blocks == 10
    pairs.query_row[600:, 1] = -1
    assert HybridBatchSampler(pairs, 4)._drawing.supply.blocks == 600 // (64 * 4)
    assert HybridBatchSampler(pairs, 8)._drawing.supply.blocks == 1


@pytest.mark.parametrize("batching", ["hybrid", "x-x-mono", "x-x"])
def test_sentences_make_no_rows_of_one_language(batching: str) -> None:
    sentences = replace(full("news", "ab", 40), same_language=False)
    assert HybridBatchSampler(sentences, 4, "x-y").steps == 10
    with pytest.raises(BeirHybridError, match=r"news holds sentences .* Use x-y batches, or add questions"):
        HybridBatchSampler(sentences, 4, batching)


@pytest.mark.parametrize("batching", ["x-x-mono", "x-y"])
def test_rows_of_like_length_share_a_step(batching: str) -> None:
    pairs = full("a", "abc", 600)
    padded = {}
    for bucketing in (False, True):
        sampler = HybridBatchSampler(pairs, 10, batching, length_bucketing=bucketing)
        check(sampler, 1)
        item, _, passage = sampler.decode(sampler.plan(1).flat)
        lengths = np.array([len(text) for text in pairs.passage_texts])[pairs.passage_row[item, passage]]
        padded[bucketing] = 1 - lengths.sum() / (lengths.max(axis=1) * 10).sum()
    assert padded[False] > 0.35
    assert padded[True] < (0.12 if batching == "x-x-mono" else 0.35)
    # Neighbours in length do not come one after the other.
    plan = HybridBatchSampler(pairs, 10, "x-x-mono", length_bucketing=True).plan(0)
    item, _, passage = sampler.decode(plan.flat)
    means = np.array([len(text) for text in pairs.passage_texts])[pairs.passage_row[item, passage]].mean(axis=1)
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.4


def test_lengths_may_be_told() -> None:
    pairs = full("a", "abc", 600)
    asked: list[str] = []

    def checksum(texts: Sequence[str]) -> npt.NDArray[np.int64]:
        asked.extend(texts)
        return np.array([zlib.crc32(text.encode()) % 1000 for text in texts])

    sampler = HybridBatchSampler(pairs, 10, "x-x-mono", length_bucketing=checksum)
    check(sampler, 1)
    assert len(asked) == len(np.unique(pairs.passage_row[pairs.passage_row >= 0])), "each passage is measured once"
    item, _, passage = sampler.decode(sampler.plan(1).flat)
    rows = pairs.passage_row[item, passage]
    told = checksum([pairs.passage_texts[row] for row in rows.ravel().tolist()]).reshape(rows.shape)
    assert np.ptp(told, axis=1).mean() < 250, "of like length, as the function has it"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 30), st.integers(0, 999))
def test_dealing_by_length_never_puts_a_group_twice_into_a_step(steps: int, rows: int, groups: int, seed: int) -> None:
    from beir_hybrid.training.planning import _deal_alike

    random = np.random.default_rng(seed)
    # At most `steps` cards of a group: all that is promised.
    drawn = np.repeat(np.arange(max(groups, rows)), steps)
    group = random.permutation(drawn)[: steps * rows]
    cards = np.arange(len(group))
    dealt = _deal_alike(cards, group, random.permutation(int(group.max()) + 1)[group], steps)
    assert dealt.shape == (steps, rows)
    assert sorted(dealt.ravel().tolist()) == cards.tolist()
    assert all(len(set(group[step].tolist())) == rows for step in dealt)


def feed(sampler: HybridBatchSampler, epoch: int, losses: dict[str, float], steps: int | None = None) -> list[int]:
    """Read an epoch as a loader does that is a few batches ahead, and tell the losses. The kinds."""
    schedule = sampler.schedule
    assert isinstance(schedule, AdaptiveAlpha)
    sampler.set_epoch(epoch)
    waiting, kinds = [], []
    for batch in sampler:
        _, query, passage = sampler.decode(batch)
        waiting.append("x-y" if (query != passage).any() else "x-x-mono")
        if len(waiting) > 3:
            kinds.append(waiting.pop(0))
            schedule.add(kinds[-1], losses[kinds[-1]])
        if steps is not None and len(kinds) == steps:
            return kinds
    for kind in waiting:
        kinds.append(kind)
        schedule.add(kind, losses[kind])
    return kinds


def test_adaptive_alpha_gives_more_steps_to_the_higher_loss() -> None:
    def made() -> HybridBatchSampler:
        return HybridBatchSampler(
            full("a", "abc", 1000), 4, "hybrid", 0.5, 3,
            alpha_schedule={"adaptive": {"every": 20, "rate": 0.3, "high": 0.8}},
        )  # fmt: skip

    sampler = made()
    assert sampler.steps == 250
    kinds = [feed(sampler, epoch, {"x-x-mono": 2.0, "x-y": 1.0}) for epoch in range(3)]
    history = sampler.schedule.history  # type: ignore[union-attr]
    assert history[:2] == [0.5, 0.5]
    assert history[2] == pytest.approx(1 / (1 + 2**-0.3))
    assert history[-1] == 0.8
    assert kinds[2].count("x-x-mono") > 170
    assert check(sampler, 2)
    about: Any = sampler.composition(3 * 250)["settings"]
    assert about["alpha"]["history"] == history
    # A second one, stopped in the middle of a stretch, whose state is read back from JSON, draws the same.
    first = made()
    feed(first, 0, {"x-x-mono": 2.0, "x-y": 1.0})
    done = feed(first, 1, {"x-x-mono": 2.0, "x-y": 1.0}, 73)
    second = made()
    second.schedule.load(json.loads(json.dumps(first.schedule.state())))  # type: ignore[union-attr]
    assert [list(BatchKind)[kind].value for kind in second.plan(0).kind] == kinds[0]
    second.set_epoch(1)
    rest = iter(second)
    for kind in done:
        _, query, passage = second.decode(next(rest))
        assert ("x-y" if (query != passage).any() else "x-x-mono") == kind
    with pytest.raises(BeirHybridError, match="not known after 323 steps"):
        list(rest)


def test_wrong_adaptive_schedules() -> None:
    pairs = full("a", "ab", 60)
    for bad, says in (
        ({"adaptive": {"evry": 2}}, "expected None"), ({"adaptive": {"every": 0}}, "whole number"),
        ({"adaptive": {"low": 0.0}}, "0 < low"), ({"adaptive": {"low": 0.6, "high": 0.7}}, "begin there"),
        ({"adaptive": {"rate": -1}}, "rate"), ("adaptiv", "expected None"),
    ):  # fmt: skip
        with pytest.raises(BeirHybridError, match=says):
            HybridBatchSampler(pairs, 4, alpha_schedule=bad)
    with pytest.raises(BeirHybridError, match="hybrid batches"):
        HybridBatchSampler(pairs, 4, "x-y", alpha_schedule="adaptive")
