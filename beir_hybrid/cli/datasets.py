"""beir-hybrid datasets, datasets show, datasets prepare"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beir_hybrid.cli import options
from beir_hybrid.collections.collection import MultilingualCollection, SettingView
from beir_hybrid.collections.names import base_name
from beir_hybrid.collections.registry import available, folder_of, load
from beir_hybrid.collections.spec import CollectionSpec

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="markdown",
)


@app.callback()
def datasets(context: typer.Context) -> None:
    """List the collections: their languages, sizes and licences, and whether they are on this machine.

    `beir-hybrid datasets show xquad-r` looks into one; `beir-hybrid datasets prepare xquad-r/cross/en-de my-folder`
    writes a folder for BEIR's own scripts.

    A name may say more than the collection: `xquad-r@de+en` two languages, `xquad-r.context` sentence and paragraph as
    text, `xquad-r.first100` the first 100 questions of each language, `xquad-r/multi/en` one setting, `./my-folder` a
    folder of your own. All but the setting can be combined: `xquad-r.context.first100@de+en`.
    """
    if context.invoked_subcommand is not None:
        return
    specs = list(available().values())
    rows = [
        (
            spec.name,
            _codes(spec),
            _count(spec.questions),
            _count(spec.passages),
            _size(spec.download),
            spec.info.licence,
            _here(spec),
        )
        for spec in specs
    ]
    _print(("name", "languages", "questions", "passages", "download", "licence", "here"), rows, right=(2, 3, 4))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A collection, a part or a setting of one, or a path.", metavar="NAME")],
    data_dir: options.DataDir = None,
    items: Annotated[int, typer.Option(help="How many questions and passages to show.", min=0)] = 3,
) -> None:
    """Look into a collection or a setting: counts by language, first items, licence and citation."""
    found = load(name, data_dir=data_dir)
    view = found if isinstance(found, SettingView) else None
    collection: MultilingualCollection = view.collection if view else found
    spec = available().get(base_name(name))
    typer.echo(f"{view.name if view else collection.name}: {spec.title if spec else collection.info.origin}")
    if view is None:
        kinds = [f"{len(list(group))} {kind}" for kind, group in itertools.groupby(s.kind for s in collection.settings)]
        typer.echo(f"settings: {', '.join(kinds)}")
        _print(("language", "questions", "passages"), _by_language(collection), right=(1, 2))
    else:
        pairs = len(view.judgements.passages)
        typer.echo(f"{len(view.queries):,} questions, {len(view.passage_rows):,} passages, {pairs:,} judgements")
    if view is None and not collection.settings:
        typer.echo("No question has a relevant passage, so there is no setting.")
    shown = view or (collection.view(collection.settings[0]) if collection.settings else None)
    if shown is not None:
        _show_first(shown, items)
    info = collection.info
    typer.echo(f"\ntext: {info.text_mode}\nlicence: {info.licence}\nfrom: {info.origin}\ncite: {info.citation}")
    if info.missing:
        typer.echo(f"left out: {info.missing:,} judgements of passages that the corpus lacks")
    typer.echo(f"digest: {collection.digest}")


def _show_first(shown: SettingView, items: int) -> None:
    typer.echo(f"\nFirst of {shown.name}:")
    for identifier, text in itertools.islice(shown.queries.items(), items):
        typer.echo(f"  question {identifier}: {text}")
        answers = shown.qrels.get(identifier, {})
        for passage in [one for one, grade in answers.items() if grade > 0][:1]:
            typer.echo(f"    answer {passage}: {_cut(shown.corpus[passage]['text'])}")
    for identifier in itertools.islice(shown.corpus, items):
        document = shown.corpus[identifier]
        typer.echo(f"  passage {identifier}: {_cut(' '.join(filter(None, (document['title'], document['text']))))}")


@app.command()
def prepare(
    name: Annotated[
        str, typer.Argument(help="A setting (xquad-r/cross/en-de), a collection with --all, or a path.", metavar="NAME")
    ],
    folder: Annotated[Path, typer.Argument(help="The folder to write; must not exist.", metavar="FOLDER")],
    every: Annotated[
        bool, typer.Option("--all", help="All settings of a collection, in FOLDER/KIND/LANGUAGES.")
    ] = False,
    layout: Annotated[
        str, typer.Option(help="`beir`: jsonl and tsv. `hub`: parquet, as BEIR's and MTEB's hub loaders take it.")
    ] = "beir",
    split: Annotated[str, typer.Option(help="What the split is called.")] = "test",
    setting: Annotated[
        str | None, typer.Option(help="Which one of the settings, where NAME is a path.", show_default=False)
    ] = None,
    data_dir: options.DataDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace such a folder that is there.")] = False,
) -> None:
    """Write a folder that BEIR reads: `GenericDataLoader(FOLDER).load("test")`.

    `beir-hybrid datasets prepare xquad-r/cross/en-de my-folder`

    `beir-hybrid datasets prepare xquad-r my-folder --all`
    """
    from beir_hybrid.collections.formats.beir_export import prepare_beir

    written = prepare_beir(
        name,
        folder,
        setting=setting,
        data_dir=data_dir,
        layout=layout,  # type: ignore[arg-type]  # checked there
        split=split,
        every=every,
        replace=overwrite,
        progress=True,
    )
    typer.echo(f"written: {written}")


def _by_language(collection: MultilingualCollection) -> list[tuple[str, str, str]]:
    queries, passages = (texts.language for texts in (collection.queries, collection.passages))
    return [
        (code, f"{int((queries == number).sum()):,}", f"{int((passages == number).sum()):,}")
        for number, code in enumerate(collection.languages)
    ]


def _here(spec: CollectionSpec) -> str:
    if spec.bundled:
        return "bundled"
    if folder_of(spec) is not None:
        return "data folder"
    return "cached" if spec.is_here() else "no"


def _codes(spec: CollectionSpec) -> str:
    return " ".join(spec.languages)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _size(download: int | None) -> str:
    if not download:
        return "none" if download == 0 else ""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if download >= size:
            return f"{download / size:.0f} {unit}"
    return f"{download / 1e3:.0f} kB"


def _cut(text: str, width: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _print(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for place, header in enumerate(headers):
        table.add_column(
            header, justify="right" if place in right else "left", no_wrap=header not in ("languages", "licence")
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160  # a pipe has no width: do not wrap
    console.print(table)
