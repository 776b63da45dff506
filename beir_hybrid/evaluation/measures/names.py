"""Which measures there are, by their names in ir_measures, and where each says anything."""

# mypy: allow-untyped-calls
# ir_measures says that it is typed, and leaves most of its functions without types.

from __future__ import annotations

from collections.abc import Mapping

import ir_measures

from beir_hybrid.collections.collection import Kind
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.measures import definitions

KNOWN = (
    *("AP", "AP@k", "RR", "RR@k", "R@k", "P@k", "Success@k", "nDCG", "nDCG@k"),
    *("RankDistance", "LanguageRecall@k", "AWRF", "AWRF@k", "LareqaAP@k", "MRC"),
)

# What the two papers report in each kind of setting (arXiv 2408.10536, tables 1 to 3; arXiv 2004.05484).
DEFAULT: Mapping[Kind, tuple[str, ...]] = {
    "mono": ("AP", "R@1"),
    "cross": ("AP", "R@1"),
    "multi": ("AP", "R@10", "RankDistance"),
    "blend": ("AP", "R@10"),
}

_OF_LANGUAGES = ("RankDistance", "LanguageRecall", "AWRF", "MRC")


def parse(measure: str | ir_measures.Measure) -> ir_measures.Measure:
    """The measure of this name: `AP`, `R@10`, `AP(rel=2)@100`, `LanguageRecall(lang="de")@10`.

    Raises:
        BeirHybridError: it is not one of `KNOWN`, or its cutoff or its `rel` is not a whole number from 1.
    """
    definitions.register()
    try:
        parsed = ir_measures.parse_measure(measure) if isinstance(measure, str) else measure
        parsed.validate_params()
    except (NameError, ValueError, TypeError, AssertionError, AttributeError, RecursionError):
        raise _unknown(measure) from None
    given = {name: value for name, value in parsed.params.items() if value != parsed.SUPPORTED_PARAMS[name].default}
    cutoff = given.pop("cutoff", None)
    for name, number in (("cutoff", cutoff), ("rel", given.pop("rel", None))):
        if number is not None and (isinstance(number, bool) or number < 1):
            raise BeirHybridError(
                f"measure {str(measure)!r}: the {name} is {number!r}; expected a whole number from 1."
            )
    given.pop("lang", None)
    form = parsed.NAME if cutoff is None else f"{parsed.NAME}@k"
    if given or form not in KNOWN:
        raise _unknown(measure)
    return parsed


def _unknown(measure: str | ir_measures.Measure) -> BeirHybridError:
    return BeirHybridError(
        f"unknown measure {str(measure)!r}. Known: {', '.join(KNOWN)}, k a whole number from 1; all but nDCG also from "
        "a grade on, as in AP(rel=2), and LanguageRecall of one language, as in LanguageRecall(lang='de')@10. For "
        "others, write a run and give it to ir_measures."
    )


def compares_languages(measure: ir_measures.Measure) -> bool:
    """Whether the measure is of the languages in one pool."""
    return measure.NAME in _OF_LANGUAGES


def defined_in(measure: ir_measures.Measure, kind: Kind) -> bool:
    """Whether the measure says anything in this kind of setting: some compare the languages of one pool."""
    return kind == "multi" or not compares_languages(measure)
