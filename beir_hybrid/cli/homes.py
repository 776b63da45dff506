"""Options of `export` for the homes outside Pyserini."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beir_hybrid.errors import BeirHybridError

if TYPE_CHECKING:
    from beir_hybrid.anserini.exporting.exported import Exported

Faiss = Annotated[
    Path | None,
    typer.Option(
        help="Also write this folder: a plain Faiss file, and ids.jsonl with the passage of each row.",
        metavar="DIR",
        show_default=False,
    ),
]
Hub = Annotated[
    Path | None,
    typer.Option(
        help="Also write this folder: a dataset in the hub's layout (Parquet with texts and embeddings, and a card).",
        metavar="DIR",
        show_default=False,
    ),
]
HubTexts = Annotated[bool, typer.Option("--hub-texts/--no-hub-texts", help="Whether that has titles and texts.")]


@dataclass(frozen=True)
class Homes:
    """Where else an export goes."""

    faiss: Path | None
    hub: Path | None
    texts: bool
    replace: bool

    def check(self, output: Path, shard: int | None) -> None:
        """Refuse, before anything is encoded, folders that could not be written afterwards.

        Raises:
            BeirHybridError: one exists, or two are the same; a shard alone is exported.
        """
        from beir_hybrid.anserini.homes.faiss_file import check_faiss
        from beir_hybrid.anserini.homes.hub import check_hub

        named = [path.absolute() for path in (output, self.faiss, self.hub) if path is not None]
        if len(set(named)) < len(named):
            raise BeirHybridError("--output, --faiss and --hub name one folder twice; give each its own.")
        if shard is not None and len(named) > 1:
            raise BeirHybridError("--faiss and --hub take a whole index: give them where the shards are put together.")
        if self.faiss is not None:
            check_faiss(self.faiss, self.replace)
        if self.hub is not None:
            check_hub(self.hub, self.replace)

    def write(self, exported: Exported) -> None:
        """Write them, and say where."""
        from beir_hybrid.anserini.homes.faiss_file import write_faiss
        from beir_hybrid.anserini.homes.hub import write_hub

        if self.faiss is not None:
            typer.echo(f"Faiss file: {write_faiss(exported, self.faiss, replace=self.replace)}")
        if self.hub is not None:
            folder = write_hub(exported, self.hub, texts=self.texts, replace=self.replace, progress=True)
            typer.echo(f"hub dataset: {folder} ({exported.collection.info.licence})")
