"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beir_hybrid.collections import registry
from beir_hybrid.collections.blend import blended
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError

if TYPE_CHECKING:
    from beir_hybrid.encoders.dense import DenseEncoder

Model = Annotated[
    str,
    typer.Argument(help="Hub id, folder, or bundled:multilingual-e5-small.", metavar="MODEL", show_default=False),
]
Models = Annotated[
    list[str] | None,
    typer.Argument(
        help="Hub ids, folders, or bundled:multilingual-e5-small; several share the tables.",
        metavar="[MODEL...]",
        show_default=False,
    ),
]
Collection = Annotated[
    str,
    typer.Option(
        help="A collection's name, a part of one (xquad-r.context, xquad-r.first100), or a folder of your own "
        "(./my-data): see `beir-hybrid datasets --help`."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds the collection's folder (DIR/xquad-r/en.json, ...). Without it: BEIR_HYBRID_DATA, the "
        "cache, else the published address.",
        show_default=False,
    ),
]
Languages = Annotated[
    str | None,
    typer.Option(
        help="Only these languages, comma-separated. Results then carry them in the collection's name.",
        show_default=False,
    ),
]
Precision = Annotated[
    str, typer.Option(help="float32, bf16, or auto: bf16 where the processor has units for it.", metavar="KIND")
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where the model runs, as in torch: cpu, cuda, cuda:1. Several encode together, each in a process of its "
        "own: cuda:0,cuda:1. Default: the best there is.",
        show_default=False,
    ),
]
QueryPrompt = Annotated[
    str | None,
    typer.Option(help="Put before each question; by default what the model or its family says.", show_default=False),
]
PassagePrompt = Annotated[str | None, typer.Option(help="Put before each passage.", show_default=False)]


def load_collection(
    name: str, data_dir: Path | None, languages: str | None, settings: Sequence[str] = ()
) -> MultilingualCollection:
    """The collection that these options name, with the blends that are among the `settings`."""
    collection = registry.load_collection(name, data_dir=data_dir, languages=language_codes(languages))
    blends = [one.split("/")[1] for one in settings if one.startswith("blend/") and one.count("/") == 2]
    return blended(collection, blends) if blends else collection


def language_codes(languages: str | None) -> list[str] | None:
    """The codes that `--languages` names; None for all.

    Raises:
        BeirHybridError: one is named twice.
    """
    codes = None if languages is None else [code.strip() for code in languages.split(",") if code.strip()]
    if twice := sorted({code for code in codes or () if (codes or []).count(code) > 1}):
        raise BeirHybridError(f"--languages names {', '.join(twice)} twice; name every language once.")
    return codes


def load_encoder(
    model: str, query_prompt: str | None, passage_prompt: str | None, precision: str, device: str | None = None
) -> DenseEncoder:
    """The encoder that these options name."""
    from beir_hybrid.encoders.dense import DenseEncoder

    return DenseEncoder(
        model,
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        precision=precision,  # type: ignore[arg-type]  # checked there
        device=None if device is None else [one.strip() for one in device.split(",") if one.strip()],
    )
