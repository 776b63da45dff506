"""beir-hybrid export"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beir_hybrid.cli import homes, options
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import check_target

if TYPE_CHECKING:
    from beir_hybrid.anserini.exporting.exported import Exported

_Setting = Annotated[
    list[str] | None,
    typer.Option(
        help="A setting (mono/en, cross/en-de) or a kind of setting (multi): what it searches is indexed. May be "
        "repeated for settings that search the same passages (mono/de, cross/en-de). Default: all passages, with the "
        "questions of every setting that searches them all.",
        show_default=False,
    ),
]
_Index = Annotated[
    str,
    typer.Option(
        help="A string of Faiss's index factory: Flat (exact), HNSW32, IVF1024,Flat, PQ48, SQ8, ... Others than Flat "
        "are built in memory and trained on a sample; their recall beside Flat is printed.",
        metavar="FACTORY",
    ),
]
_Parameters = Annotated[
    str,
    typer.Option(
        help="How such an index is built and searched, kept in its file: nprobe=16, efConstruction=200,efSearch=128.",
        metavar="NAME=VALUE,...",
        show_default=False,
    ),
]
_Training = Annotated[
    int | None,
    typer.Option(
        help="Vectors that it is trained on; by default 128 for each centroid, and 16,384 at least.",
        min=1,
        show_default=False,
    ),
]
_Vectors = Annotated[
    bool, typer.Option("--vectors", help="Also the vectors as JSON lines, for `python -m pyserini.index.faiss`.")
]
_Embeddings = Annotated[
    Path | None,
    typer.Option(
        help="Keep the embeddings in this folder, and take from there what `evaluate --embeddings` or an export before "
        "has encoded.",
        show_default=False,
    ),
]
_Shard = Annotated[
    int | None,
    typer.Option(
        help="Encode only this one of --shards parts of the passages, counted from 0, into OUTPUT.shard0, ...: on "
        "machines that share no disk.",
        min=0,
        show_default=False,
    ),
]
_Shards = Annotated[
    int,
    typer.Option(help="How many such parts. Without --shard: put them together, and encode no passage again.", min=1),
]

_Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Search the folder with Faiss and with Pyserini (its class, its command line, its trec_eval) and compare "
        "with our own ranking for every question. Exit code 1 if they differ. Needs Pyserini and Java 21; without, "
        "Faiss alone is compared.",
    ),
]


def export(
    model: options.Model,
    output: Annotated[Path, typer.Option(help="The folder to write; it must not exist.", show_default=False)],
    collection: options.Collection = "xquad-r",
    data_dir: options.DataDir = None,
    languages: options.Languages = None,
    setting: _Setting = None,
    index: _Index = "Flat",
    parameters: _Parameters = "",
    training_rows: _Training = None,
    seed: Annotated[int, typer.Option(help="Which vectors an index is trained on.")] = 0,
    vectors: _Vectors = False,
    embeddings: _Embeddings = None,
    shard: _Shard = None,
    shards: _Shards = 1,
    precision: options.Precision = "auto",
    device: options.Device = None,
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    faiss: homes.Faiss = None,
    hub: homes.Hub = None,
    hub_texts: homes.HubTexts = True,
    verify: _Verify = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Encode a collection's passages into a dense index that Pyserini opens, with all that searching it needs.

    The folder holds **index** and **docid** (the vectors and the passages' ids), **topics**, **qrels** and encoded
    **queries** of each setting, the **corpus** as JSON lines for BM25 and for fetching texts, **README.md** with the
    commands for just this folder, and **manifest.json**: what was encoded with what, and a SHA-256 of every file.

    Texts are encoded once. A run that was killed goes on where it stopped when the same command is given again; so do
    several at once, which share the encoding.

    `beir-hybrid export my-encoder --collection xquad-r --output my-index --verify`

    `beir-hybrid export my-encoder --output my-index --index IVF256,Flat --parameters nprobe=32`
    """
    from beir_hybrid.anserini.exporting.export import TARGET, export_pyserini
    from beir_hybrid.anserini.exporting.plan import find, shard_folder

    if verify and shard is not None:
        raise BeirHybridError("--verify is for the whole index; leave it out for a --shard.")
    check_target(output if shard is None else shard_folder(output, shard), *TARGET, overwrite)
    others = homes.Homes(faiss, hub, hub_texts, overwrite)
    others.check(output, shard)
    data = options.load_collection(collection, data_dir, languages, setting or ())
    find(data, setting)  # before a model is loaded
    encoder = options.load_encoder(model, query_prompt, passage_prompt, precision, device)
    exported = export_pyserini(
        encoder,
        data,
        output,
        setting=setting,
        index=index,
        parameters=parameters,
        training_rows=training_rows,
        seed=seed,
        vectors=vectors,
        embeddings=embeddings,
        shard=shard,
        shards=shards,
        replace=overwrite,
    )
    _tell(exported)
    others.write(exported)
    if verify:
        from beir_hybrid.anserini.verifying.verify import RECORD, verify_export

        found = verify_export(exported)
        typer.echo(found.table())
        typer.echo(f"verification: {exported.folder / RECORD}")
        if not found.passed:
            raise typer.Exit(1)


def _tell(exported: Exported) -> None:
    """What was written, and where to read on."""
    manifest, ids = exported.manifest, exported.manifest["ids"]
    typer.echo(f"index: {exported.folder} ({manifest['passages']:,} passages, {manifest['index']})")
    if found := manifest.get("recall"):
        measured = ", ".join(f"{name} {value:.4f}" for name, value in found["values"].items())
        typer.echo(f"beside an exact search ({found['queries']} {found['of']}): {measured}")
    if ids["escaped_passages"] or ids["escaped_questions"] or ids["prefix"]:
        both = f"{ids['escaped_passages']:,} passages and {ids['escaped_questions']:,} questions"
        before = f"; before each passage's id stands its {ids['prefix']}" if ids["prefix"] else ""
        typer.echo(f"ids that Pyserini would break are percent-encoded: those of {both}{before}")
    if manifest["shard"]:
        part = manifest["shard"]
        typer.echo(f"this is shard {part['number']} of {part['of']}; when all are here: --shards {part['of']} alone")
    elif not manifest["settings"]:
        typer.echo("no setting searches all of these passages: name one with --setting to have its questions")
    else:
        typer.echo(f"commands to search and evaluate it: {exported.folder / 'README.md'}")
