"""The tests are scipy's, on items; Holm's correction is the textbook's; where nothing differs they say so."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.comparing.significance import (
    PairedSample,
    TestSettings,
    bootstrap_interval,
    effect_size,
    holm,
    paired_statistics,
    randomisation_test,
    t_test,
)

VALUES = st.sampled_from([-1.0, -0.5, -1 / 3, 0.0, 1 / 3, 0.1, 0.5, 1.0])


def p_of(differences, **settings) -> float:
    return float(paired_statistics(PairedSample.of_questions(differences), TestSettings(**settings)).p[0])


@given(arrays(np.float64, st.integers(1, 9), elements=VALUES))
def test_few_questions_are_tested_exactly(differences):
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=len(differences))]
    slow = np.mean([total >= abs(differences.sum()) - 1e-9 for total in sums])
    assert randomisation_test(differences[:, None])[0] == pytest.approx(slow)


@pytest.mark.parametrize("size", [8, 12, 60])
def test_randomisation_is_scipys_permutation_test(size):
    differences = np.random.default_rng(size).normal(0.2, 1, size)
    theirs = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0)
    )
    ours = randomisation_test(differences[:, None], permutations=20_000, seed=3)[0]
    assert ours == pytest.approx(theirs.pvalue, abs=1e-9 if size <= 12 else 0.012)


@given(arrays(np.float64, st.integers(2, 30), elements=VALUES))
def test_t_is_scipys(differences):
    there = np.ones((len(differences), 1), dtype=bool)
    p = t_test(differences[:, None], there)[0]
    if np.ptp(differences) > 0:
        assert p == pytest.approx(scipy.stats.ttest_rel(differences, np.zeros(len(differences))).pvalue, abs=1e-12)
        expected = differences.mean() / differences.std(ddof=1)
        assert effect_size(differences[:, None], there)[0] == pytest.approx(expected, abs=1e-12)
    else:
        assert p == (1 if differences[0] == 0 else 0)


@pytest.mark.parametrize("interval", ["bca", "percentile"])
def test_the_interval_is_scipys_bootstrap(interval):
    differences = np.random.default_rng(5).exponential(1, 80) - 0.8
    theirs = scipy.stats.bootstrap(
        (differences,), np.mean, method=interval, n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    settings = TestSettings(interval=interval, resamples=20_000)
    low, high = bootstrap_interval(PairedSample.of_questions(differences), settings)
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=0.012)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_textbooks(p):
    corrected = holm(p)
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for step, n in enumerate(sorted(range(len(p)), key=lambda n: p[n])):
            if p[n] * (len(p) - step) > alpha:
                break
            rejected.add(n)
        assert {n for n in range(len(p)) if corrected[n] <= alpha} == rejected
    assert all(one >= other for one, other in zip(corrected, p, strict=True))


def clustered(generator, items=60, languages=8, shift=0.0, noise=0.3, missing=0.0):
    """Differences that the translations of an item mostly share, and the macro average over the languages."""
    shared = generator.normal(shift, 1, (items, 1))
    totals = shared + noise * generator.normal(size=(items, languages))
    counts = (generator.random((items, languages)) >= missing).astype(float)
    return PairedSample(totals * counts, counts, np.full((languages, 1), 1 / languages))


@pytest.mark.parametrize("test", ["randomisation", "t"])
def test_one_in_twenty_is_a_false_alarm_where_nothing_differs(test):
    generator = np.random.default_rng(1)
    settings = TestSettings(test=test, permutations=400, resamples=100)
    samples = [clustered(generator, missing=0.2) for _ in range(600)]
    by_item = [paired_statistics(sample, settings).p[0] <= 0.05 for sample in samples]
    assert 0.03 <= np.mean(by_item) <= 0.075
    # As if translations were independent: most of the alarms are false.
    by_question = [
        p_of(sample.totals[sample.counts > 0], test=test, permutations=400) <= 0.05 for sample in samples[:100]
    ]
    assert np.mean(by_question) > 0.3


def test_the_interval_of_an_average_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(2)
    settings = TestSettings(permutations=100, resamples=400)
    found = [paired_statistics(clustered(generator, shift=0.5, missing=0.2), settings) for _ in range(300)]
    held = np.mean([one.low[0] <= 0.5 <= one.high[0] for one in found])
    assert 0.90 <= held <= 0.98


def test_an_average_is_a_sum_over_items():
    sample = clustered(np.random.default_rng(3), items=9, languages=3, missing=0.3)
    means = [sample.totals[sample.counts[:, n] > 0, n].mean() for n in range(3)]
    assert sample.means[0] == pytest.approx(np.mean(means))
    parts = sample.contributions[:, 0]
    assert parts.sum() == pytest.approx(np.mean(means))
    signs = np.array(list(itertools.product((-1, 1), repeat=9)))
    slow = []
    for flipped in signs:  # all questions of an item together
        slow.append(abs(PairedSample(sample.totals * flipped[:, None], sample.counts, sample.weights).means[0]))
    assert paired_statistics(sample).p[0] == pytest.approx(np.mean(np.array(slow) >= abs(np.mean(means)) - 1e-12))


def test_one_column_does_not_change_another():
    generator = np.random.default_rng(4)
    parts = generator.normal(0.1, 1, (50, 3))
    parts[6:, 1] = 0  # few enough for the exact test
    together = randomisation_test(parts, 1000, seed=7)
    assert together.tolist() == [randomisation_test(parts[:, [n]], 1000, seed=7)[0] for n in range(3)]
    assert together.tolist() == randomisation_test(-parts, 1000, seed=7).tolist()
    assert together[0] != randomisation_test(parts, 1000, seed=8)[0]


def test_no_difference_and_one_question():
    for test in ("randomisation", "t"):
        same = paired_statistics(PairedSample.of_questions(np.zeros(20)), TestSettings(test=test))
        assert (same.p[0], same.low[0], same.high[0], same.effect[0], same.ties[0]) == (1, 0, 0, 0, 20)
        assert p_of([0.5], test=test) == 1
    shifted = paired_statistics(PairedSample.of_questions(np.full(20, 0.25)))
    assert np.isnan(shifted.effect[0])
    assert (shifted.low[0], shifted.high[0], shifted.wins[0]) == (0.25, 0.25, 20)
    assert shifted.p[0] == pytest.approx(1 / 10_001)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test": "wilcoxon"}, "unknown test 'wilcoxon'"),
        ({"interval": "basic"}, "unknown interval"),
        ({"permutations": 10}, "fewer than 100"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_named(changed, said):
    with pytest.raises(BeirHybridError, match=said):
        TestSettings(**changed)
