"""A table of text, in each form that people and programs read: terminal, Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NONE, MINUS = "–", "\u2212"
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", NONE: "--", MINUS: "$-$",
    "↓": r"$\downarrow$", "±": r"$\pm$",
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

    def markdown(self) -> str:
        """As GitHub Markdown, without the title and the note."""
        numbers = len(self.heading) - self.names
        lines = [self.heading, (*["---"] * self.names, *["---:"] * numbers), *self.rows]
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
        for row in self.rows:
            table.add_row(*map(Text, row))
        # As wide as it needs to be: a narrow terminal wraps a line, rich would cut the numbers.
        console = Console(file=(buffer := io.StringIO()), width=1000, color_system=None)
        console.print(table)
        lines = [line.rstrip() for line in buffer.getvalue().rstrip().splitlines()]
        note = textwrap.wrap(self.note, 118, initial_indent=" ", subsequent_indent=" ", break_on_hyphens=False)
        return "\n".join([*lines, *note]) + "\n"

    def latex(self) -> str:
        r"""As a LaTeX table with its caption, for a document that loads `booktabs`."""
        numbers = len(self.heading) - self.names
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(' '.join(filter(None, [f'{self.title}.', self.note])))}}}",
            rf"\begin{{tabular}}{{{'l' * self.names}{'r' * numbers}}}",
            r"\toprule",
            _latex_row(self.heading),
            r"\midrule",
            *map(_latex_row, self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """As CSV with a heading; what is not there is empty, and a minus is the one that programs read."""
        return csv_text(
            self.heading, ([cell.replace(MINUS, "-") if cell != NONE else "" for cell in row] for row in self.rows)
        )


def csv_text(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a heading, a line feed after each row."""
    writer = csv.writer(buffer := io.StringIO(), lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return buffer.getvalue()


def signed(value: float, digits: int) -> str:
    """A difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"
