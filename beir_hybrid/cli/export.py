"""beir-hybrid export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beir_hybrid.cli import options
from beir_hybrid.files import check_target


def export(
    model: options.Model,
    output: Annotated[Path, typer.Option(help="The folder to write; it must not exist.", show_default=False)],
    collection: options.Collection = "xquad-r",
    data_dir: options.DataDir = None,
    languages: options.Languages = None,
    setting: Annotated[
        str | None,
        typer.Option(help="Only what one setting searches (mono/en, cross/en-de). Default: all.", show_default=False),
    ] = None,
    precision: options.Precision = "auto",
    passage_prompt: options.PassagePrompt = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index that is there.")] = False,
) -> None:
    """Encode a collection's passages and write them as a Pyserini dense index (`index` and `docid`).

    The vectors are L2-normalised and the index is exact, so scores are cosines.

    `beir-hybrid export my-encoder --collection xquad-r --output my-index`
    """
    from beir_hybrid.anserini.export import TARGET, export_pyserini

    check_target(output, *TARGET, overwrite)
    data = options.load_collection(collection, data_dir, languages)
    if setting is not None:
        data.setting(setting)
    encoder = options.load_encoder(model, None, passage_prompt, precision)
    export_pyserini(encoder, data, output, setting=setting, replace=overwrite)
    typer.echo(f"index: {output}")
    typer.echo(f"questions need the prompt {encoder.query_prompt!r}; see {output / 'manifest.json'}")
