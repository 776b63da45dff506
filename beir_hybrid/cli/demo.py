"""beir-hybrid demo"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beir_hybrid.cli import options
from beir_hybrid.cli.train import TARGET, run_training
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.collections.registry import available, load_collection
from beir_hybrid.encoders.bundled import BUNDLED
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import check_target, check_writable

if TYPE_CHECKING:
    from beir_hybrid.evaluation.figures import Results

TRAINING = "sample-train"
"""Never what is evaluated on, whatever that is."""
FALLBACK = "sample-test"


def demo(
    model: Annotated[str, typer.Option(help="Hub id, folder, or bundled:multilingual-e5-small.")] = BUNDLED,
    collection: Annotated[
        str | None,
        typer.Option(
            help="What to evaluate on. Default: xquad-r if it is to be had, else the bundled sample-test.",
            show_default=False,
        ),
    ] = None,
    data_dir: options.DataDir = None,
    languages: options.Languages = None,
    output: Annotated[Path, typer.Option(help="The folder for the report and the trained model.")] = Path(
        "demo-report"
    ),
    steps: Annotated[int, typer.Option(help="Steps of training.", min=1)] = 60,
    batch_size: Annotated[int, typer.Option(help="Pairs in a batch.", min=2)] = 32,
    seed: Annotated[int, typer.Option(help="Decides the batches.")] = 0,
    precision: options.Precision = "auto",
) -> None:
    """Show what hybrid batches do for an encoder: evaluate it, train it, evaluate it again, write a report.

    It is trained on the bundled sample's train part (24 paragraphs in 11 languages) and evaluated on XQuAD-R, or on
    the sample's test part where XQuAD-R is not to be had.

    `beir-hybrid demo --model intfloat/multilingual-e5-base --collection xquad-r`
    """
    check_writable(output / "report.md")
    check_target(output / "model", *TARGET, replace=True)
    clock = _Clock(steps=4)
    data = _data(collection, data_dir, languages)
    typer.echo(
        f"data: {data.name}, {len(data.queries):,} questions and {len(data.passages):,} passages in "
        f"{len(data.languages)} languages ({data.info.origin}; {data.info.licence})"
    )
    clock.say(f"loading {model}")
    encoder = options.load_encoder(model, None, None, precision)
    training = load_collection(TRAINING)
    name = Path(encoder.name).name

    def evaluated(batching: str) -> Results:
        from beir_hybrid.evaluation.grid import evaluate_grid

        return evaluate_grid(encoder, data, system=name, batching=batching)

    clock.say(f"evaluating it as it is, in {len(data.settings)} settings ({encoder.precision})")
    before = evaluated("")
    clock.say(f"training it on {training.name}: {steps} steps of {batch_size} pairs in hybrid batches")
    run_training(
        encoder,
        training,
        output / "model",
        replace=True,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        warmup_steps=0.1,
        freeze_embeddings=True,
        dropout=0.0,
        seed=seed,
    )
    encoder.name = str(output / "model")
    clock.say("evaluating it again")
    after = evaluated("hybrid")

    from beir_hybrid.evaluation.reports.report import summary_table, write_report

    typer.echo("")
    typer.echo(summary_table([before, after]))
    for path in write_report([before, after], output):
        typer.echo(f"report: {path}")
    typer.echo(f"model:  {output / 'model'}")
    clock.end()


def _data(name: str | None, data_dir: Path | None, languages: str | None) -> MultilingualCollection:
    if name is not None:
        data = options.load_collection(name, data_dir, languages)
        if name == TRAINING:
            raise BeirHybridError(f"the demo trains on {TRAINING}, so it cannot evaluate on it. Use {FALLBACK}.")
        return data
    folders = [str(folder) for folder in (data_dir, os.environ.get("BEIR_HYBRID_DATA")) if folder]
    has_files = available()["xquad-r"].is_here() or any((Path(folder) / "xquad-r").is_dir() for folder in folders)
    if has_files or data_dir is not None:  # then what is wrong with them must be said
        return options.load_collection("xquad-r", data_dir, languages)
    try:
        return options.load_collection("xquad-r", None, languages)
    except BeirHybridError as error:
        typer.echo(f"XQuAD-R is not to be had: {error}", err=True)
        typer.echo(f"Going on with the bundled sample ({FALLBACK}) instead; it is small, and so are its differences.")
        return options.load_collection(FALLBACK, None, languages)


class _Clock:
    """Says what is being done, and how long it has taken so far."""

    def __init__(self, steps: int) -> None:
        self.started, self.step, self.steps = time.monotonic(), 0, steps

    def say(self, what: str) -> None:
        self.step += 1
        typer.echo(f"[{self.step}/{self.steps}, {self._elapsed()}] {what}")

    def end(self) -> None:
        typer.echo(f"done in {self._elapsed()}")

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        return f"{minutes}:{seconds:02d}"
