"""The record beside a trained model: what it was trained on, how, with what, and on which batches."""

from __future__ import annotations

import math
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from sentence_transformers.base.model_card import get_losses
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardCallback

from beir_hybrid.training.mixing import HYBRID, batching_name
from beir_hybrid.training.rows import PairDataset, as_dataset

if TYPE_CHECKING:
    from beir_hybrid.training.trainer import HybridTrainer

RECORD = "hybrid_training.json"
_PACKAGES = ("beir_hybrid", "torch", "transformers", "sentence-transformers", "accelerate", "numpy")


def training_record(trainer: HybridTrainer) -> dict[str, Any]:
    """What `hybrid_training.json` holds, as of the trainer's current step.

    `composition` counts the global steps so far, epoch after epoch: with gradient accumulation there are several of
    them to an optimiser step. Its `settings` are the settings of the batches as probabilities.
    """
    args, state = trainer.args, trainer.state
    longest = getattr(trainer.model, "max_seq_length", None)
    sources = []
    for part, data in (("train", trainer.train_dataset), ("eval", trainer.eval_dataset)):
        if dataset := as_dataset(data, part):
            for pairs in dataset.pairs.parts:
                about = {"part": part, "name": pairs.source, "digest": pairs.digest, "items": len(pairs)}
                sources.append({**about, "languages": list(pairs.languages)})
    return {
        "sources": sources,
        "batching": batching_name(args.batching),
        "alpha": args.alpha,
        "alpha_schedule": args.alpha_schedule,
        "language_weights": args.language_weights,
        "source_weights": args.source_weights,
        "pairs": args.pairs,
        "pair_per": args.pair_per,
        "repeat_items": args.repeat_items,
        "length_bucketing": args.length_bucketing,
        "hard_negatives": args.hard_negatives,
        "loss": type(trainer.loss).__name__,
        "temperature": getattr(trainer.loss, "temperature", None),
        "symmetric": getattr(trainer.loss, "symmetric", None),
        "negatives": getattr(trainer.loss, "negatives", None),
        "mini_batch_size": getattr(trainer.loss, "mini_batch_size", None),
        "gather_across_devices": getattr(trainer.loss, "gather_across_devices", None),
        "freeze_embeddings": args.freeze_embeddings,
        "dropout": args.dropout,
        "prompts": getattr(trainer.data_collator, "prompts", None),
        "max_seq_length": None if longest == math.inf else longest,  # JSON has no infinity
        "seed": args.seed,
        "batch_seed": args.batch_seed,
        "batch_size": args.train_batch_size,
        "processes": trainer.accelerator.num_processes,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "fsdp": args.fsdp_config if args.fsdp else None,
        "precision": trainer.accelerator.mixed_precision,
        "device": trainer.accelerator.device.type,
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        "warmup_steps": args.warmup_steps,
        "lr_scheduler": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
        "steps": state.global_step,
        "max_steps": state.max_steps,
        "epoch": state.epoch,
        "best_checkpoint": state.best_model_checkpoint,
        "best_metric": state.best_metric,
        "composition": _composition(trainer),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


class HybridModelCardCallback(SentenceTransformerModelCardCallback):
    """The parent's model card, which reads its facts from a datasets.Dataset, told the same facts about parallel pairs.

    Beside them stand the digests of the data and, from the first save on, the batches drawn so far. The widget's
    examples are left out: they are similarities computed by the untrained model.
    """

    trainer: HybridTrainer | None = None

    def on_init_end(  # type: ignore[override]  # as the parent does
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any,
        trainer: HybridTrainer,
        **kwargs: Any,
    ) -> None:
        """Fill in the card of `model`."""
        self.trainer = trainer
        card = model.model_card_data
        # A model from the hub has its base named since it was loaded. For one from a folder the parent would ask the
        # hub about every name that can be made of the folder's: not from a training.
        card.local_files_only = True
        card.add_tags("generated_from_trainer")
        card.set_losses(get_losses(trainer.loss))
        batches = batching_name(args.batching)
        if args.batching == HYBRID:
            schedule = args.alpha_schedule
            to = f" to {schedule['end']}" if isinstance(schedule, dict) and "end" in schedule else ""
            batches += f" with {'adaptive ' if schedule and not to else ''}alpha {args.alpha}{to}"
        for part in ("train", "eval"):
            dataset = as_dataset(getattr(trainer, f"{part}_dataset"), part)
            if dataset is None:
                continue
            every = []
            for pairs in dataset.pairs.parts:
                name = f"{pairs.source} ({len(pairs.languages)} languages, {batches} batches)"
                own = PairDataset(pairs, dataset.negatives if pairs.negatives else 0)
                every.append(card.compute_dataset_metrics(own, {"name": name, "size": len(pairs)}, trainer.loss))
                _add_lines(every[-1], [f"SHA-256 of the data: `{pairs.digest}`"])
            setattr(card, f"{part}_datasets", every)
            if part == "train":
                card.ir_model = True
                card.add_tags(f"dataset_size:{len(dataset)}")
                if not card.language:
                    card.set_language(list(dataset.pairs.languages))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the card up to date before a checkpoint takes it along."""
        if control.should_save:
            self._tell_composition()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the card up to date before a checkpoint takes it along."""
        if control.should_save:
            self._tell_composition()

    def on_evaluate(self, args: Any, state: Any, control: Any, *rest: Any, **kwargs: Any) -> None:
        """As the parent; the best checkpoint is saved after an evaluation, and takes the card along."""
        super().on_evaluate(args, state, control, *rest, **kwargs)
        self._tell_composition()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring the card up to date before the model is saved."""
        self._tell_composition()

    def _tell_composition(self) -> None:
        trainer = self.trainer
        composition = _composition(trainer) if trainer else None
        if trainer is None or not composition or not composition["steps"]:
            return
        # After the first source, for all of them.
        facts = trainer.model.model_card_data.train_datasets[0]
        digest = as_dataset(trainer.train_dataset, "train_dataset").pairs.parts[0].digest  # type: ignore[union-attr]
        lines = [f"SHA-256 of the data: `{digest}`", f"Batches: {composition['steps']:,}, {composition['rows']:,} rows"]
        for name, title in (
            ("kinds", "Batches of each kind"),
            ("languages", "Batches in one language"),
            ("sources", "Batches of each source"),
        ):
            if counts := composition[name]:
                lines.append(f"{title}: {', '.join(f'{key} {count:,}' for key, count in counts.items())}")
        _add_lines(facts, [*lines, f"Rows of each pair of languages, settings and versions: `{RECORD}`"])


def _composition(trainer: HybridTrainer) -> dict[str, Any] | None:
    """What the batches of the current or last training were made of; none before there was one."""
    if trainer.train_sampler is None:
        return None
    # The epoch moves on by whole batches, so this is exact, also where the last accumulation was cut short.
    return trainer.train_sampler.composition(round((trainer.state.epoch or 0) * trainer.train_sampler.steps))


def _add_lines(facts: dict[str, Any], lines: list[str]) -> None:
    """Put lines into a data set's list of facts, in place of those put there before.

    The card's template has no place for more facts: they follow the names of the columns, which end a line of the list.
    """
    *others, last = facts["columns"]
    facts["columns"] = [*others, "\n* ".join([last.split("\n")[0], *lines])]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None
