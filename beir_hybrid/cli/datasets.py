"""beir-hybrid datasets"""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from beir_hybrid.collections.registry import available


def datasets() -> None:
    """List the collections: their languages, sizes and licences, and whether they are on this machine."""
    table = Table(box=box.SIMPLE_HEAD)
    for header, justify in (
        ("name", "left"),
        ("languages", "left"),
        ("questions", "right"),
        ("passages", "right"),
        ("download", "right"),
        ("licence", "left"),
        ("here", "left"),
    ):
        table.add_column(header, justify=justify, no_wrap=header != "languages")  # type: ignore[arg-type]
    for spec in available().values():
        size = sum(file.size for file in spec.files.values())
        table.add_row(
            spec.name,
            " ".join(spec.languages),
            f"{spec.questions:,}",
            f"{spec.passages:,}",
            f"{size / 1e6:.0f} MB" if size else "none",
            spec.info.licence,
            "bundled" if spec.folder else "cached" if spec.cached else "no",
        )
    console = Console()
    if not console.is_terminal:
        console.width = 140  # a pipe has no width: do not wrap
    console.print(table)
