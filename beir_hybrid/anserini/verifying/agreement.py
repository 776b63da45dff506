"""Whether two searches found the same, in arrays: the same passages and scores, up to what a tie leaves open.

Two programs that add the same numbers in another order give scores that differ in the last digits. Passages whose
scores are nearer than that stand in any order, and where such a group is cut off at the depth, any of it may be within.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Scorer = Callable[[IntArray, IntArray], npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Hits:
    """What was found: a row a question, best first.

    Attributes:
        rows: Shape (questions, depth): passages by number, -1 where nothing more was found.
        scores: Of the same shape.
    """

    rows: IntArray
    scores: FloatArray


@dataclass(frozen=True, eq=False)
class Agreement:
    """How what was found agrees with what was expected.

    Attributes:
        wrong: Per question, whether it does not.
        open: Per question, whether other passages stand at the cut, which tie there.
        apart: The largest difference of a score; infinite where a number of hits is wrong.
        why: What is wrong with the first question that is; empty if all agree.
    """

    wrong: BoolArray
    open: BoolArray
    apart: float
    why: str


def compare_hits(found: Hits, expected: Hits, tolerance: float, score: Scorer) -> Agreement:
    """Compare, question by question, what was found with the best passages there are.

    A question agrees if there are as many hits, none twice, in the order of their scores; if each has the score that it
    should have; and if all passages that score more than the last one expected are there, and none that scores less;
    all within `tolerance`.

    Args:
        found, expected: Of the same questions.
        tolerance: By how much a score may differ.
        score: The true scores of some pairs of question and passage, for those that are not among the expected.
    """
    count = len(expected.rows)
    wrong = np.zeros(count, dtype=np.bool_)
    faults: list[tuple[str, BoolArray]] = []
    there = found.rows >= 0

    def note(what: str, which: npt.ArrayLike) -> None:
        which = np.asarray(which, dtype=np.bool_)
        faults.append((what, which))
        wrong[:] |= which

    numbers = there.sum(axis=1) - (expected.rows >= 0).sum(axis=1)
    note("has another number of hits", numbers != 0)
    ordered = np.sort(found.rows, axis=1)
    note("has a hit twice", ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1))
    rising = np.diff(found.scores, axis=1) > tolerance
    note("has hits that are not in the order of their scores", (rising & there[:, 1:]).any(axis=1))

    question, place = np.nonzero(there)
    passage = found.rows[question, place].astype(np.int64)
    expected_question, expected_place = np.nonzero(expected.rows >= 0)
    width = int(max(found.rows.max(initial=0), expected.rows.max(initial=0))) + 1
    keys = expected_question * width + expected.rows[expected_question, expected_place]
    order = np.argsort(keys)
    position = np.minimum(np.searchsorted(keys[order], question * width + passage), max(len(keys) - 1, 0))
    among = keys[order][position] == question * width + passage if len(keys) else np.zeros(len(question), np.bool_)
    true = np.empty(len(question), dtype=np.float64)
    true[among] = expected.scores[expected_question, expected_place][order][position[among]]
    true[~among] = score(question[~among], passage[~among])
    differences = np.abs(found.scores[question, place] - true)
    note("has a hit with another score", _any(~(differences <= tolerance), question, count))

    last = np.where(expected.rows >= 0, expected.scores, np.inf).min(axis=1, initial=np.inf)
    note("has a hit that scores too little", _any(~(true >= last[question] - tolerance), question, count))
    named = np.zeros(len(keys), dtype=np.bool_)
    named[order[position[among]]] = True
    above = expected.scores[expected_question, expected_place] > last[expected_question] + tolerance
    note("lacks a passage", _any(above & ~named, expected_question, count))
    apart = float(differences.max(initial=0.0)) if not faults[0][1].any() else float("inf")
    first = next((f"question {int(np.argmax(which))} {what}" for what, which in faults if which.any()), "")
    return Agreement(wrong, _any(~among, question, count) & ~wrong, apart, first)


def unsettled(expected: Hits, grades: npt.NDArray[Any], apart: float) -> BoolArray:
    """Per question, whether scores that differ by `apart` could change the order of passages of different grades.

    Args:
        grades: The grade of each hit, of the shape of `expected`.
    """
    near = expected.scores[:, :-1] - expected.scores[:, 1:] <= 2 * apart
    either = (expected.rows[:, 1:] >= 0) & (grades[:, :-1] != grades[:, 1:])
    return np.asarray((near & either).any(axis=1))


def _any(which: BoolArray, question: IntArray, count: int) -> BoolArray:
    found = np.zeros(count, dtype=np.bool_)
    found[question[which]] = True
    return found
