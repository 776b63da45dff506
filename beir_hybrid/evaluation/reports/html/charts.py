"""The geometry of the page's charts; the template draws it. Lengths are units of the drawing, about a pixel each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beir_hybrid.evaluation.comparing.comparison import Difference
from beir_hybrid.evaluation.figures import lower_is_better
from beir_hybrid.evaluation.reports.html.colours import SERIES
from beir_hybrid.evaluation.reports.report import digits_of, marked
from beir_hybrid.evaluation.reports.tables import Table, signed

_DASHES = ("", "9 4", "2 3", "12 3 2 3", "5 5", "14 4")
_POINTS = 160  # of a curve: finer than the screen shows
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_LETTER = 7.6  # the width of a letter or digit at most, on average, at the size of the style sheet
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what is written there; nothing at the finer lines."""

    at: float
    text: str = ""


@dataclass(frozen=True)
class Line:
    """A curve with its name; `style` is a number of `SERIES`, and dashes tell it apart without colour."""

    name: str
    points: str
    style: int
    dashes: str


@dataclass(frozen=True)
class Distribution:
    """The share of the questions up to each distance, on a logarithmic axis, and its quantiles as a table."""

    title: str
    description: str
    width: float
    height: float
    frame: tuple[float, float, float, float]  # left, top, right, bottom
    across: tuple[Tick, ...]
    upwards: tuple[Tick, ...]
    lines: tuple[Line, ...]
    table: Table


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot."""

    name: str
    text: str
    y: float
    low: float
    high: float
    middle: float
    significant: bool


@dataclass(frozen=True)
class Forest:
    """Differences with their intervals, one below the other on one axis."""

    title: str
    description: str
    width: float
    height: float
    frame: tuple[float, float, float, float]
    zero: float
    sides: tuple[str, str]
    across: tuple[Tick, ...]
    rows: tuple[Interval, ...]


def distribution(measure: str, values: Mapping[str, npt.NDArray[np.float64]]) -> Distribution:
    """The distribution of the values of each system's questions; there has to be a system, and a question of each."""
    frame = left, top, right, bottom = 56.0, 14.0, 700.0, 268.0
    low = math.floor(math.log10(max(1.0, min(float(one.min()) for one in values.values()))))
    high = max(math.log10(max(1.0, *(float(one.max()) for one in values.values()))), low + 1.0)
    decades = range(low, math.floor(high) + 1)

    def x(exponent: float) -> float:
        return left + (right - left) * (exponent - low) / (high - low)

    def y(share: float) -> float:
        return bottom - (bottom - top) * share

    exponents = np.linspace(low, high, _POINTS)
    lines = []
    for number, (name, one) in enumerate(values.items()):
        # A distance of 0, where an answer has one translation, lies left of every line of a logarithm: in the first.
        shares = np.searchsorted(np.sort(one), 10**exponents * (1 + 1e-9), side="right") / len(one)
        points = " ".join(f"{x(place):.1f},{y(share):.1f}" for place, share in zip(exponents, shares, strict=True))
        dashes = _DASHES[(number + number // len(_DASHES)) % len(_DASHES)]
        lines.append(Line(name, points, number % len(SERIES["light"]), dashes))
    across = [Tick(x(exponent), f"{10**exponent:,}") for exponent in decades]
    finer = [exponent + math.log10(part) for exponent in decades for part in (2, 5)]
    across += [Tick(x(exponent)) for exponent in finer if exponent < high]
    upwards = [Tick(y(share / 4), f"{share * 25}%") for share in range(5)]
    medians = "; ".join(f"{name}: half of the questions up to {np.median(one):,.0f}" for name, one in values.items())
    return Distribution(
        f"{marked(measure)} of single questions in the multi settings, share of the questions up to each distance",
        f"A curve a system over a logarithmic axis of ranks; further left is better. {medians}.",
        716.0, 318.0, frame, tuple(across), tuple(upwards), tuple(lines), _quantiles(measure, values),
    )  # fmt: skip


def _quantiles(measure: str, values: Mapping[str, npt.NDArray[np.float64]]) -> Table:
    rows = []
    for name, one in values.items():
        numbers = [*np.quantile(one, _QUANTILES), one.mean()]
        rows.append((name, f"{len(one):,}", *(f"{number:,.0f}" for number in numbers)))
    heading = ("system", "questions", *("median" if share == 0.5 else f"{share:.0%}" for share in _QUANTILES), "mean")
    note = "A quantile of 90% is the distance that nine questions in ten do not exceed."
    return Table(f"Quantiles of {marked(measure)}", heading, tuple(rows), 1, note)


def forest(title: str, differences: Sequence[tuple[str, Difference]]) -> Forest:
    """A forest plot of named differences in one unit; there has to be one.

    Better is to the right, also where lower is better: then the axis runs backwards.
    """
    first = differences[0][1]
    lower = lower_is_better(first.measure)
    ends = [end for _, one in differences for end in (one.low, one.high, one.difference, 0.0)]
    spare = 0.04 * (max(ends) - min(ends)) or 0.01
    low, high = min(ends) - spare, max(ends) + spare

    digits = digits_of(first.measure)
    texts = [_with_interval(one, digits) for _, one in differences]
    left = max(72.0, 28.0 + _LETTER * max(len(name) for name, _ in differences))  # room for the word at zero
    frame = _, top, right, bottom = left, 30.0, left + 320.0, 40.0 + 24.0 * len(differences)

    def x(value: float) -> float:
        place = (value - low) / (high - low)
        return left + (right - left) * (1 - place if lower else place)

    rows = []
    for number, ((name, one), text) in enumerate(zip(differences, texts, strict=True)):
        start, end = sorted((x(one.low), x(one.high)))
        y = top + 17.0 + 24.0 * number
        rows.append(Interval(name, text, y, start, end, x(one.difference), one.corrected < SIGNIFICANT))
    said = "; ".join(f"{row.name}: {row.text}{'' if row.significant else ', not significant'}" for row in rows)
    return Forest(
        title, f"Better is to the right. {said}.", right + 20.0 + _LETTER * max(map(len, texts)), bottom + 26.0, frame,
        x(0.0), ("worse", "better"),
        tuple(Tick(x(value), text) for value, text in _ticks(low, high, digits)), tuple(rows),
    )  # fmt: skip


def _with_interval(one: Difference, digits: int) -> str:
    return f"{signed(one.difference, digits)} [{signed(one.low, digits)}, {signed(one.high, digits)}]"


def _ticks(low: float, high: float, digits: int) -> list[tuple[float, str]]:
    """Round numbers in a range, some five of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    shown = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [(number * step, signed(number * step, shown) if number else "0") for number in numbers]
