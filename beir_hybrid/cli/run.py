"""A training from its settings to a saved model, with checkpoints from which it goes on after it was stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers.trainer_callback import TrainerState

from beir_hybrid.cli.checkpoints import (
    KEPT,
    CheckpointCallback,
    begin,
    checkpoint_of,
    is_whole,
    step_of,
    training_folder,
    work_folder,
)
from beir_hybrid.cli.processes import Processes, refuse_several
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import DenseEncoder, weights_digest
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.during_training import GridEvaluator
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.files import atomic_folder
from beir_hybrid.training.mixing import HYBRID, batching_name
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

Data = MultilingualCollection | Sequence[ParallelPairs]
_NO_MATTER = (
    *("output_dir", "disable_tqdm", "save_steps", "save_total_limit", "report_to", "run_name", "project", "log_level"),
    *("logging_strategy", "logging_steps", "logging_first_step", "local_rank", "ddp_timeout"),
)
"""Arguments that do not change the model."""


def run_training(
    encoder: DenseEncoder,
    data: Data,
    output: Path,
    *,
    replace: bool = False,
    max_tokens: int | None = None,
    save_steps: int = 0,
    restart: bool = False,
    dev: MultilingualCollection | None = None,
    say: Callable[[str], object] = lambda _: None,
    processes: Processes | None = None,
    **arguments: Any,
) -> None:
    """Train the encoder's model in place and save it to `output`, whole or not at all.

    Args:
        data: A collection, or sources of pairs.
        replace: Whether a model that stands there may be replaced.
        max_tokens: Cut longer texts while training; the saved model keeps its own maximum.
        save_steps: Steps between checkpoints, which lie in `work_folder(output)` until the model is saved; the same
            call goes on from the last of them. 0: none.
        restart: Drop the checkpoints of an earlier training instead.
        dev: Evaluated at each checkpoint and at the end: the model saved is the one that was best.
        say: Is told, by the first process, what will be done before the training starts, and then what was the best.
        processes: Those that train together.
        arguments: HybridTrainingArguments'.

    Raises:
        BeirHybridError: the settings or the data are wrong, the folder cannot be written, another process trains to
            it, or its checkpoints are of another training.
    """
    if processes is None:
        refuse_several("this command")
        processes = Processes()
    output = output.resolve()
    sources = [ParallelPairs.from_collection(data)] if isinstance(data, MultilingualCollection) else list(data)
    run = _Run(encoder, sources, output, save_steps, dev, processes, encoder.model.max_seq_length)
    tell = say if processes.index == 0 else lambda _: None
    try:
        with contextlib.ExitStack() as stack:
            work = processes.first(lambda: stack.enter_context(training_folder(output, save_steps)))
            before = run.before(max_tokens)
            trainer = run.trainer(work, max_tokens, arguments)
            settings = {**before, **run.settings(trainer)}
            processes.check_equal(settings)
            checkpoint = processes.first(lambda: begin(work, settings, restart)) if save_steps else None
            tell(run.plan(trainer))
            if checkpoint is not None:
                tell(f"An earlier run of this training was stopped: going on after step {step_of(checkpoint)}.")
            _train(trainer, checkpoint)
            if dev is not None:
                tell(run.best(trainer, work))
            _cut_at(encoder.model, run.own_maximum)
            processes.wait()  # the others may still be reading the best checkpoint
            _save(trainer, output, replace, processes)
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        raise BeirHybridError(
            f"{output}: the model cannot be written ({error}). Nothing was left half written. Free space, or "
            "choose a folder that you may write to."
        ) from error


def _train(trainer: HybridTrainer, checkpoint: Path | None) -> None:
    if checkpoint is None or step_of(checkpoint) < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return
    # Stopped after the last step: the trainer would make one more.
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if trainer.state.best_global_step:
        checkpoint = checkpoint_of(checkpoint.parent, trainer.state.best_global_step)
    trainer._load_from_checkpoint(str(checkpoint))


def _save(trainer: HybridTrainer, output: Path, replace: bool, processes: Processes) -> None:
    def write() -> None:
        if whole is not None:
            with atomic_folder(output, replace=replace, new=not replace) as temporary:
                trainer.write_model(whole, str(temporary))

    with trainer.whole_model() as whole:
        processes.first(write)
    if trainer.args.push_to_hub:
        trainer.push_to_hub(commit_message="Model save", revision=trainer.args.hub_revision)


def _cut_at(model: SentenceTransformer, tokens: int | None) -> None:
    """Cut longer texts from now on. A model of word vectors has no maximum, and cannot be given one."""
    if model.max_seq_length != tokens:
        try:
            model.max_seq_length = tokens
        except AttributeError:
            raise BeirHybridError("this model reads whole texts, however long; leave --max-tokens out.") from None


def tokenizer_digest(model: SentenceTransformer) -> str:
    """SHA-256 of the tokenizer; how it pads and cuts is left out, which changes with each use."""
    tokenizer = model.tokenizer
    if getattr(tokenizer, "is_fast", False):
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content = {name: value for name, value in content.items() if name not in ("padding", "truncation")}
    else:
        content = {"class": type(tokenizer).__name__, "vocabulary": sorted(tokenizer.get_vocab().items())}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


class _Dev(GridEvaluator):
    """The grid of a development collection, on texts as long as the saved model will take them."""

    def __init__(self, encoder: DenseEncoder, collection: MultilingualCollection, max_tokens: int | None) -> None:
        super().__init__(
            collection,
            query_prompt=encoder.query_prompt,
            passage_prompt=encoder.passage_prompt,
            precision=encoder.precision,
            write_csv=False,  # a run that goes on would write its lines twice
        )
        self.max_tokens = max_tokens

    def _results(self, model: SentenceTransformer) -> Results:
        in_training = model.max_seq_length
        _cut_at(model, self.max_tokens)
        try:
            return super()._results(model)
        finally:
            _cut_at(model, in_training)


@dataclass(frozen=True)
class _Run:
    """What a training is made of; `own_maximum` is the model's, in tokens."""

    encoder: DenseEncoder
    sources: Sequence[ParallelPairs]
    output: Path
    save_steps: int
    dev: MultilingualCollection | None
    processes: Processes
    own_maximum: int | None

    def before(self, max_tokens: int | None) -> dict[str, Any]:
        """What is to be said of the model that goes in, before anything changes it."""
        found: dict[str, Any] = {"processes": self.processes.count}
        found |= {"max_seq_length": self.own_maximum, "max_tokens": max_tokens}
        if self.save_steps or self.processes.count > 1:
            found |= {"model": weights_digest(self.encoder.model), "tokenizer": tokenizer_digest(self.encoder.model)}
        return found

    def trainer(self, work: Path, max_tokens: int | None, arguments: Mapping[str, Any]) -> HybridTrainer:
        """The trainer, with the model made ready."""
        model = self.encoder.model
        evaluator = None if self.dev is None else _Dev(self.encoder, self.dev, self.own_maximum)
        args = self._arguments(work, evaluator, arguments)
        if max_tokens is not None:
            _cut_at(model, min(max_tokens, self.own_maximum or max_tokens))
        data: Any = self.sources[0] if len(self.sources) == 1 else list(self.sources)
        callback = CheckpointCallback(self.processes, keeps_best=self.dev is not None)
        try:
            trainer = HybridTrainer(model, args, data, callbacks=[callback], evaluator=evaluator)
        except (ValueError, ImportError) as error:
            raise BeirHybridError(f"a setting of the training is wrong: {error}") from error
        if trainer.is_deepspeed_enabled:
            raise BeirHybridError("DeepSpeed is not supported; leave it out, or use --set fsdp=true.")
        return trainer

    def _arguments(self, work: Path, evaluator: _Dev | None, arguments: Mapping[str, Any]) -> HybridTrainingArguments:
        device = self.encoder.model.device.type
        given: dict[str, Any] = {
            "save_strategy": "no",
            "bf16": self.encoder.precision == "bf16",
            "use_cpu": device == "cpu",
            "dataloader_pin_memory": device == "cuda",
            "disable_tqdm": not sys.stderr.isatty(),
            **arguments,
        }
        if self.save_steps:
            given |= {"save_strategy": "steps", "save_steps": self.save_steps}
        if evaluator is not None:
            given |= {"eval_strategy": "steps", "eval_steps": self.save_steps, "load_best_model_at_end": True}
            given |= {"metric_for_best_model": f"eval_{evaluator.primary_metric}", "greater_is_better": True}
        try:
            return HybridTrainingArguments(output_dir=str(work), **given)
        except (TypeError, ValueError, ImportError) as error:
            raise BeirHybridError(f"a setting of the training is wrong: {error}") from error

    def settings(self, trainer: HybridTrainer) -> dict[str, Any]:
        """All that decides what model comes out, but for the model that goes in."""
        arguments = trainer.args.to_dict()  # type: ignore[no-untyped-call]
        settings = {
            "data": "; ".join(f"{pairs.source} in {', '.join(pairs.languages)}" for pairs in self.sources),
            "data_digest": " ".join(pairs.digest for pairs in self.sources),
            "dev": self.dev.name if self.dev else None,
            "dev_digest": self.dev.digest if self.dev else None,
            "query_prompt": self.encoder.query_prompt,
            "passage_prompt": self.encoder.passage_prompt,
            "precision": self.encoder.precision,
            "device": self.encoder.model.device.type,
            **{name: value for name, value in arguments.items() if name not in _NO_MATTER},
        }
        return dict(json.loads(json.dumps(settings, default=str)))

    def plan(self, trainer: HybridTrainer) -> str:
        """What will be done."""
        args, encoder, count = trainer.args, self.encoder, self.processes.count
        batches = len(trainer.get_train_dataloader())
        accumulated = args.gradient_accumulation_steps
        size = f"{args.train_batch_size} pairs" + (f" in each of {count} processes" if count > 1 else "")
        size += f", {accumulated} to a step" if accumulated > 1 else ""
        share = f" (alpha {args.alpha})" if args.batching == HYBRID else ""
        best = ", and the best" if self.dev else ""
        work = work_folder(self.output)
        lines = [
            f"model:       {encoder.name}, {encoder.precision} on {encoder.model.device.type}",
            *(f"data:        {_described(pairs)}" for pairs in self.sources),
            f"batches:     {batching_name(args.batching)}{share}, {size}, {batches:,} to an epoch, "
            f"seed {args.batch_seed}",
            f"steps:       {args.max_steps:,}, which makes {args.max_steps * accumulated / batches:.2f} epochs",
            f"checkpoints: every {self.save_steps} steps in {work}, the last {KEPT}{best}"
            if self.save_steps
            else "checkpoints: none",
            f"output:      {self.output}",
        ]
        if trainer.is_fsdp_enabled:
            lines.insert(-2, f"sharding:    FSDP 2, each of {count} processes keeps its part of the model")
        if self.dev is not None:
            lines.insert(-1, f"dev:         {self.dev.name} at each checkpoint; the best by AP becomes the model")
        return "\n".join(lines)

    def best(self, trainer: HybridTrainer, work: Path) -> str:
        """Which step was the best.

        Raises:
            BeirHybridError: its checkpoint is no longer there, so that the model is another.
        """
        state = trainer.state
        if not state.best_global_step or not is_whole(checkpoint := checkpoint_of(work, state.best_global_step)):
            raise BeirHybridError(
                f"{work}: the checkpoint of the best step ({state.best_global_step}) is damaged or gone; train anew "
                "with --restart."
            )
        state.best_model_checkpoint = checkpoint.name  # for the record: the folder is about to be removed
        name = self.dev.name if self.dev else ""
        return f"best: step {state.best_global_step} of {state.max_steps}, mean AP {state.best_metric:.4f} on {name}"


def _described(pairs: ParallelPairs) -> str:
    return (
        f"{pairs.source}: {len(pairs):,} parallel questions in {len(pairs.languages)} languages "
        f"({', '.join(pairs.languages)}), SHA-256 {pairs.digest[:16]}…"
    )
