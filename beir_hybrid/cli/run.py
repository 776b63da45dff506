"""A training from its settings to a saved model, with checkpoints from which it goes on after it was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers import TrainerCallback

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import weights_digest
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import as_one_error, atomic_folder, check_writable, read_json, write_json
from beir_hybrid.training.mixing import HYBRID, batching_name
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

if TYPE_CHECKING:
    from beir_hybrid.encoders.dense import DenseEncoder

MARKER = "whole.json"
"""Written last into a checkpoint: the sizes of its files. A checkpoint without it, or with others, is never used."""
KEPT = 2
_NO_MATTER = (
    *("output_dir", "disable_tqdm", "save_steps", "save_total_limit", "report_to", "run_name", "project", "log_level"),
    *("logging_strategy", "logging_steps", "logging_first_step"),
)
"""Arguments that do not change the model."""


def run_training(
    encoder: DenseEncoder,
    collection: MultilingualCollection,
    output: Path,
    *,
    replace: bool = False,
    max_tokens: int | None = None,
    save_steps: int = 0,
    restart: bool = False,
    say: Callable[[str], object] = lambda _: None,
    **arguments: Any,
) -> None:
    """Train the encoder's model in place and save it to `output`, whole or not at all.

    Args:
        replace: Whether a model that stands there may be replaced.
        max_tokens: Cut longer texts while training; the saved model keeps its own maximum.
        save_steps: Steps between checkpoints, which lie in `work_folder(output)` until the model is saved; the same
            call goes on from the last of them. 0: none.
        restart: Drop the checkpoints of an earlier training instead.
        say: Is told, before the training starts, what will be done.
        arguments: HybridTrainingArguments'.

    Raises:
        BeirHybridError: the settings or the data are wrong, the folder cannot be written, another process trains to
            it, or its checkpoints are of another training.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BeirHybridError("this trains in one process; for several, call HybridTrainer in a script of your own.")
    output = output.resolve()
    own_maximum = encoder.model.max_seq_length
    before = {"model": weights_digest(encoder.model), "max_seq_length": own_maximum} if save_steps else {}
    try:
        with _folder(output, save_steps) as work:
            args = _arguments(encoder, work, save_steps, arguments)
            if max_tokens is not None:
                encoder.model.max_seq_length = min(max_tokens, own_maximum or max_tokens)
            trainer = _trainer(encoder, args, collection)
            settings = {**before, "max_tokens": max_tokens, **_settings(encoder, trainer, collection)}
            checkpoint = _begin(work, settings, restart) if save_steps else None
            say(_plan(encoder, trainer, collection, output, save_steps))
            if checkpoint is not None:
                say(f"An earlier run of this training was stopped: going on after step {_step(checkpoint)}.")
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            encoder.model.max_seq_length = own_maximum
            with atomic_folder(output, replace=replace, new=not replace) as temporary:
                trainer.save_model(str(temporary))
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        raise BeirHybridError(
            f"{output}: the model cannot be written ({error}). Nothing was left half written. Free space, or "
            "choose a folder that you may write to."
        ) from error


def work_folder(output: Path) -> Path:
    """Where the checkpoints of a training to `output` lie: beside it, hidden."""
    return output.parent / f".{output.name}.training"


def drop_work(output: Path) -> None:
    """Remove what a training to `output` left behind that was stopped right after the model was in its place."""
    with contextlib.suppress(OSError), _locked(work_folder(output.resolve())):
        shutil.rmtree(work_folder(output.resolve()))


@contextlib.contextmanager
def _folder(output: Path, save_steps: int) -> Iterator[Path]:
    """A folder for the trainer: removed at the end, unless there is a checkpoint to go on from."""
    # The first thing to happen: whoever may not write there learns it before the training.
    check_writable(output)
    if not save_steps:
        with tempfile.TemporaryDirectory(prefix="beir-hybrid-", ignore_cleanup_errors=True) as scratch:
            yield Path(scratch)
        return
    work = work_folder(output)
    with as_one_error(work):
        work.mkdir(exist_ok=True)
    with _locked(work):
        # The name of a temporary folder of `output`, and of nothing else's, left by a run that was killed.
        leftover = re.compile(re.escape(f".{output.name}.") + r"[a-z0-9_]{8}\.part")
        for path in output.parent.iterdir():
            if leftover.fullmatch(path.name) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        try:
            yield work
        except BaseException:
            if not whole_checkpoints(work):
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    try:
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout:
        raise BeirHybridError(f"{work}: another process is training to this output; wait for it.") from None


def whole_checkpoints(work: Path) -> list[Path]:
    """The checkpoints that were written in full, the last one first."""
    found = [path for path in work.glob("checkpoint-*") if _is_whole(path)]
    return sorted(found, key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / MARKER).read_bytes())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


class _CheckpointCallback(TrainerCallback):
    """Marks a checkpoint once all of it is written; leaves out the one of the last step, which the model follows."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        write_json(folder / MARKER, {path.relative_to(folder).as_posix(): path.stat().st_size for path in files})


def _begin(work: Path, settings: dict[str, Any], restart: bool) -> Path | None:
    """The checkpoint to go on from, if there is one; all that is of no use any more is removed."""
    checkpoints = [] if restart else whole_checkpoints(work)
    if checkpoints:
        _check_same(work, settings)
    for path in work.glob("checkpoint-*"):
        if path not in checkpoints:
            shutil.rmtree(path, ignore_errors=True)
    write_json(work / "settings.json", settings)
    return checkpoints[0] if checkpoints else None


def _check_same(work: Path, settings: Mapping[str, Any]) -> None:
    way_out = "Give the settings that it was started with to go on with it, or --restart to drop it and start anew."
    try:
        earlier = dict(read_json(work / "settings.json", "the settings of a training"))
    except (BeirHybridError, TypeError, ValueError) as error:
        raise BeirHybridError(f"{work} holds a training whose settings cannot be read: {error} {way_out}") from None
    differences = [
        f"{option_name(name)} was {_short(earlier.get(name))} and is {_short(settings.get(name))}"
        for name in {**settings, **earlier}
        if earlier.get(name) != settings.get(name)
    ]
    if differences:
        raise BeirHybridError(f"{work} holds another training that was stopped: {'; '.join(differences)}. {way_out}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:17]}…"


def _settings(encoder: DenseEncoder, trainer: HybridTrainer, collection: MultilingualCollection) -> dict[str, Any]:
    """All that decides what model comes out, but for the model that goes in."""
    arguments = trainer.args.to_dict()  # type: ignore[no-untyped-call]
    settings = {
        "data": collection.name,
        "data_digest": collection.digest,
        "query_prompt": encoder.query_prompt,
        "passage_prompt": encoder.passage_prompt,
        "precision": encoder.precision,
        "device": encoder.model.device.type,
        **{name: value for name, value in arguments.items() if name not in _NO_MATTER},
    }
    return dict(json.loads(json.dumps(settings, default=str)))


def _arguments(
    encoder: DenseEncoder, work: Path, save_steps: int, arguments: Mapping[str, Any]
) -> HybridTrainingArguments:
    saving: dict[str, Any] = {"save_strategy": "no"}
    if save_steps:
        saving = {"save_strategy": "steps", "save_steps": save_steps, "save_total_limit": KEPT}
    given: dict[str, Any] = {
        "bf16": encoder.precision == "bf16",
        "use_cpu": encoder.model.device.type == "cpu",
        "dataloader_pin_memory": encoder.model.device.type == "cuda",
        "disable_tqdm": not sys.stderr.isatty(),
        **arguments,
    }
    try:
        return HybridTrainingArguments(output_dir=str(work), **saving, **given)
    except (TypeError, ValueError, ImportError) as error:
        raise BeirHybridError(f"a setting of the training is wrong: {error}") from error


def _trainer(encoder: DenseEncoder, args: HybridTrainingArguments, collection: MultilingualCollection) -> HybridTrainer:
    try:
        return HybridTrainer(encoder.model, args, collection, callbacks=[_CheckpointCallback()])
    except (ValueError, ImportError) as error:
        raise BeirHybridError(f"a setting of the training is wrong: {error}") from error


def _plan(
    encoder: DenseEncoder, trainer: HybridTrainer, collection: MultilingualCollection, output: Path, save_steps: int
) -> str:
    args, languages = trainer.args, collection.languages
    batches = len(trainer.get_train_dataloader())
    accumulated = args.gradient_accumulation_steps
    size = f"{args.train_batch_size} pairs" + (f", {accumulated} to a step" if accumulated > 1 else "")
    share = f" (alpha {args.alpha})" if args.batching == HYBRID else ""
    saved = f"every {save_steps} steps in {work_folder(output)}, the last {KEPT}" if save_steps else "none"
    return "\n".join(
        (
            f"model:       {encoder.name}, {encoder.precision} on {encoder.model.device.type}",
            f"data:        {collection.name}: {len(collection.items):,} parallel questions in {len(languages)} "
            f"languages ({', '.join(languages)}), SHA-256 {collection.digest[:16]}…",
            f"batches:     {batching_name(args.batching)}{share}, {size}, {batches:,} to an epoch, "
            f"seed {args.batch_seed}",
            f"steps:       {args.max_steps:,}, which makes {args.max_steps * accumulated / batches:.2f} epochs",
            f"checkpoints: {saved}",
            f"output:      {output}",
        )
    )


OPTION_NAMES = {
    "max_steps": "steps",
    "per_device_train_batch_size": "batch_size",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "scheduler",
}
"""What the command line calls some of the arguments."""


def option_name(argument: str) -> str:
    """What the command line calls the argument."""
    return OPTION_NAMES.get(argument, argument)
