"""How alpha, the share of X-X-mono batches in hybrid, changes over a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.mixing import HYBRID, BatchKind, FloatArray

ADAPTIVE = "adaptive"
_DEFAULTS = {"rate": 0.5, "every": 50, "low": 0.1, "high": 0.9}
_LEAST = 1e-6


@dataclass(frozen=True)
class LinearAlpha:
    """From `start` in the first of so many global steps in a line to `end` in the last, and `end` from there on."""

    start: float
    end: float
    steps: int

    def of(self, step: IntArray) -> FloatArray:
        """The alpha of each global step of the run."""
        share = np.minimum(step / max(self.steps - 1, 1), 1.0)
        return np.asarray(self.start + (self.end - self.start) * share)

    @property
    def alphas(self) -> tuple[float, float]:
        """The alphas between which it moves."""
        return self.start, self.end

    def about(self) -> dict[str, Any]:
        """For the record of a training."""
        return {"start": self.start, "end": self.end, "steps": self.steps}


class AdaptiveAlpha:
    """Towards equal losses: the kind of batch with the higher loss gets more of the steps.

    Every `every` global steps, with L the mean loss of a kind in those steps,
    logit(alpha) += rate * log(L(X-X-mono) / L(X-Y)), kept between `low` and `high`. Batches are drawn ahead of the
    losses, by the loader and its workers; so what is learnt from one stretch of steps counts from the next but one,
    and the batches are a function of the seed and the losses, not of how far ahead anybody reads.

    Attributes:
        history: The alpha of each stretch, as far as it is known.
    """

    def __init__(self, start: float, rate: float, every: int, low: float, high: float) -> None:
        self.start, self.rate, self.every, self.low, self.high = start, rate, every, low, high
        self.history = [start, start]
        self._losses: dict[str, float] = {}
        self._sums = {kind.value: [0.0, 0.0] for kind in (BatchKind.X_X_MONO, BatchKind.X_Y)}
        self._seen = 0

    def of(self, step: IntArray) -> FloatArray:
        """The alpha of each global step of the run.

        Raises:
            BeirHybridError: the losses that decide it are not known yet.
        """
        stretch = step // self.every
        if len(stretch) and stretch.max() >= len(self.history):
            raise BeirHybridError(
                f"alpha of step {int(step.max())} depends on losses that are not known after {self._seen} steps. "
                "Adaptive batches can be drawn at most two stretches ahead, by a trainer that tells its losses."
            )
        return np.asarray(self.history)[stretch]

    def add(self, kind: str, loss: float) -> None:
        """Tell the loss of the next global step, in order, over all processes."""
        total = self._sums.get(kind)
        if total is not None:
            total[0] += loss
            total[1] += 1
        self._seen += 1
        if self._seen % self.every:
            return
        for name, (losses, count) in self._sums.items():
            if count:
                self._losses[name] = max(losses / count, _LEAST)
            self._sums[name] = [0.0, 0.0]
        self.history.append(self._next(self.history[-1]))

    def _next(self, alpha: float) -> float:
        if len(self._losses) < len(self._sums):
            return alpha
        mono, crossing = (self._losses[name] for name in self._sums)
        logit = math.log(alpha / (1 - alpha)) + self.rate * math.log(mono / crossing)
        return min(max(1 / (1 + math.exp(-logit)), self.low), self.high)

    @property
    def alphas(self) -> tuple[float, float]:
        """The alphas between which it moves; 1 - alpha is above 0 too."""
        return self.start, self.start

    def about(self) -> dict[str, Any]:
        """For the record of a training."""
        settings = {"rate": self.rate, "every": self.every, "low": self.low, "high": self.high}
        return {"start": self.start, ADAPTIVE: settings, "history": list(self.history)}

    def state(self) -> dict[str, Any]:
        """What has been learnt, for a checkpoint: JSON, from which `load` goes on exactly."""
        return {"history": self.history, "losses": self._losses, "sums": self._sums, "seen": self._seen}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a checkpoint."""
        self.history, self._losses = list(state["history"]), dict(state["losses"])
        self._sums, self._seen = {name: list(two) for name, two in state["sums"].items()}, int(state["seen"])


def check_schedule(setting: Any, batching: str | Mapping[str, float], alpha: float = 0.5) -> None:
    """Check all that can be checked of `alpha_schedule` before the data are known; see `read_schedule`.

    Raises:
        BeirHybridError: it is none of those that there are, or the batches are not hybrid.
    """
    read_schedule(setting, batching, alpha, 1)


def read_schedule(
    setting: Any, batching: str | Mapping[str, float], alpha: float, steps: int | None
) -> LinearAlpha | AdaptiveAlpha | None:
    """Read the setting `alpha_schedule`.

    Args:
        setting: None; {"end": x}, a line to x; `adaptive`; or {"adaptive": {...}} with any of `rate`, `every`, `low`
            and `high`, see AdaptiveAlpha.
        batching: Must be `hybrid` where there is a schedule.
        alpha: Where it begins.
        steps: Global steps of the run; a line needs them.

    Raises:
        BeirHybridError: it is none of these, or the batches are not hybrid.
    """
    if setting is None:
        return None
    if setting == ADAPTIVE:
        setting = {ADAPTIVE: {}}
    end, adaptive = _only(setting, "end"), _only(setting, ADAPTIVE)
    fits = _number(end, 0, 1) or (isinstance(adaptive, Mapping) and set(adaptive) <= set(_DEFAULTS))
    if not fits:
        raise BeirHybridError(
            f"alpha_schedule is {setting!r}; expected None; {{'end': x}} with x between 0 and 1: alpha then goes in a "
            "line to x over the run; or 'adaptive', {'adaptive': {'rate': 0.5, 'every': 50, 'low': 0.1, 'high': 0.9}}: "
            "it then moves towards equal losses."
        )
    if batching != HYBRID:
        raise BeirHybridError(
            f"alpha_schedule is for hybrid batches, and batching is {batching!r}; leave one of them out."
        )
    if end is not None:
        if steps is None or steps < 1:
            raise BeirHybridError(f"alpha_schedule needs total_steps of at least 1, and it is {steps}.")
        return LinearAlpha(alpha, float(end), steps)
    given = {**_DEFAULTS, **adaptive}
    rate, every, low, high = given["rate"], given["every"], given["low"], given["high"]
    whole = isinstance(every, int) and not isinstance(every, bool) and every >= 1
    if not (_number(rate, 0, math.inf) and whole and _number(low, 0, 1) and _number(high, 0, 1) and 0 < low < high < 1):
        raise BeirHybridError(
            f"alpha_schedule: adaptive is {given}; expected a rate from 0 up, every as a whole number of steps, and "
            "0 < low < high < 1."
        )
    if not low <= alpha <= high:
        raise BeirHybridError(f"alpha is {alpha}, and adaptive keeps it between {low} and {high}: begin there.")
    return AdaptiveAlpha(float(alpha), float(rate), int(every), float(low), float(high))


def _only(setting: Any, name: str) -> Any:
    return setting[name] if isinstance(setting, Mapping) and set(setting) == {name} else None


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
