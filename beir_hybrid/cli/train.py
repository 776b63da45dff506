"""beir-hybrid train"""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from beir_hybrid.cli import options
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import check_target

if TYPE_CHECKING:
    from beir_hybrid.encoders.dense import DenseEncoder

TARGET = ("a model", "modules.json")
ARGUMENTS = "arguments"
"""The key of a settings file under which other training arguments stand."""
_OWN = {
    "max_steps": "--steps",
    "num_train_epochs": "--steps",
    "per_device_train_batch_size": "--batch-size",
    "warmup_steps": "--warmup",
    "lr_scheduler_type": "--scheduler",
    "bf16": "--precision",
    "output_dir": "--output",
    "save_strategy": "--save-steps",
}
"""Training arguments that the command has an option for under another name."""


def _read_config(context: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Take the options that were not given on the command line from the file."""
    if value is not None and not context.resilient_parsing:
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
_Batching = Annotated[
    str,
    typer.Option(
        help="hybrid, x-x-mono (a batch in one language), x-y (question and passage in different languages), x-x, "
        "or en-en."
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
        help="Any other training argument, as `weight_decay=0.1`; may be repeated.",
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
    collection: options.Collection = "sample-train",
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
    precision: options.Precision = "auto",
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is there.")] = False,
) -> None:
    """Train MODEL on the parallel pairs of a collection, in hybrid batches.

    A hybrid batch is X-X-mono (all in one language) with probability alpha, else X-Y (question and passage in two
    languages). Beside the model stands `hybrid_training.json`: what it was trained on, and how.

    `beir-hybrid train bundled:multilingual-e5-small --collection mlqa-r --output my-encoder --freeze-embeddings`
    """
    check_target(output, *TARGET, overwrite)
    others = _other_arguments(context, setting or ())
    data = options.load_collection(collection, data_dir, languages)
    encoder = options.load_encoder(model, query_prompt, passage_prompt, precision)
    run_training(
        encoder,
        data,
        output,
        replace=overwrite,
        save_steps=save_steps,
        restart=restart,
        say=typer.echo,
        batching=batching,
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
    typer.echo(f"model: {output}")


def run_training(encoder: DenseEncoder, collection: MultilingualCollection, output: Path, **settings: Any) -> None:
    """As `beir_hybrid.cli.run.run_training`, which takes a while to import."""
    from beir_hybrid.cli import run

    run.run_training(encoder, collection, output, **settings)


def run_command(arguments: list[str]) -> None:
    """Run the command with these arguments, as from the command line; its errors are raised."""
    command = typer.Typer(add_completion=False)
    command.command("train")(train)
    typer.main.get_command(command).main(arguments, prog_name="beir-hybrid train", standalone_mode=False)


def read_config(path: Path) -> dict[str, Any]:
    """What the YAML file holds, with underscores in its keys.

    Raises:
        BeirHybridError: it cannot be read, is no mapping of names, or names something twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}); expected a YAML file.") from None
    except UnicodeDecodeError as error:
        raise BeirHybridError(f"{path}: not UTF-8 at byte {error.start}; expected a YAML file.") from None
    except RecursionError:
        raise BeirHybridError(f"{path}: nested too deeply for a file of settings.") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date like 2024-99-99 is a ValueError
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise BeirHybridError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise BeirHybridError(f"{path}: expected lines of `name: value`, as in `batch-size: 64`.")
    seen: set[str] = set()
    for key, _ in node.value:
        name = str(key.value).replace("-", "_")
        if name in seen:
            raise BeirHybridError(f"{path}, line {key.start_mark.line + 1}: {key.value} is there twice.")
        seen.add(name)
    found = {name.replace("-", "_"): value for name, value in content.items() if value is not None}
    if not isinstance(found.get(ARGUMENTS, {}), dict):
        raise BeirHybridError(f"{path}: arguments is {found[ARGUMENTS]!r}; expected lines of `name: value` below it.")
    return found


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
        if name == "languages" and isinstance(value, list) and all(isinstance(code, str) for code in value):
            value = ",".join(value)
        wanted = next((type(one) for one in (True, 1.5, 1) if _fits(one, hints[name])), str)
        try:
            found[name] = as_type(value, wanted)
        except ValueError:
            hint = "; write text in quotes" if wanted is str else ""
            raise BeirHybridError(f"{path}: {name} is {value!r}; expected {wanted.__name__}{hint}.") from None
    return found


def _other_arguments(context: typer.Context, given: typing.Sequence[str]) -> dict[str, Any]:
    """The training arguments of the file and of the command line, which wins.

    Raises:
        BeirHybridError: one is unknown, of another type, or has an option of its own.
    """
    found = dict(context.meta.get(ARGUMENTS, {}))
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise BeirHybridError(f"--set {text}: expected NAME=VALUE, as in --set weight_decay=0.1.")
        try:
            found[name.strip().replace("-", "_")] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            raise BeirHybridError(f"--set {text}: {value!r} is not valid YAML; put text in quotes.") from None
    if not found:
        return {}
    from beir_hybrid.training.trainer import HybridTrainingArguments

    fields = [field.name for field in dataclasses.fields(HybridTrainingArguments) if field.init]
    hints = typing.get_type_hints(HybridTrainingArguments)
    own = _OWN | {param.name: param.opts[0] for param in context.command.params if param.name in fields}
    for name, value in found.items():
        if name in own:
            raise BeirHybridError(f"{name}: has an option of its own, {own[name]}; use that.")
        if name not in fields:
            raise unknown("training argument", str(name), [field for field in fields if field not in own])
        try:
            found[name] = as_type(value, hints[name])
        except ValueError:
            wanted = hints[name].__name__ if isinstance(hints[name], type) else str(hints[name])
            raise BeirHybridError(f"{name} is {value!r}; expected {wanted}.") from None
    return found


def as_type(value: Any, hint: Any) -> Any:
    """The value, as a number where one is wanted: YAML 1.1 reads 3e-5 as text.

    Raises:
        ValueError: it is of another type.
    """
    if _fits(value, hint):
        return value
    if isinstance(value, str) and _fits(1.5, hint):
        with contextlib.suppress(ValueError):
            return float(value)
    raise ValueError(value)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
