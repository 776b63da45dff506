"""HybridTrainer: sentence-transformers' trainer, on parallel pairs in hybrid batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.encoders.dense import keep_prompts, model_name, retrieval_prompts
from beir_hybrid.encoders.tokenised import token_counts
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import read_json, write_json
from beir_hybrid.training.arguments import HybridTrainingArguments as HybridTrainingArguments
from beir_hybrid.training.batching import HybridBatchSampler
from beir_hybrid.training.joined import JoinedPairs
from beir_hybrid.training.lengths import Measure
from beir_hybrid.training.loss import HybridInfoNCELoss
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.record import RECORD, HybridModelCardCallback, training_record
from beir_hybrid.training.rows import HybridDataCollator, PairDataset, as_dataset, training_prompts
from beir_hybrid.training.schedule import AdaptiveAlpha, read_schedule
from beir_hybrid.training.sharding import ShardingTrainer

TrainingData = (
    ParallelPairs
    | MultilingualCollection
    | JoinedPairs
    | Sequence[ParallelPairs | MultilingualCollection]
    | PairDataset
)
"""What HybridTrainer trains on: one source, or several."""
_ADAPTIVE_STATE = "alpha.json"
_COUNTED = 500_000
"""Passages, at most, whose tokens are counted; of more, lengths are guessed from their characters."""


class HybridTrainer(ShardingTrainer):
    """A SentenceTransformerTrainer whose training (and held-out) data are parallel pairs.

    Callbacks, evaluators, saving, resuming, mixed precision and torchrun are sentence-transformers' own. Beside every
    saved model stands `hybrid_training.json`: data, settings, versions, and of what batches the training was made.

    Args:
        model: The model to train.
        args: The settings.
        train_dataset: Pairs, or a collection, of which all pairs are taken; or a list of them.
        eval_dataset: The same for the held-out loss: always the same batches, of the training's mixture.
        loss: Defaults to HybridInfoNCELoss.
        others: SentenceTransformerTrainer's.

    Raises:
        BeirHybridError: the data are of another type, or the batches cannot be drawn from them; while training, the
            loss is not finite.
    """

    training_args_class = HybridTrainingArguments
    data_collator_class = HybridDataCollator
    model_card_callback_class = HybridModelCardCallback
    args: HybridTrainingArguments
    train_sampler: HybridBatchSampler | None = None  # of the current or last `train()`

    def __init__(
        self,
        model: SentenceTransformer | None = None,
        args: HybridTrainingArguments | None = None,
        train_dataset: TrainingData | None = None,
        eval_dataset: TrainingData | None = None,
        loss: Any = None,
        **others: Any,
    ) -> None:
        self._kind_losses: dict[str, list[Tensor]] = {}
        self._resumed_state: dict[str, Any] | None = None
        args = args or HybridTrainingArguments(output_dir="tmp_trainer")
        if model is not None:
            _prepare(model, args)
        training = as_dataset(train_dataset, "train_dataset", args.hard_negatives)
        held_out = as_dataset(eval_dataset, "eval_dataset", args.hard_negatives)
        super().__init__(
            model=model,
            args=args,
            train_dataset=cast(Any, training),
            eval_dataset=cast(Any, held_out),
            loss=loss,
            **others,
        )
        # Now rather than in the first step: what is wrong with the data or the settings is said before anything starts.
        for dataset, size in ((training, args.train_batch_size), (held_out, args.eval_batch_size)):
            if dataset:
                self._sampler(dataset, size, training=dataset is training)
        self.add_callback(_HybridCallback(self))

    # What sentence-transformers asks its subclasses to say.

    def get_default_loss(self, model: Any) -> nn.Module:
        return HybridInfoNCELoss(model, **self.args.loss_settings)

    def call_model_init(self, trial: Any = None) -> Any:
        model = cast(SentenceTransformer, super().call_model_init(trial))
        _prepare(model, self.args)
        return model

    def get_data_collator(self, model: Any, args: Any, processing_class: Any = None) -> HybridDataCollator:
        collator = cast(HybridDataCollator, super().get_data_collator(model, args, processing_class))
        # As an encoder of this family would be evaluated, where nothing is said; and in the model too: whoever loads
        # what is saved must put the same before its texts.
        own = retrieval_prompts(model, model_name(model))
        collator.prompts = training_prompts(args.prompts, own)
        keep_prompts(model, collator.prompts.get("query", ""), collator.prompts.get("passage", ""))
        return collator

    def preprocess_dataset(self, dataset: Any = None, dataset_name: str | None = None) -> Any:
        return as_dataset(dataset, f"{dataset_name}_dataset", self.args.hard_negatives)

    def get_train_dataloader(self) -> DataLoader[Any]:
        dataset = as_dataset(self.train_dataset, "train_dataset", self.args.hard_negatives)
        if dataset is None:
            raise BeirHybridError("there is nothing to train on: give HybridTrainer a train_dataset.")
        self.train_sampler = self._sampler(dataset, self.args.train_batch_size)
        if self._adaptive is not None and self._resumed_state is not None:
            self._adaptive.load(self._resumed_state)
        loader = self._train_dataloader = self._loader(dataset, self.train_sampler)
        return loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        dataset = as_dataset(data, "eval_dataset", self.args.hard_negatives)
        if dataset is None:  # an evaluator alone
            # Not the parent's: it would draw from the random numbers of the training.
            empty: DataLoader[Any] = DataLoader(cast(Any, []), generator=torch.Generator())
            return cast("DataLoader[Any]", self.accelerator.prepare(empty))
        return self._loader(dataset, self._sampler(dataset, self.args.eval_batch_size, training=False))

    def _sampler(self, dataset: PairDataset, batch_size: int, training: bool = True) -> HybridBatchSampler:
        args = self.args
        if self.accelerator.split_batches:
            raise BeirHybridError(
                "accelerator_config asks for split_batches; batches are drawn a process: leave it off."
            )
        settings: dict[str, Any] = {
            "batching": args.batching,
            "alpha": args.alpha,
            "seed": args.batch_seed,
            "world_size": self.accelerator.num_processes,
            "language_weights": args.language_weights,
            "source_weights": args.source_weights if training else "proportional",  # by name, and these are others
            "language_pairs": args.pairs,
            "pair_per": args.pair_per,
            "length_bucketing": args.length_bucketing and self._measure(dataset.pairs),
            "repeat_items": args.repeat_items,
        }
        if not training:
            return _FixedSampler(dataset.pairs, batch_size, **settings)
        if not isinstance(args.alpha_schedule, dict) or "end" not in args.alpha_schedule:
            self._check_lookahead()
            return HybridBatchSampler(dataset.pairs, batch_size, alpha_schedule=args.alpha_schedule, **settings)
        settings["total_steps"] = _global_steps(args, HybridBatchSampler(dataset.pairs, batch_size, **settings).steps)
        return HybridBatchSampler(dataset.pairs, batch_size, alpha_schedule=args.alpha_schedule, **settings)

    def _measure(self, pairs: JoinedPairs) -> bool | Measure:
        """How lengths are told: by the model's tokens, where those of all passages are counted within a minute."""
        tokenizer = getattr(self.model, "tokenizer", None)
        if len(pairs) * len(pairs.languages) > _COUNTED or not getattr(tokenizer, "is_fast", False):
            return True
        return partial(token_counts, self.model)

    @property
    def _adaptive(self) -> AdaptiveAlpha | None:
        schedule = self.train_sampler.schedule if self.train_sampler else None
        return schedule if isinstance(schedule, AdaptiveAlpha) else None

    def _check_lookahead(self) -> None:
        """Whether an adaptive alpha is known by the time that the loader draws with it."""
        schedule = read_schedule(self.args.alpha_schedule, self.args.batching, self.args.alpha, None)
        if isinstance(schedule, AdaptiveAlpha):
            ahead = self.args.dataloader_num_workers * (self.args.dataloader_prefetch_factor or 2)
            ahead += self.args.gradient_accumulation_steps + 1
            if schedule.every <= ahead:
                raise BeirHybridError(
                    f"alpha_schedule: an adaptive alpha that changes every {schedule.every} steps is not known yet "
                    f"when the loader draws {ahead} batches ahead; let it change every {ahead + 1} steps or more."
                )

    def _loader(self, dataset: PairDataset, sampler: HybridBatchSampler) -> DataLoader[Any]:
        args = self.args
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )
        # Every process gets the same number of full batches already; padding would repeat rows.
        self.accelerator.even_batches = False
        return cast("DataLoader[Any]", self.accelerator.prepare(loader))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        kind = inputs.pop("batch_kind", "unknown")
        result: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = (result[0] if return_outputs else result).detach()
        if not torch.isfinite(loss):
            where = f"step {self.state.global_step + 1}" if model.training else "evaluation"
            raise BeirHybridError(
                f"{where}, a {kind} batch: the loss is {loss.item()}. Training on would ruin the model. Start "
                "anew (--restart) with a lower learning_rate or a higher temperature, or without fp16."
            )
        if model.training:
            self._kind_losses.setdefault(kind, []).append(loss)
            if self._adaptive is not None:
                # Of all processes: they must come to the same alpha.
                self._adaptive.add(kind, float(self.accelerator.reduce(loss.double(), "mean")))
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            for kind, losses in sorted(self._kind_losses.items()):
                logs[f"loss/{kind}"] = round(torch.stack(losses).mean().item(), 4)
            self._kind_losses.clear()
        super().log(logs, start_time)

    def write_model(self, model: SentenceTransformer, folder: str | None = None) -> None:
        super().write_model(model, folder)
        self.write_record(folder)

    def write_record(self, folder: str | None = None) -> None:
        """Write `hybrid_training.json` into `folder` (the output folder when not given), on one process."""
        if self.is_world_process_zero() and self.train_dataset is not None:
            write_json(Path(folder or str(self.args.output_dir)) / RECORD, training_record(self))

    def write_alpha(self, folder: Path) -> None:
        """Write what an adaptive alpha has learnt into a checkpoint, on one process."""
        if self._adaptive is not None and self.is_world_process_zero():
            write_json(folder / _ADAPTIVE_STATE, self._adaptive.state())

    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(checkpoint_path, model)
        path = Path(checkpoint_path) / _ADAPTIVE_STATE
        if path.is_file():
            self._resumed_state = read_json(path, "the state of an adaptive alpha")


def _prepare(model: SentenceTransformer, args: HybridTrainingArguments) -> None:
    if args.freeze_embeddings:
        freeze_embeddings(model)
    if args.dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = args.dropout


def freeze_embeddings(model: SentenceTransformer) -> None:
    """Take the word embeddings out of training.

    Raises:
        BeirHybridError: there is no transformer in the model.
    """
    encoder = model.transformers_model
    if encoder is None:
        raise BeirHybridError("freeze_embeddings needs a model with a transformer inside, and this one has none.")
    encoder.get_input_embeddings().requires_grad_(False)


def _global_steps(args: HybridTrainingArguments, epoch: int) -> int:
    """The batches a process sees in the whole run, `epoch` of them in an epoch, as the parent counts its steps."""
    accumulate = args.gradient_accumulation_steps
    updates = max(math.ceil(epoch / accumulate), 1)  # the last of an epoch may have fewer batches
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * updates)
    whole, rest = divmod(steps, updates)
    return max(whole * epoch + min(rest * accumulate, epoch), 1)


class _HybridCallback(TrainerCallback):
    """Keeps the sampler on the trainer's epoch, and the record beside what was saved."""

    def __init__(self, trainer: HybridTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A resumed run wraps the batches it skips in a sampler that set_epoch does not reach through (under DDP): the
        # run would go on with another epoch's batches.
        if self.trainer.train_sampler is not None:
            self.trainer.train_sampler.set_epoch(math.floor(state.epoch or 0))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.write_record()
        self.trainer.write_alpha(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.write_record()


class _FixedSampler(HybridBatchSampler):
    """The batches of the first epoch, whatever epoch a data loader asks for: held-out losses can be compared."""

    def set_epoch(self, epoch: int) -> None:
        pass
