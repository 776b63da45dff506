"""The setting grid as sentence-transformers' trainers want it: a score of the model, every so many steps."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from beir_hybrid.collections.collection import MultilingualCollection, Setting
from beir_hybrid.encoders.dense import DenseEncoder, Precision
from beir_hybrid.encoders.encoding import has_bf16_units
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.evaluation.grid import evaluate_grid
from beir_hybrid.evaluation.plan import Measures, plan_grid

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

_SELECTING = "AP"


class GridEvaluator(SentenceEvaluator):
    """Evaluates the model under training on every language setting of a development collection.

    Given to a trainer as `evaluator`, it adds `eval_<name>_mono_AP`, `eval_<name>_multi_RankDistance` and so on to the
    logs, and `eval_<name>_mean_AP`: the mean of AP over mono, cross and multi, as many of them as there are. With
    `load_best_model_at_end=True, metric_for_best_model="eval_<name>_mean_AP"` the training ends with the checkpoint
    that is best in all of them together. Where an output folder is given (a trainer gives its own), a line is added to
    `Grid_evaluation_<name>_results.csv` there.

    The figures are those of `evaluate_grid(DenseEncoder(model), collection)`: macro averages over the settings that are
    evaluated. Weights, prompts, modes and random states are left as they were.

    Args:
        collection: What to evaluate on; it should share no questions with the training data.
        measures: As in `evaluate_grid`; AP is always among them.
        settings: As in `evaluate_grid`. Averages are taken over these alone.
        query_prompt, passage_prompt: As in `DenseEncoder`: by default the model's own. A training with `prompts` of its
            own needs them here too.
        precision: `float32` or `bf16`; by default bf16 where the processor has units for it. Never tried out, as
            elsewhere: which is faster could be another at each checkpoint.
        batch_tokens: Tokens of a batch, padding included; by default what the device takes well.
        name: Goes into the names of the metrics; by default the collection's.
        write_csv: Whether to write the file.

    Raises:
        BeirHybridError: as `evaluate_grid`.
    """

    def __init__(
        self,
        collection: MultilingualCollection,
        *,
        measures: Measures | None = None,
        settings: Sequence[str] | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        precision: str | None = None,
        batch_tokens: int | None = None,
        name: str = "",
        write_csv: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # A lone string goes on as it is, and is refused with the reason.
        self.measures = measures if measures is None or isinstance(measures, str) else [_SELECTING, *measures]
        plan = plan_grid(collection, self.measures, settings)  # now, not after hours of training
        self.collection, self.settings = collection, settings
        self.query_prompt, self.passage_prompt = query_prompt, passage_prompt
        self.precision, self.batch_tokens = precision, batch_tokens
        self.name = name or collection.name
        self.write_csv = write_csv
        self._kinds: dict[str, list[Setting]] = {}
        for setting in plan.settings:
            self._kinds.setdefault(_kind(setting), []).append(setting)
        self._columns = [
            (kind, str(measure)) for kind, own in self._kinds.items() for measure in plan.measures[own[0].kind]
        ]
        self.primary_metric = f"{self.name}_mean_{_SELECTING}"
        self.csv_file = f"Grid_evaluation_{self.name.replace('/', '-')}_results.csv"
        self.csv_headers = ["epoch", "steps", *("_".join(column) for column in self._columns), f"mean_{_SELECTING}"]

    def __call__(  # type: ignore[override]  # only texts in, one vector a text out
        self, model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """The metrics of `model` now; `epoch` and `steps` say when, for the file and the model card."""
        metrics = self._metrics(self._results(model))
        if output_path is not None and self.write_csv:
            self._write(Path(output_path), [epoch, steps, *metrics.values()])
        named = {f"{self.name}_{key}": value for key, value in metrics.items()}
        logger.info("%s, epoch %s, step %s: mean AP %.4f", self.name, epoch, steps, metrics[f"mean_{_SELECTING}"])
        self.store_metrics_in_model_card_data(model, named, epoch, steps)  # type: ignore[arg-type]  # it takes any
        return named

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for the model card."""
        prompts = {"query_prompt": self.query_prompt, "passage_prompt": self.passage_prompt}
        return {key: value for key, value in prompts.items() if value is not None}

    def _results(self, model: SentenceTransformer) -> Results:
        prompts, modes = model.prompts, [(module, module.training) for module in model.modules()]
        try:
            encoder = DenseEncoder(
                model,
                query_prompt=self.query_prompt,
                passage_prompt=self.passage_prompt,
                precision=cast(Precision, self.precision or _precision(model)),
                batch_tokens=self.batch_tokens,
                progress=False,
            )
            return evaluate_grid(
                _Methods(encoder), self.collection, measures=self.measures, settings=self.settings, progress=False
            )
        finally:
            model.prompts = prompts
            for module, training in modes:  # one by one: part of a model may be kept in eval mode
                module.training = training

    def _metrics(self, results: Results) -> dict[str, float]:
        values = {(figure.setting, figure.measure): figure.value for figure in results.figures if not figure.average}
        metrics = {
            f"{kind}_{measure}": float(np.mean([values[str(setting), measure] for setting in self._kinds[kind]]))
            for kind, measure in self._columns
        }
        kinds = [kind for kind in self._kinds if kind in ("mono", "cross", "multi")] or list(self._kinds)
        metrics[f"mean_{_SELECTING}"] = float(np.mean([metrics[f"{kind}_{_SELECTING}"] for kind in kinds]))
        return metrics

    def _write(self, folder: Path, row: list[float]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.csv_file
        new = not path.is_file()
        if not new:
            with path.open(encoding="utf-8", newline="") as stream:
                if next(csv.reader(stream), None) != self.csv_headers:
                    logger.warning("%s has other columns than %s; a line without them follows.", path, self.csv_headers)
        with path.open("a", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if new:
                writer.writerow(self.csv_headers)
            writer.writerow(row)


class _Methods:
    """An encoder's two methods without its description: that hashes all weights, and tells of the model's past, which
    says nothing about the data that the trainer was given."""

    def __init__(self, encoder: DenseEncoder) -> None:
        self.encode_queries, self.encode_corpus = encoder.encode_queries, encoder.encode_corpus
        self.score_function = encoder.score_function


def _precision(model: SentenceTransformer) -> str:
    return "bf16" if has_bf16_units(model.device.type) else "float32"


def _kind(setting: Setting) -> str:
    """What its average is called, with `_` for `/`: a blend in the pool is another task than in one language."""
    if setting.kind == "blend":
        return "blend_multi" if setting.searched is None else "blend_mono"
    return setting.kind
