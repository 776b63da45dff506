from __future__ import annotations

import hashlib
import itertools
import json
import math
import pickle
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.mixing import BatchKind, batching_name, mixture, pair_choice, shares
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.rows import PairDataset
from beir_hybrid.training.schedule import LinearAlpha
from tests.training.test_batching import CODES, check, made

KINDS = [kind.value for kind in BatchKind]


def close(count: float, total: int, p: float) -> bool:
    return abs(count - total * p) <= 4.5 * math.sqrt(total * p * (1 - p)) + 1e-9


def slow_eligible(pairs: ParallelPairs, wanted: set[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Of each item the wanted ordered pairs that it has."""
    return [
        [(q, p) for q, p in sorted(wanted) if pairs.query_row[item, q] >= 0 and pairs.passage_row[item, p] >= 0]
        for item in range(len(pairs))
    ]


def slow_groups(pairs: ParallelPairs, items: list[int]) -> int:
    return len({int(pairs.item_group[item]) for item in items})


def wanted_pairs(setting: Any, languages: int) -> dict[tuple[int, int], float]:
    every = dict.fromkeys(itertools.permutations(range(languages), 2), 1.0)
    if setting == "all":
        return every
    if isinstance(setting, str):
        pivot = CODES.index(setting[6:])
        return {pair: 1.0 for pair in every if pivot in pair}
    return {(CODES.index(n[:2]), CODES.index(n[3:])): w for n, w in setting.items() if w > 0}


@st.composite
def settings_of(draw: st.DrawFn) -> dict[str, Any]:
    languages = draw(st.integers(2, 4))
    codes, weight = CODES[:languages], st.sampled_from([0.0, 0.3, 1.0, 5.0])
    names = [f"{q}-{p}" for q, p in itertools.permutations(codes, 2)]
    schedule = draw(st.booleans())
    some = st.dictionaries(st.sampled_from(KINDS), weight, min_size=1).filter(lambda d: any(d.values()))
    return {
        "languages": languages,
        "has": draw(st.sampled_from([1.0, 0.9, 0.6])),
        "groups": draw(st.sampled_from([None, 40, 12])),
        "batching": "hybrid" if schedule else draw(st.one_of(st.sampled_from(["hybrid", *KINDS]), some)),
        "alpha_schedule": {"end": draw(st.sampled_from([0.0, 0.4, 1.0]))} if schedule else None,
        "language_weights": draw(
            st.one_of(
                st.sampled_from(["uniform", "proportional", 2, 0.5, math.inf]),
                st.fixed_dictionaries(dict.fromkeys(codes, weight)).filter(lambda d: any(d.values())),
            )
        ),
        "language_pairs": draw(
            st.one_of(
                st.just("all"),
                st.sampled_from([f"pivot:{code}" for code in codes]),
                st.dictionaries(st.sampled_from(names), weight, min_size=1).filter(lambda d: any(d.values())),
            )
        ),
        "pair_per": draw(st.sampled_from(["row", "batch"])),
    }


@settings(max_examples=250, deadline=None)
@given(chosen=settings_of(), batch_size=st.integers(1, 4), world_size=st.integers(1, 2), seed=st.integers(0, 999))
def test_every_rule_holds(chosen: dict[str, Any], batch_size: int, world_size: int, seed: int) -> None:
    pairs = made(60, chosen["languages"], chosen["has"], chosen["groups"], seed)
    own = {name: chosen[name] for name in chosen if name not in ("languages", "has", "groups")}
    rows, languages = batch_size * world_size, chosen["languages"]

    # The slow reference: who can serve, and whether they are enough.
    end = (chosen["alpha_schedule"] or {}).get("end", 0.5)
    kinds = {kind.value for alpha in (0.5, end) for kind in mixture(chosen["batching"], alpha)}
    both = [[pairs.query_row[i, c] >= 0 and pairs.passage_row[i, c] >= 0 for c in range(languages)] for i in range(60)]
    wanted = wanted_pairs(chosen["language_pairs"], languages)
    has = slow_eligible(pairs, set(wanted))
    weights = chosen["language_weights"]
    serve: list[list[int]] = []
    if "x-x-mono" in kinds:
        drawn = [c for c in range(languages) if not isinstance(weights, dict) or weights[CODES[c]] > 0]
        serve += [[i for i in range(60) if both[i][c]] for c in drawn]
    if "en-en" in kinds:
        serve.append([i for i in range(60) if both[i][0]])
    if "x-x" in kinds:
        serve.append([i for i in range(60) if any(both[i])])
    whole: dict[tuple[int, int], list[int]] = {}
    if "x-y" in kinds and chosen["pair_per"] == "row":
        serve.append([i for i in range(60) if has[i]])
    elif "x-y" in kinds:
        whole = {pair: [i for i in range(60) if pair in has[i]] for pair in wanted}
        if not isinstance(chosen["language_pairs"], dict):
            whole = {pair: items for pair, items in whole.items() if slow_groups(pairs, items) >= rows}
        serve += list(whole.values()) or [[]]
    if min(slow_groups(pairs, items) for items in serve) < rows:
        with pytest.raises(BeirHybridError, match="batch"):
            HybridBatchSampler(pairs, batch_size, seed=seed, world_size=world_size, total_steps=30, **own)
        return

    sampler = HybridBatchSampler(pairs, batch_size, seed=seed, world_size=world_size, total_steps=30, **own)
    assert sampler.items == len(set().union(*serve))
    assert len(sampler) == sampler.items // rows * world_size
    epoch = seed % 3
    check(sampler, epoch)
    plan = sampler.plan(epoch)
    items, query, passage = sampler.decode(plan.flat)
    for step, number in enumerate(plan.kind.tolist()):
        kind = list(BatchKind)[number]
        assert kind.value in kinds
        ordered = list(zip(query[step].tolist(), passage[step].tolist(), strict=True))
        if kind is BatchKind.X_X_MONO and isinstance(weights, dict):
            assert weights[CODES[plan.language[step]]] > 0
        if kind is BatchKind.X_Y:
            assert all(pair in has[item] for item, pair in zip(items[step].tolist(), ordered, strict=True))
            if whole:
                assert len(set(ordered)) == 1
                assert ordered[0] in whole
        else:
            assert (plan.language[step] >= 0) == (kind is not BatchKind.X_X)
    other = HybridBatchSampler(pairs, batch_size, seed=seed, world_size=world_size, total_steps=30, **own)
    other.plan(epoch + 1)
    np.testing.assert_array_equal(other.plan(epoch).flat, plan.flat)  # nothing but (seed, epoch) matters
    json.dumps(sampler.composition(7), allow_nan=False)


def test_default_batches_stay_what_they_were() -> None:
    done = hashlib.sha256()
    for batching in ("hybrid", *KINDS):
        sampler = HybridBatchSampler(made(90, 4, 0.6, 70), 4, batching, 0.3, 7, 2)
        for epoch in range(6):
            done.update(sampler.plan(epoch).flat.astype("<i8").tobytes())
    assert done.hexdigest() == "60b26e7bd092a9bf1310264401dacf52adf8a93c58a06a54fba3cbf22f02b0d4"


def test_a_mixture_in_its_own_words_is_hybrid() -> None:
    pairs = made(80, 3, 0.8)
    hybrid = HybridBatchSampler(pairs, 4, "hybrid", 0.25, 3)
    same = HybridBatchSampler(pairs, 4, {"x-y": 3, "x-x-mono": 1}, 0.9, 3)
    constant = HybridBatchSampler(pairs, 4, "hybrid", 0.25, 3, alpha_schedule={"end": 0.25}, total_steps=9)
    for other in (same, constant):
        np.testing.assert_array_equal(hybrid.plan(4).flat, other.plan(4).flat)


def test_mixture_of_kinds() -> None:
    assert mixture({"en-en": 1, "x-x": 0, "x-y": 3}) == {BatchKind.X_Y: 0.75, BatchKind.EN_EN: 0.25}
    assert mixture({"x-x": 1e308, "x-y": 1e308}) == {BatchKind.X_Y: 0.5, BatchKind.X_X: 0.5}
    assert batching_name({"en-en": 1, "x-y": 3}) == "x-y 0.75 + en-en 0.25"
    assert batching_name("hybrid") == "hybrid"
    with pytest.raises(BeirHybridError, match=r"'hybrid'.*Known: x-x-mono, x-y, x-x, en-en"):
        mixture({"hybrid": 1.0})
    for bad in ({"x-y": -1}, {"x-y": math.nan}, {"x-y": math.inf}, {"x-y": True}, {"x-y": "1"}, {"x-y": 0}, {},
                {"x-y": 1, "x-x": 1e-300}):  # fmt: skip
        with pytest.raises(BeirHybridError, match="weight"):
            mixture(bad)  # type: ignore[arg-type]
    with pytest.raises(BeirHybridError, match="unknown batching"):
        mixture(["x-y"])  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.sampled_from(KINDS), st.floats(0.1, 10), min_size=1), st.integers(0, 99))
def test_frequencies_of_kinds(weights: dict[str, float], seed: int) -> None:
    sampler = HybridBatchSampler(made(400, 3), 4, weights, seed=seed)
    done = sampler.composition(20 * sampler.steps)
    kinds: Any = done["kinds"]
    assert sum(kinds.values()) == done["steps"] == 2000
    assert all(close(kinds[name], 2000, weights[name] / sum(weights.values())) for name in weights)
    assert done["reused_rows"] == 0
    json.dumps(done)


def test_rows_know_their_kind(toy_collection: MultilingualCollection) -> None:
    pairs = ParallelPairs.from_collection(toy_collection)
    sampler = HybridBatchSampler(pairs, 4, dict.fromkeys(KINDS, 1.0), world_size=2)
    dataset, seen = PairDataset(pairs), set()
    for epoch in range(6):
        sampler.set_epoch(epoch)
        for number, batch in enumerate(sampler):
            kind = list(BatchKind)[sampler.plan(epoch).kind[number // 2]].value
            rows = dataset.__getitems__(batch)
            assert {row["kind"] for row in rows} == {kind}
            plain = sampler.plan(epoch).flat[number // 2, number % 2 * 4 :][:4]
            assert [row["query"] for row in rows] == [row["query"] for row in dataset.__getitems__(plain.tolist())]
            seen.add(kind)
    assert seen == set(KINDS)


@settings(max_examples=15, deadline=None)
@given(
    st.one_of(st.sampled_from(["uniform", "proportional", math.inf]), st.floats(0.3, 20),
              st.fixed_dictionaries({code: st.floats(0.1, 9) for code in CODES[:3]})),
    st.integers(0, 99),
)  # fmt: skip
def test_shares_of_languages(setting: Any, seed: int) -> None:
    pairs = made(600, 3)
    pairs.query_row[300:, 1] = pairs.passage_row[200:, 2] = -1
    items = {"en": 600, "de": 300, "hi": 200}
    if isinstance(setting, dict):
        weights = setting
    else:
        temperature = {"uniform": math.inf, "proportional": 1}.get(setting, setting)
        weights = {code: n ** (1 / temperature) for code, n in items.items()}
    sampler = HybridBatchSampler(pairs, 100, "x-x-mono", seed=seed, language_weights=setting)
    check(sampler, seed)
    shares = sampler.composition(0)["settings"]["languages"]  # type: ignore[index]
    assert shares == pytest.approx({code: w / sum(weights.values()) for code, w in weights.items()})


def test_drawn_languages_follow_the_shares() -> None:
    sampler = HybridBatchSampler(made(3000, 4), 3, "x-x-mono", language_weights={"en": 5, "de": 3, "hi": 0, "ar": 2})
    counts: Any = sampler.composition(4 * sampler.steps)["languages"]
    assert set(counts) == {"en", "de", "ar"}
    assert all(close(counts[code], 4000, p) for code, p in {"en": 0.5, "de": 0.3, "ar": 0.2}.items())


def test_moved_steps_follow_the_weights_too() -> None:
    pairs = made(400, 4)
    pairs.query_row[4:, 1] = -1  # German runs out at once
    weights = {"en": 3, "de": 10, "hi": 0, "ar": 1}
    sampler = HybridBatchSampler(pairs, 4, "x-x-mono", language_weights=weights)
    counts: Any = sampler.composition(20 * sampler.steps)["languages"]
    assert set(counts) == {"en", "de", "ar"}
    assert close(counts["en"], counts["en"] + counts["ar"], 0.75)


def test_shares_of_names() -> None:
    items, codes = np.array([80, 20]), ("en", "de")
    for setting, share in (("uniform", 0.5), ("proportional", 0.8), (1, 0.8), (2, 2 / 3), (math.inf, 0.5), (1e-4, 1.0)):
        np.testing.assert_allclose(shares("language", setting, codes, items), [share, 1 - share])  # type: ignore[arg-type]
    np.testing.assert_allclose(shares("language", {"de": 3, "en": 1}, codes, items), [0.25, 0.75])
    for setting, says in (
        ({"en": 1}, "no weight for de"), ({"en": 1, "de": 1, "fr": 1}, "'fr'"), ({"en": 0, "de": 0}, "above 0"),
        ({"en": 1, "de": -1}, "-1"), (0, "above 0"), (-2, "above 0"), (math.nan, "above 0"), (True, "above 0"),
        ("proportionl", "Did you mean 'proportional'"), (None, "language_weights is None"),
    ):  # fmt: skip
        with pytest.raises(BeirHybridError, match=says):
            shares("language", setting, codes, items)  # type: ignore[arg-type]


def test_a_language_left_out_need_not_fill_a_batch() -> None:
    pairs = made(40, 3)
    pairs.query_row[2:, 2] = -1
    with pytest.raises(BeirHybridError, match="in hi"):
        HybridBatchSampler(pairs, 4, "x-x-mono")
    left_out = {"en": 1.0, "de": 1.0, "hi": 0.0}
    assert "hi" not in HybridBatchSampler(pairs, 4, "x-x-mono", language_weights=left_out).composition()["languages"]  # type: ignore[operator]


@pytest.mark.parametrize("setting", ["pivot:de", {"en-de": 2.0, "de-en": 1.0, "hi-ar": 1.0}])
def test_rows_draw_their_pairs_by_weight(setting: Any) -> None:
    pairs = made(200, 4)
    pairs.passage_row[:50, 1] = -1  # no German passage: some items have fewer of the wanted pairs
    wanted = wanted_pairs(setting, 4)
    has = slow_eligible(pairs, set(wanted))
    sampler = HybridBatchSampler(pairs, 8, "x-y", language_pairs=setting, seed=2)
    counts: dict[int, Counter[tuple[int, int]]] = {0: Counter(), 1: Counter()}
    for epoch in range(60):
        for item, q, p in zip(*(a.ravel().tolist() for a in sampler.decode(sampler.plan(epoch).flat)), strict=True):
            counts[item >= 50][q, p] += 1
    for part, item in ((0, 0), (1, 60)):
        total = sum(wanted[pair] for pair in has[item])
        assert set(counts[part]) == set(has[item])
        rows = sum(counts[part].values())
        assert all(close(n, rows, wanted[pair] / total) for pair, n in counts[part].items())


def test_batches_of_one_pair_follow_weight_times_items() -> None:
    pairs = made(2000, 3)
    pairs.query_row[1000:, 2] = -1  # Hindi questions for half of the items
    sampler = HybridBatchSampler(
        pairs, 2, "x-y", language_pairs={"en-de": 1.0, "de-en": 2.0, "hi-en": 2.0}, pair_per="batch"
    )
    counts: Any = sampler.composition(4 * sampler.steps)["pairs"]
    shares: Any = sampler.composition(0)["settings"]["pairs"]  # type: ignore[index]
    assert shares == pytest.approx({"en-de": 0.25, "de-en": 0.5, "hi-en": 0.25})
    assert all(close(counts[name] / 2, 4000, share) for name, share in shares.items())


def test_pairs_without_enough_answers_are_left_out_or_refused() -> None:
    pairs = made(40, 3)
    pairs.query_row[3:, 2] = -1
    sampler = HybridBatchSampler(pairs, 4, "x-y", pair_per="batch")
    assert not {"hi-en", "hi-de"} & set(sampler.composition(30)["pairs"])  # type: ignore[call-overload]
    check(sampler, 2)
    with pytest.raises(BeirHybridError, match=r"hi-en alone.*3 items.*at most 3"):
        HybridBatchSampler(pairs, 4, "x-y", language_pairs={"hi-en": 1, "en-de": 1}, pair_per="batch")
    HybridBatchSampler(pairs, 4, "x-y", language_pairs={"hi-en": 1, "en-de": 1})
    HybridBatchSampler(pairs, 4, "x-y", language_pairs={"hi-en": 0, "en-de": 1}, pair_per="batch")
    with pytest.raises(BeirHybridError, match="no ordered pair"):
        HybridBatchSampler(pairs, 41, "x-y", pair_per="batch")


def test_wrong_pairs() -> None:
    pairs = made(40, 3)
    pairs.query_row[:, 2] = -1
    for setting, says in (
        ({"hi-en": 1, "en-de": 1}, "no item of made has a question in hi and a passage in en"),
        ({"en-fr": 1}, r"\(en-fr\): 'fr'"), ({"fr-en": 1}, "'fr'"), ({"en-en": 1}, "one language twice"),
        ({"ende": 1}, "'ende' is no ordered pair"), ({"en-": 1}, "no ordered pair"), ({"en-de": -1}, "weight"),
        ({"en-de": 0}, "above 0"), ({}, "above 0"), ("pivot:fr", "'fr'"), ("pivot:", "expected all"),
        ("pivot", "expected all"), ("some", "expected all"), (None, "expected all"), (["en-de"], "expected all"),
    ):  # fmt: skip
        with pytest.raises(BeirHybridError, match=says):
            HybridBatchSampler(pairs, 4, "x-y", language_pairs=setting)  # type: ignore[arg-type]
    with pytest.raises(BeirHybridError, match="Known: row, batch"):
        HybridBatchSampler(pairs, 4, "x-y", pair_per="step")
    HybridBatchSampler(pairs, 4, "x-y", language_pairs={"en-de": 1})  # Hindi questions are not asked for
    assert pair_choice({"zh-Hans-en": 1}, ("en", "zh-Hans")).weight.tolist() == [[0, 0], [1, 0]]


def test_the_schedule_is_a_line_of_the_global_step() -> None:
    sampler = HybridBatchSampler(made(400, 3), 4, "hybrid", 0.9, 5, alpha_schedule={"end": 0.1}, total_steps=2000)
    assert sampler.steps == 100
    kinds = np.concatenate([sampler.plan(epoch).kind for epoch in range(25)]) == list(BatchKind).index(
        BatchKind.X_X_MONO
    )
    alpha = LinearAlpha(0.9, 0.1, 2000).of(np.arange(2500))
    assert alpha[0] == 0.9
    assert alpha[1999] == alpha[2400] == pytest.approx(0.1)
    for start in range(0, 2500, 250):
        part = slice(start, start + 250)
        spread = math.sqrt((alpha[part] * (1 - alpha[part])).sum())
        assert abs(kinds[part].sum() - alpha[part].sum()) < 4.5 * spread
    assert LinearAlpha(0.4, 0.1, 1).of(np.arange(2))[0] == 0.4
    ends = sampler.composition(3)["settings"]["alpha"]  # type: ignore[index]
    assert ends == {"start": 0.9, "end": 0.1, "steps": 2000}


def test_a_resumed_schedule_goes_on_where_it_was() -> None:
    def sampler() -> HybridBatchSampler:
        return HybridBatchSampler(made(60, 3), 4, alpha_schedule={"end": 0.0}, total_steps=70, world_size=2)

    whole, resumed = sampler(), sampler()
    plans = [whole.plan(epoch).flat for epoch in range(8)]
    for epoch in (7, 3, 5):
        np.testing.assert_array_equal(resumed.plan(epoch).flat, plans[epoch])


def test_wrong_schedules() -> None:
    for bad in ({"end": 1.5}, {"end": math.nan}, {"stop": 0.1}, {"end": True}, {"end": 0.1, "start": 1}, 0.2, {}):
        with pytest.raises(BeirHybridError, match="alpha_schedule is"):
            HybridBatchSampler(made(20, 3), 4, alpha_schedule=bad, total_steps=9)  # type: ignore[arg-type]
    with pytest.raises(BeirHybridError, match="hybrid batches"):
        HybridBatchSampler(made(20, 3), 4, "x-y", alpha_schedule={"end": 0.2}, total_steps=9)
    with pytest.raises(BeirHybridError, match="total_steps"):
        HybridBatchSampler(made(20, 3), 4, alpha_schedule={"end": 0.2})


def test_arguments(tmp_path: Path) -> None:
    from beir_hybrid.training.trainer import HybridTrainingArguments

    chosen: dict[str, Any] = {
        "batching": {"x-x-mono": 0.4, "x-y": 0.4, "en-en": 0.2}, "language_weights": {"en": 1.0, "de": 0.0},
        "pairs": {"en-de": 2.0, "de-en": 1.0}, "pair_per": "batch",
    }  # fmt: skip
    args = HybridTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **chosen)
    copy = pickle.loads(pickle.dumps(args))
    again = HybridTrainingArguments(**{"output_dir": str(tmp_path), "use_cpu": True, **{
        name: json.loads(args.to_json_string())[name] for name in chosen
    }})  # fmt: skip
    for name, value in chosen.items():
        assert getattr(args, name) == getattr(copy, name) == getattr(again, name) == value
    args = HybridTrainingArguments(str(tmp_path), use_cpu=True, language_weights=math.inf, alpha_schedule={"end": 0.2})
    assert args.language_weights == "uniform"
    assert pickle.loads(pickle.dumps(args)).alpha_schedule == {"end": 0.2}
    for changed, says in (
        ({"batching": {"x-z": 1}}, "'x-z'"), ({"language_weights": -1}, "language_weights"),
        ({"pairs": {"ende": 1}}, "ordered pair"), ({"pair_per": "step"}, "pair_per"),
        ({"alpha_schedule": {"end": 2}}, "alpha_schedule"),
    ):  # fmt: skip
        with pytest.raises(BeirHybridError, match=says):
            HybridTrainingArguments(str(tmp_path), use_cpu=True, **changed)  # type: ignore[arg-type]


def test_a_large_epoch_of_one_pair_a_batch_is_planned_in_seconds() -> None:
    pairs = made(87_600, 5, 0.6, 60_000)
    for chosen in ({"pair_per": "batch"}, {"language_pairs": "pivot:en"}):
        sampler = HybridBatchSampler(pairs, 100, **chosen)  # type: ignore[arg-type]
        start = time.perf_counter()
        sampler.plan(0)
        assert time.perf_counter() - start < 3.0
