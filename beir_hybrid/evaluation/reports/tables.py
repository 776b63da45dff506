"""A table of text, in each form that people and programs read: terminal, Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NONE, MINUS = "–", "\u2212"
ORIGIN = "origin"
"""The heading of the column that says who measured: its cells are told apart by a sign too."""
ORIGINS = {"published": "◇", "baseline": "○", "ours": "●"}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", NONE: "--", MINUS: "$-$",
    "↓": r"$\downarrow$", "±": r"$\pm$", "◇": r"$\diamond$", "○": r"$\circ$", "●": r"$\bullet$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A title, a heading and rows of text.

    Attributes:
        names: How many columns at the left hold names; the others hold numbers.
        note: What a reader has to know beside it, a sentence or more.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    note: str = ""

    @property
    def signed_rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows with a sign before each origin, so that a glance tells them apart."""
        if ORIGIN not in self.heading:
            return self.rows
        place = self.heading.index(ORIGIN)
        return tuple((*row[:place], _signed_origin(row[place]), *row[place + 1 :]) for row in self.rows)

    def markdown(self) -> str:
        """As GitHub Markdown, without the title and the note."""
        numbers = len(self.heading) - self.names
        lines = [self.heading, (*["---"] * self.names, *["---:"] * numbers), *self.signed_rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def text(self) -> str:
        """As aligned columns for a terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(self.title), title_justify="left", box=box.SIMPLE_HEAD)
        for number, name in enumerate(self.heading):
            table.add_column(Text(name), justify="left" if number < self.names else "right", no_wrap=True)
        for row in self.signed_rows:
            table.add_row(*map(Text, row))
        # As wide as it needs to be: a narrow terminal wraps a line, rich would cut the numbers.
        console = Console(file=(buffer := io.StringIO()), width=1000, color_system=None)
        console.print(table)
        lines = [line.rstrip() for line in buffer.getvalue().rstrip().splitlines()]
        note = textwrap.wrap(self.note, 118, initial_indent=" ", subsequent_indent=" ", break_on_hyphens=False)
        return "\n".join([*lines, *note]) + "\n"

    def latex(self) -> str:
        r"""As a LaTeX table with its caption, for a document that loads `booktabs`.

        Small and tight: a row of eleven languages fits a text 17 cm wide.
        """
        numbers = len(self.heading) - self.names
        lines = [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_latex(' '.join(filter(None, [f'{self.title}.', self.note])))}}}",
            rf"\begin{{tabular}}{{@{{}}{'l' * self.names}{'r' * numbers}@{{}}}}",
            r"\toprule",
            _latex_row(self.heading),
            r"\midrule",
            *self._latex_rows(),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def _latex_rows(self) -> Iterator[str]:
        """The rows, with a rule where the origin changes."""
        place = self.heading.index(ORIGIN) if ORIGIN in self.heading else 0
        for number, row in enumerate(self.signed_rows):
            if number and ORIGIN in self.heading and row[place] != self.signed_rows[number - 1][place]:
                yield r"\midrule"
            yield _latex_row(row)

    def csv(self) -> str:
        """As CSV with a heading; what is not there is empty, and a minus is the one that programs read."""
        return csv_text(
            self.heading, ([cell.replace(MINUS, "-") if cell != NONE else "" for cell in row] for row in self.rows)
        )


def notes_once(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables, each with what its note adds to the notes above it."""
    said: list[str] = []
    changed = []
    for table in tables:
        note = table.note
        for before in said:
            note = note.removeprefix(before).strip()
        said.append(table.note)
        changed.append(dataclasses.replace(table, note=note))
    return tuple(changed)


def csv_text(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a heading, a line feed after each row."""
    writer = csv.writer(buffer := io.StringIO(), lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return buffer.getvalue()


def signed(value: float, digits: int) -> str:
    """A difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def _signed_origin(name: str) -> str:
    return f"{ORIGINS[name]} {name}" if name in ORIGINS else name


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def line_of(value: Any) -> str:
    """A value as a line: the parts of a flat mapping or list as they are, what is nested deeper as JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping) and not any(isinstance(own, Mapping) for own in value.values()):
        return "; ".join(f"{key}: {line_of(own)}" for key, own in value.items())
    if isinstance(value, (list, tuple)) and not any(isinstance(own, Mapping) for own in value):
        return ", ".join(map(line_of, value))
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "none" if value is None else str(value)
