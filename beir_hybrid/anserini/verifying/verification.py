"""What a verification found, as records, as a table and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PARTS = ("Faiss", "FaissSearcher", "command line", "encoder", "encoder command")
"""Who searched: Faiss alone; Pyserini's class and its command line, with the encoded queries; both, with `encoder/`."""


@dataclass(frozen=True)
class HitsCheck:
    """Whether one part found, for the questions of one setting, what it should.

    Attributes:
        setting: Its name.
        part: Who searched: one of `PARTS`.
        questions: How many were compared.
        wrong: For how many other hits or scores were found.
        tied: For how many other passages stand at the cut, with scores that are equal within the tolerance.
        apart: The largest difference of a score.
        why: What is wrong with the first; empty if nothing is.
    """

    setting: str
    part: str
    questions: int
    wrong: int
    tied: int
    apart: float
    why: str = ""


@dataclass(frozen=True)
class MeasureCheck:
    """Whether trec_eval, on the run of Pyserini's command line, gives what ir-measures does on our ranking.

    Attributes:
        ours, pyserini: The means over the setting's questions.
        wrong: For how many questions they differ by more than trec_eval's four digits leave open.
        unsettled: For how many they differ because scores are too near for their order to be the same.
    """

    setting: str
    measure: str
    ours: float
    pyserini: float
    wrong: int
    unsettled: int


@dataclass(frozen=True)
class Verification:
    """What was compared and how it came out.

    Attributes:
        depth: How many hits were compared for each question.
        tolerance: By how much a score may differ.
        hits, measures: The comparisons.
        recall: Of an approximate index, by setting: the share of the exact top `depth` that it finds.
        vectors: How the encoder folder's query vectors differ from ours: `largest_difference` and `least_cosine`.
        left_out: What was not verified, and why.
        problems: What else is wrong.
        versions: Of what was used.
    """

    depth: int
    tolerance: float
    hits: tuple[HitsCheck, ...]
    measures: tuple[MeasureCheck, ...]
    recall: Mapping[str, float]
    vectors: Mapping[str, float]
    left_out: tuple[str, ...]
    problems: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether all that was compared agrees."""
        return not (self.problems or any(one.wrong for one in self.hits) or any(one.wrong for one in self.measures))

    def describe(self) -> dict[str, Any]:
        """As `verification.json` has it."""
        return {"passed": self.passed, **asdict(self)}

    def table(self) -> str:
        """For people: a line a setting, then what is wrong, and what was not looked at."""
        settings = list(dict.fromkeys(one.setting for one in self.hits))
        parts = [part for part in PARTS if any(one.part == part for one in self.hits)]
        names = list(dict.fromkeys(one.measure for one in self.measures))
        rows = [["setting", "questions", *parts, *(["recall"] if self.recall else []), *names]]
        for setting in settings:
            found = {one.part: one for one in self.hits if one.setting == setting}
            questions = max(one.questions for one in found.values())
            row = [setting, str(questions), *(_cell(found.get(part), questions) for part in parts)]
            row += [f"{self.recall[setting]:.4f}"] if self.recall else []
            figures = {one.measure: one for one in self.measures if one.setting == setting}
            rows.append(row + [_figures(figures.get(name)) for name in names])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *self._remarks()])

    def _remarks(self) -> list[str]:
        apart = max((one.apart for one in self.hits), default=0.0)
        said = []
        if self.hits:
            tied = sum(one.tied for one in self.hits)
            said.append(
                f"The top {self.depth} of each question; scores differ by at most {apart:.1e} (allowed: "
                f"{self.tolerance:g}); {tied} lists end in another passage, of the same score."
            )
        if open_ := sum(one.unsettled for one in self.measures):
            said.append(f"{open_} values of single questions differ since scores that tie stand in another order.")
        if self.vectors:
            said.append(
                f"Query vectors of encoder/: a number differs from ours by at most "
                f"{self.vectors['largest_difference']:.1e}; the cosine is at least {self.vectors['least_cosine']:.6f}."
            )
        said += [f"Not verified: {what}" for what in self.left_out]
        said += [f"{one.setting}, {one.part}: {one.why}" for one in self.hits if one.wrong]
        said += [
            f"{one.setting}: trec_eval gives another {one.measure} for {one.wrong} questions"
            for one in self.measures
            if one.wrong
        ]
        said += list(self.problems)
        return [*said, "Verified: all agree." if self.passed else "NOT the same: do not use this folder."]


def _cell(check: HitsCheck | None, questions: int) -> str:
    if check is None:
        return "-"
    if check.wrong:
        return f"{check.wrong} differ"
    return "same" if check.questions == questions else f"same ({check.questions})"


def _figures(check: MeasureCheck | None) -> str:
    if check is None:
        return "-"
    sign = "=" if not check.wrong else "!="
    return f"{check.ours:.4f} {sign} {check.pyserini:.4f}"
