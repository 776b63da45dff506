"""beir-hybrid train"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beir_hybrid.cli import options, processes
from beir_hybrid.cli.arguments import TrainCommand, other_arguments
from beir_hybrid.cli.settings_file import ARGUMENTS, as_mapping, as_type, fits, is_list, read_config
from beir_hybrid.collections import registry
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.names import base_name
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import check_target

if TYPE_CHECKING:
    from beir_hybrid.cli.run import Data
    from beir_hybrid.encoders.dense import DenseEncoder
    from beir_hybrid.training.pairs import ParallelPairs

TARGET = ("a model", "modules.json")
DEFAULT = "sample-train"


def _read_config(context: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Take the options that were not given on the command line from the file."""
    if value is not None and not context.resilient_parsing:
        with processes.told_once():
            content = read_config(value)
            context.meta[ARGUMENTS] = content.pop(ARGUMENTS, {})
            context.default_map = {**(context.default_map or {}), **typed_options(content, value)}
    return value


_Config = Annotated[
    Path | None,
    typer.Option(
        help="A YAML file with any of these options under their names (`batch-size: 64`), `model:`, and other "
        "training arguments under `arguments:`. What the command line says wins.",
        callback=_read_config,
        is_eager=True,
        show_default=False,
    ),
]
_Collections = Annotated[
    list[str] | None,
    typer.Option(
        help="A collection's name, a part of one (xquad-r.context, xquad-r.first100), or a folder of your own "
        "(./my-data); may be repeated. See `beir-hybrid datasets --help`. Without it and without --pairs-file: "
        f"{DEFAULT}.",
        show_default=False,
    ),
]
_PairsFiles = Annotated[
    list[Path] | None,
    typer.Option(
        help="A file of pairs, JSON lines or Parquet with `item`, `language`, `query` and `passage`; may be repeated.",
        metavar="FILE",
        show_default=False,
    ),
]
_Dev = Annotated[
    str | None,
    typer.Option(
        help="A collection to evaluate at each checkpoint; the best by AP over mono, cross and multi is the model.",
        metavar="COLLECTION",
        show_default=False,
    ),
]
_Batching = Annotated[
    str,
    typer.Option(
        help="hybrid, x-x-mono (a batch in one language), x-y (question and passage in different languages), x-x, "
        "en-en, or the weight of each kind: `'x-x-mono: 0.4, x-y: 0.4, en-en: 0.2'`."
    ),
]
_Symmetric = Annotated[
    bool,
    typer.Option("--symmetric", help="Also tell each passage from the other questions, not only each question."),
]
_Scheduler = Annotated[
    str, typer.Option(help="What the rate does after the warm-up: linear, constant_with_warmup, cosine, ...")
]
_MaxTokens = Annotated[int | None, typer.Option(help="Cut longer texts while training.", show_default=False, min=8)]
_FreezeEmbeddings = Annotated[
    bool, typer.Option(help="Leave the word embeddings as they are: much less memory, and faster.")
]
_Dropout = Annotated[
    float | None, typer.Option(help="Dropout while training; by default the model's own.", show_default=False)
]
_Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Another training argument; may be repeated. The same as its name as an option.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
_SaveSteps = Annotated[int, typer.Option(help="Steps between checkpoints, to go on from after a stop; 0: none.", min=0)]
_Restart = Annotated[bool, typer.Option("--restart", help="Drop the checkpoints of a training that was stopped.")]


def train(
    context: typer.Context,
    model: options.Model,
    output: Annotated[Path, typer.Option(help="The folder for the trained model.", show_default=False)],
    config: _Config = None,
    collection: _Collections = None,
    pairs_file: _PairsFiles = None,
    data_dir: options.DataDir = None,
    languages: options.Languages = None,
    batching: _Batching = "hybrid",
    alpha: Annotated[float, typer.Option(help="Share of x-x-mono batches in hybrid, 0 to 1.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Steps of training.", min=1)] = 150,
    batch_size: Annotated[int, typer.Option(help="Pairs in a batch; each other pair is a negative.", min=2)] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-5,
    temperature: Annotated[float, typer.Option(help="Temperature of the loss.")] = 0.02,
    symmetric: _Symmetric = False,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")] = 0.1,
    scheduler: _Scheduler = "linear",
    max_tokens: _MaxTokens = None,
    freeze_embeddings: _FreezeEmbeddings = False,
    dropout: _Dropout = None,
    seed: Annotated[int, typer.Option(help="Decides the batches and all else that is random.")] = 0,
    setting: _Setting = None,
    save_steps: _SaveSteps = 50,
    restart: _Restart = False,
    dev: _Dev = None,
    precision: options.Precision = "auto",
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is there.")] = False,
) -> None:
    """Train MODEL on parallel pairs of collections and files, in hybrid batches.

    A hybrid batch is X-X-mono (all in one language) with probability alpha, else X-Y (question and passage in two
    languages). Beside the model stands `hybrid_training.json`: what it was trained on, and how. In several processes:
    `torchrun --nproc-per-node=2 -m beir_hybrid.cli train ...`.

    Every other training argument, ours and those of sentence-transformers, is an option under its name too:
    `--weight-decay 0.1`, `--pairs pivot:en`, `--language-weights proportional`, `--mini-batch-size 16`.

    `beir-hybrid train bundled:multilingual-e5-small --collection mlqa-r --output my-encoder --freeze-embeddings`
    """
    others = other_arguments(context, setting or ())
    with processes.together(timeout=others.get("ddp_timeout", 1800)) as group:
        group.first(lambda: check_target(output, *TARGET, overwrite))
        data = load_sources(collection, pairs_file, data_dir, languages)
        run_training(
            _encoder(model, query_prompt, passage_prompt, precision),
            data,
            output,
            replace=overwrite,
            save_steps=save_steps,
            restart=restart,
            dev=_development(dev, save_steps, data_dir, data),
            say=typer.echo,
            processes=group,
            batching=as_mapping("batching", batching),
            alpha=alpha,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            temperature=temperature,
            symmetric=symmetric,
            warmup_steps=warmup,
            lr_scheduler_type=scheduler,
            max_tokens=max_tokens,
            freeze_embeddings=freeze_embeddings,
            dropout=dropout,
            seed=seed,
            **others,
        )
        group.first(lambda: typer.echo(f"model: {output}"))


def _encoder(model: str, query_prompt: str | None, passage_prompt: str | None, precision: str) -> DenseEncoder:
    """The encoder to train. What is faster is not tried out, for it must be the same in every process and run."""
    if precision == "auto":
        from sentence_transformers.util import get_device_name

        from beir_hybrid.encoders.encoding import has_bf16_units

        precision = "bf16" if has_bf16_units(get_device_name().split(":")[0]) else "float32"
    return options.load_encoder(model, query_prompt, passage_prompt, precision)


def _development(
    name: str | None, save_steps: int, data_dir: Path | None, data: typing.Sequence[ParallelPairs]
) -> MultilingualCollection | None:
    """The collection that the checkpoints are judged by, if any.

    Raises:
        BeirHybridError: there are no checkpoints; it is trained on, so that the last would look best; as
            `load_collection`.
    """
    if name is None:
        return None
    if not save_steps:
        raise BeirHybridError("--dev chooses among the checkpoints; --save-steps must be above 0.")
    if not registry.is_path(name):
        for pairs in data:
            if base_name(pairs.source) == base_name(name):
                raise BeirHybridError(f"--dev {name}: {pairs.source} is trained on; name other data to judge by.")
    collection = options.load_collection(name, data_dir, None)
    if collection.digest in {pairs.digest for pairs in data}:
        raise BeirHybridError(f"--dev {name}: is trained on; name other data to judge by.")
    return collection


def load_sources(
    collections: list[str] | None, files: list[Path] | None, data_dir: Path | None, languages: str | None
) -> list[ParallelPairs]:
    """As `beir_hybrid.cli.sources.load_sources`, which takes a while to import; the default where nothing is named."""
    from beir_hybrid.cli import sources

    named = collections or ([] if files else [DEFAULT])
    return sources.load_sources(named, files or (), data_dir, languages)


def run_training(encoder: DenseEncoder, data: Data, output: Path, **settings: Any) -> None:
    """As `beir_hybrid.cli.run.run_training`, which takes a while to import."""
    from beir_hybrid.cli import run

    run.run_training(encoder, data, output, **settings)


def run_command(arguments: list[str]) -> None:
    """Run the command with these arguments, as from the command line; its errors are raised."""
    command = typer.Typer(add_completion=False)
    command.command("train", cls=TrainCommand)(train)
    typer.main.get_command(command).main(arguments, prog_name="beir-hybrid train", standalone_mode=False)


def typed_options(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The options of a file as the command line would have them.

    Raises:
        BeirHybridError: there is no such option, or its value is of another type.
    """
    hints = typing.get_type_hints(train)
    known = [name for name in hints if name not in ("context", "config", "setting", "return")]
    found = {}
    for name, value in content.items():
        if name not in known:
            raise BeirHybridError(f"{path}: {unknown('setting', name, [*known, ARGUMENTS])}")
        several = is_list(hints[name])
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            if several:
                found[name] = value
                continue
            value = ",".join(value) if name == "languages" else value
        if name == "batching" and isinstance(value, dict):
            value = json.dumps(value)  # as on the command line
        wanted = next((type(one) for one in (True, 1.5, 1) if fits(one, hints[name])), str)
        try:
            one = as_type(value, wanted)
            found[name] = [one] if several else one
        except ValueError:
            hint = "; write text in quotes" if wanted is str else ""
            raise BeirHybridError(f"{path}: {name} is {value!r}; expected {wanted.__name__}{hint}.") from None
    return found
