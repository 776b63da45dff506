"""The settings of the batches, as checked numbers: kinds, languages, sources, ordered pairs."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError, unknown

FloatArray = npt.NDArray[np.float64]


class BatchKind(enum.Enum):
    """How the languages of a batch are chosen; the value is the name used in settings, logs and records."""

    X_X_MONO = "x-x-mono"
    """Questions and passages of the whole batch in one language."""
    X_Y = "x-y"
    """In each row, the question's language differs from the passage's."""
    X_X = "x-x"
    """In each row one language; the languages are mixed in the batch."""
    EN_EN = "en-en"
    """Everything in English."""


HYBRID = "hybrid"
BATCHINGS: tuple[str, ...] = (HYBRID, *(kind.value for kind in BatchKind))
PAIR_PER = ("row", "batch")


def mixture(batching: str | Mapping[str, float], alpha: float = 0.5) -> dict[BatchKind, float]:
    """The probability of each kind of batch, in the order of BatchKind; kinds that never occur are left out.

    Args:
        batching: `hybrid` (X-X-mono with probability `alpha`, else X-Y), the one kind of every batch, or the weight of
            each kind, such as {"x-x-mono": 0.4, "x-y": 0.4, "en-en": 0.2}; weights need not sum to 1.
        alpha: Between 0 and 1; read for `hybrid` only.

    Raises:
        BeirHybridError: an unknown batching or kind, weights that are none, or alpha out of range.
    """
    if not 0.0 <= alpha <= 1.0:
        raise BeirHybridError(f"alpha is {alpha}; it is the share of X-X-mono batches and lies between 0 and 1.")
    if isinstance(batching, Mapping):
        names = [kind.value for kind in BatchKind]
        weights = checked_weights("batching", batching)
        for name in weights:
            if name not in names:
                raise unknown("kind of batch in batching:", name, names)
        total = math.fsum(weights.values())
        return {kind: weights[kind.value] / total for kind in BatchKind if weights.get(kind.value, 0) > 0}
    if not isinstance(batching, str) or batching not in BATCHINGS:
        raise unknown("batching", str(batching), BATCHINGS)
    if batching != HYBRID:
        return {BatchKind(batching): 1.0}
    shares = {BatchKind.X_X_MONO: alpha, BatchKind.X_Y: 1.0 - alpha}
    return {kind: share for kind, share in shares.items() if share > 0}


def batching_name(batching: str | Mapping[str, float]) -> str:
    """A batching in one line, as reports and tables name it: `hybrid`, or `x-x-mono 0.4 + x-y 0.4 + en-en 0.2`."""
    if isinstance(batching, str):
        return batching
    return " + ".join(f"{kind.value} {share:.4g}" for kind, share in mixture(batching).items())


def checked_weights(setting: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as a user names them, the largest made 1.

    Raises:
        BeirHybridError: a weight is no number, negative, not finite or next to nothing beside the largest, or all
            are 0.
    """
    for name, weight in weights.items():
        number = isinstance(weight, (int, float, np.number)) and not isinstance(weight, bool)
        if not isinstance(name, str) or not number or not 0 <= weight < math.inf:
            raise BeirHybridError(f"{setting}: the weight of {name!r} is {weight!r}; weights are numbers from 0 up.")
    most = max(weights.values(), default=0)
    if not most > 0:
        raise BeirHybridError(f"{setting} is {dict(weights)}; at least one weight must be above 0.")
    scaled = {name: float(weight / most) for name, weight in weights.items()}
    for name, weight in scaled.items():
        if 0 < weight < 1e-12 or (weight == 0 and weights[name] > 0):
            raise BeirHybridError(
                f"{setting}: the weight of {name!r}, {weights[name]}, is next to nothing beside {most}. "
                "Use 0 to leave it out."
            )
    return scaled


def check_shares(what: str, setting: str | float | Mapping[str, float]) -> None:
    """Check all that can be checked of `language_weights` or `source_weights` before the data are known; see `shares`.

    Args:
        what: `language` or `source`.

    Raises:
        BeirHybridError: the setting is none of those that there are.
    """
    if isinstance(setting, Mapping):
        checked_weights(f"{what}_weights", setting)
    elif isinstance(setting, str):
        if setting not in ("uniform", "proportional"):
            raise unknown(f"{what}_weights", setting, ["uniform", "proportional"])
    elif isinstance(setting, bool) or not isinstance(setting, (int, float)) or not setting > 0:
        raise BeirHybridError(
            f"{what}_weights is {setting!r}; expected uniform, proportional, a number above 0 (the temperature T of "
            f"N^(1/T)), or the weight of each {what}."
        )


def shares(what: str, setting: str | float | Mapping[str, float], names: Sequence[str], items: IntArray) -> FloatArray:
    """How likely each language, or each source, is to be drawn: shape (names,), summing to 1; 0 where it is left out.

    Args:
        what: `language` or `source`.
        setting: `uniform`; `proportional` (to the items); a number T, with which N items have a share proportional to
            N^(1/T), so that 1 is proportional and infinity uniform; or a weight for every name, 0 to leave it out.
        names: Codes of languages, or names of sources.
        items: Shape (names,): how many items each has.

    Raises:
        BeirHybridError: the setting is none of these, names an unknown language or source, or forgets one.
    """
    check_shares(what, setting)
    if isinstance(setting, Mapping):
        for name in setting:
            if name not in names:
                raise unknown(f"{what} in {what}_weights:", name, names)
        missing = [name for name in names if name not in setting]
        if missing:
            raise BeirHybridError(
                f"{what}_weights names no weight for {', '.join(missing)}; name every {what}, with 0 for one that "
                "is to be left out."
            )
        weights = checked_weights(f"{what}_weights", setting)
        drawn = np.array([weights[name] for name in names])
    else:
        temperature = {"uniform": math.inf, "proportional": 1.0}[setting] if isinstance(setting, str) else setting
        if temperature == math.inf or not items.any():
            return np.full(len(names), 1 / len(names))
        drawn = np.zeros(len(names))
        some = items > 0
        # Of the largest, in logarithms: no power overflows.
        drawn[some] = np.exp((np.log(items[some]) - math.log(items.max())) / temperature)
    return np.asarray(drawn / drawn.sum())


@dataclass(frozen=True, eq=False)
class PairChoice:
    """Which ordered language pairs X-Y rows may have.

    Attributes:
        weight: Shape (languages, languages), question first: 0 for a pair that is not wanted, else at most 1.
        plain: Whether every pair of different languages is wanted alike.
        named: Whether each wanted pair was named, and so must exist.
    """

    weight: FloatArray
    plain: bool
    named: bool


def check_pairs(setting: str | Mapping[str, float], pair_per: str) -> None:
    """Check all that can be checked of `pairs` and `pair_per` before the data are known; see `pair_choice`.

    Raises:
        BeirHybridError: one of them is none of those that there are.
    """
    if pair_per not in PAIR_PER:
        raise unknown("pair_per", str(pair_per), PAIR_PER)
    if isinstance(setting, Mapping):
        checked_weights("pairs", setting)
        for name in setting:
            question, _, passage = name.partition("-")
            if not question or not passage:
                raise BeirHybridError(
                    f"pairs: {name!r} is no ordered pair; expected two codes with a hyphen between them, question "
                    "first, as in en-de."
                )
    elif not isinstance(setting, str) or not (setting == "all" or re.fullmatch("pivot:.+", setting)):
        raise BeirHybridError(
            f"pairs is {setting!r}; expected all, pivot: and a code (pivot:en), or the weight of each ordered pair "
            "({'en-de': 1})."
        )


def pair_choice(setting: str | Mapping[str, float], languages: Sequence[str]) -> PairChoice:
    """Read the setting `pairs`.

    Args:
        setting: `all`; `pivot:` and a code (that language on one side, any other on the other side); or the weight of
            each ordered pair, question first, such as {"en-de": 2.0, "de-en": 1.0}.
        languages: Codes.

    Raises:
        BeirHybridError: the setting is none of these, or names an unknown language or a pair of one language.
    """
    check_pairs(setting, "row")
    weight: FloatArray = 1.0 - np.eye(len(languages))
    if setting == "all":
        return PairChoice(weight, plain=True, named=False)
    if isinstance(setting, str):
        pivot = setting.partition(":")[2]
        if pivot not in languages:
            raise unknown("language in pairs:", pivot, languages)
        other = np.arange(len(languages)) != languages.index(pivot)
        weight[np.ix_(other, other)] = 0.0
        return PairChoice(weight, plain=False, named=False)
    weight[:] = 0.0
    # Codes may hold a hyphen themselves, so a name is looked up, not cut.
    known = {f"{q}-{p}": (i, j) for i, q in enumerate(languages) for j, p in enumerate(languages)}
    for name, value in checked_weights("pairs", setting).items():
        if name not in known:
            code = next((part for part in _halves(name, languages) if part not in languages), name)
            raise unknown(f"language in pairs ({name}):", code, languages)
        if known[name][0] == known[name][1]:
            raise BeirHybridError(f"pairs: {name} is one language twice; the two sides of an X-Y row differ.")
        weight[known[name]] = value
    return PairChoice(weight, plain=False, named=True)


def _halves(name: str, languages: Iterable[str]) -> list[str]:
    """What stands beside a known code in `name`, or all of its parts."""
    for code in languages:
        if name.startswith(f"{code}-"):
            return [name[len(code) + 1 :]]
        if name.endswith(f"-{code}"):
            return [name[: -len(code) - 1]]
    return name.split("-")
