"""HybridTrainingArguments: sentence-transformers' training arguments, with those of the batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

from sentence_transformers import SentenceTransformerTrainingArguments

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.loss import EXPLICIT_ONLY, IN_BATCH, check_settings
from beir_hybrid.training.mixing import HYBRID, check_pairs, check_shares, mixture
from beir_hybrid.training.schedule import check_schedule
from beir_hybrid.training.sharding import check_config


@dataclass
class HybridTrainingArguments(SentenceTransformerTrainingArguments):
    """sentence-transformers' training arguments, with the batching; all others keep their meaning.

    Args:
        batching: `hybrid`, `x-x-mono`, `x-y`, `x-x` or `en-en`; or the weight of each kind of batch, such as
            {"x-x-mono": 0.4, "x-y": 0.4, "en-en": 0.2}.
        alpha: Share of X-X-mono batches in `hybrid`, 0 to 1.
        alpha_schedule: None; {"end": x}: alpha goes in a line to x over the steps of the run; or `adaptive`, towards
            equal losses of both kinds of batches, see AdaptiveAlpha. Held-out batches stay at `alpha`.
        language_weights: How X-X-mono draws its language: `uniform`, `proportional` (to the items of the language), a
            temperature T above 0 (proportional to N^(1/T)), or the weight of every language, 0 to leave it out.
        source_weights: How a step draws one of several sources, in the same words.
        pairs: The ordered (question, passage) languages of X-Y rows: `all`, `pivot:en` (English on one side), or the
            weight of each pair, such as {"en-de": 2.0, "de-en": 1.0}.
        pair_per: `row`, or `batch` for X-Y batches of one pair each; see HybridBatchSampler.
        repeat_items: Use items again rather than move a step to another language or source; see HybridBatchSampler.
        length_bucketing: Passages of like length share a batch: fewer padded tokens, and harder or easier batches.
        hard_negatives: How many explicit negatives each row has, where the pairs have any.
        temperature, symmetric, negatives, mini_batch_size, gather_across_devices: Of the default loss,
            HybridInfoNCELoss.
        freeze_embeddings: Leave the word embeddings as they are: most of a multilingual model's parameters, which then
            need no gradient and no optimiser state. The model given to the trainer is changed so, and stays so.
        dropout: Set every dropout of the model to this while training; None leaves the model's own.
        prompts: One string for both sides, or {"query": ..., "passage": ...} ("document" is the same as "passage");
            when not given, the model's own prompts of these names.
        per_device_eval_batch_size: Also decides how hard the held-out loss is, since negatives come from the batch.
        fsdp: True: each process keeps only its part of the model (FSDP 2), as accelerate and torch do it, on CPUs too.
        fsdp_config: Further settings for it, by their names in transformers.
        seed, data_seed: The batches are drawn from `data_seed`, or `seed` where that is not given.

    Raises:
        BeirHybridError: a value out of its range.
    """

    batching: str | dict[str, float] = HYBRID
    alpha: float = 0.5
    alpha_schedule: str | dict[str, Any] | None = None
    language_weights: str | float | dict[str, float] = "uniform"
    source_weights: str | float | dict[str, float] = "proportional"
    pairs: str | dict[str, float] = "all"
    pair_per: str = "row"
    repeat_items: bool = False
    length_bucketing: bool = False
    hard_negatives: int = 0
    temperature: float = 0.02
    symmetric: bool = False
    negatives: str = IN_BATCH
    mini_batch_size: int | None = None
    gather_across_devices: bool = False
    freeze_embeddings: bool = False
    dropout: float | None = None
    learning_rate: float = 3e-5
    weight_decay: float = 1e-2
    per_device_train_batch_size: int = 32
    per_device_eval_batch_size: int = 32
    logging_steps: float = 10
    report_to: str | list[str] | None = "none"
    fsdp: bool | str | list[str] | None = None  # type: ignore[assignment]  # what it may be, and not as it is declared

    def __post_init__(self) -> None:
        mixture(self.batching, self.alpha)
        check_schedule(self.alpha_schedule, self.batching, self.alpha)
        check_shares("language", self.language_weights)
        check_shares("source", self.source_weights)
        check_pairs(self.pairs, self.pair_per)
        if self.language_weights == math.inf:  # which is no JSON
            self.language_weights = "uniform"
        if self.source_weights == math.inf:
            self.source_weights = "uniform"
        if self.hard_negatives < 0 or (self.negatives == EXPLICIT_ONLY and self.hard_negatives < 1):
            raise BeirHybridError(
                f"hard_negatives is {self.hard_negatives}; it starts at 0, and at 1 where negatives is "
                f"{EXPLICIT_ONLY!r}."
            )
        check_settings(**self.loss_settings)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise BeirHybridError(f"dropout is {self.dropout}; it must be at least 0 and below 1.")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BeirHybridError(f"{name} is {getattr(self, name)}; expected a number from 0 up.")
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise BeirHybridError(f"{name} is {value}; seeds start at 0.")
        super().__post_init__()  # type: ignore[no-untyped-call]
        if self.fsdp:
            check_config(cast("dict[str, Any]", self.fsdp_config))

    @property
    def loss_settings(self) -> dict[str, Any]:
        """The settings of the default loss, by the names of its parameters."""
        names = ("temperature", "symmetric", "negatives", "mini_batch_size", "gather_across_devices")
        return {name: getattr(self, name) for name in names}

    @property
    def batch_seed(self) -> int:
        """The seed of the batches."""
        return int(self.seed if self.data_seed is None else self.data_seed)
