"""beir-hybrid train"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beir_hybrid.cli import options
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_folder, check_target

if TYPE_CHECKING:
    from beir_hybrid.encoders.dense import DenseEncoder

TARGET = ("a model", "modules.json")


def train(
    model: options.Model,
    output: Annotated[Path, typer.Option(help="The folder for the trained model.", show_default=False)],
    collection: options.Collection = "sample-train",
    data_dir: options.DataDir = None,
    languages: options.Languages = None,
    batching: Annotated[
        str,
        typer.Option(
            help="hybrid, x-x-mono (a batch in one language), x-y (question and passage in different languages), x-x, "
            "or en-en."
        ),
    ] = "hybrid",
    alpha: Annotated[float, typer.Option(help="Share of x-x-mono batches in hybrid, 0 to 1.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Steps of training.", min=1)] = 150,
    batch_size: Annotated[int, typer.Option(help="Pairs in a batch; each other pair is a negative.", min=2)] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-5,
    temperature: Annotated[float, typer.Option(help="Temperature of the loss.")] = 0.02,
    symmetric: Annotated[
        bool,
        typer.Option("--symmetric", help="Also tell each passage from the other questions, not only each question."),
    ] = False,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")] = 0.1,
    scheduler: Annotated[
        str, typer.Option(help="What the rate does after the warm-up: linear, constant_with_warmup, cosine, ...")
    ] = "linear",
    max_tokens: Annotated[
        int | None, typer.Option(help="Cut longer texts while training.", show_default=False, min=8)
    ] = None,
    freeze_embeddings: Annotated[
        bool, typer.Option(help="Leave the word embeddings as they are: much less memory, and faster.")
    ] = False,
    dropout: Annotated[
        float | None, typer.Option(help="Dropout while training; by default the model's own.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides the batches and all else that is random.")] = 0,
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
    data = options.load_collection(collection, data_dir, languages)
    encoder = options.load_encoder(model, query_prompt, passage_prompt, precision)
    typer.echo(
        f"training {encoder.name} on {data.name} ({len(data.items)} parallel questions, {len(data.languages)} "
        f"languages): {batching}{f' (alpha {alpha})' if batching == 'hybrid' else ''}, {steps} steps of {batch_size}, "
        f"{encoder.precision} on {encoder.model.device.type}"
    )
    run_training(
        encoder,
        data,
        output,
        replace=overwrite,
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
    )
    typer.echo(f"model: {output}")


def run_training(
    encoder: DenseEncoder,
    collection: MultilingualCollection,
    output: Path,
    *,
    replace: bool = False,
    max_tokens: int | None = None,
    **arguments: Any,
) -> None:
    """Train the encoder's model in place and save it to `output`, whole or not at all.

    Args:
        max_tokens: Cut longer texts while training; the saved model keeps its own maximum.
        arguments: HybridTrainingArguments'.

    Raises:
        BeirHybridError: the settings or the data are wrong, or the folder cannot be written.
    """
    from safetensors import SafetensorError

    from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

    own_maximum = encoder.model.max_seq_length
    # The folder is made first: whoever may not write there learns it before the training.
    with atomic_folder(output, replace=replace) as temporary:
        scratch = tempfile.mkdtemp(prefix="beir-hybrid-")
        try:
            args = HybridTrainingArguments(
                output_dir=scratch,
                save_strategy="no",
                bf16=encoder.precision == "bf16",
                use_cpu=encoder.model.device.type == "cpu",
                dataloader_pin_memory=encoder.model.device.type == "cuda",
                disable_tqdm=not sys.stderr.isatty(),
                **arguments,
            )
            if max_tokens is not None:
                encoder.model.max_seq_length = min(max_tokens, own_maximum or max_tokens)
            trainer = HybridTrainer(encoder.model, args, collection)
            trainer.train()
            encoder.model.max_seq_length = own_maximum
            trainer.save_model(str(temporary))
        except SafetensorError as error:
            raise BeirHybridError(
                f"{output}: the model cannot be written ({error}). Nothing was left half written. Free space, or "
                "choose a folder that you may write to."
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
