"""Hybrid batch training and evaluation of multilingual retrievers, for BEIR and Pyserini.

The names are imported when they are first used: `import beir_hybrid` is fast, needs no torch, and touches no file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.version import __version__

if TYPE_CHECKING:
    from beir_hybrid.anserini.exporting.export import export_pyserini
    from beir_hybrid.anserini.homes.faiss_file import write_faiss
    from beir_hybrid.anserini.homes.hub import write_hub
    from beir_hybrid.anserini.query_encoder import PyseriniQueryEncoder
    from beir_hybrid.anserini.reading import read_vectors
    from beir_hybrid.anserini.verifying.verify import verify_export
    from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection, Setting, SettingView
    from beir_hybrid.collections.formats.beir_export import load_beir, prepare_beir
    from beir_hybrid.collections.registry import available, load, load_collection, load_setting
    from beir_hybrid.collections.spec import CollectionSpec, Request
    from beir_hybrid.encoders.dense import DenseEncoder
    from beir_hybrid.encoders.store import EmbeddingStore
    from beir_hybrid.evaluation.comparing.comparison import compare
    from beir_hybrid.evaluation.during_training import GridEvaluator
    from beir_hybrid.evaluation.from_runs import evaluate_runs
    from beir_hybrid.evaluation.grid import evaluate_grid
    from beir_hybrid.evaluation.measures import AWRF, MRC, LanguageRecall, LareqaAP, RankDistance
    from beir_hybrid.registration import register
    from beir_hybrid.retrieval.beir import HybridExactSearch
    from beir_hybrid.retrieval.runs import Run
    from beir_hybrid.training.arguments import HybridTrainingArguments
    from beir_hybrid.training.batching import HybridBatchSampler
    from beir_hybrid.training.pairs import ParallelPairs
    from beir_hybrid.training.sources import read_hub, read_ir_datasets, read_pairs, read_parallel_text
    from beir_hybrid.training.trainer import HybridTrainer

_HOMES = {
    "AWRF": "evaluation.measures",
    "CollectionInfo": "collections.collection",
    "CollectionSpec": "collections.spec",
    "DenseEncoder": "encoders.dense",
    "EmbeddingStore": "encoders.store",
    "GridEvaluator": "evaluation.during_training",
    "HybridBatchSampler": "training.batching",
    "HybridExactSearch": "retrieval.beir",
    "HybridTrainer": "training.trainer",
    "HybridTrainingArguments": "training.arguments",
    "MultilingualCollection": "collections.collection",
    "ParallelPairs": "training.pairs",
    "PyseriniQueryEncoder": "anserini.query_encoder",
    "LanguageRecall": "evaluation.measures",
    "LareqaAP": "evaluation.measures",
    "MRC": "evaluation.measures",
    "Request": "collections.spec",
    "Run": "retrieval.runs",
    "RankDistance": "evaluation.measures",
    "Setting": "collections.collection",
    "SettingView": "collections.collection",
    "available": "collections.registry",
    "compare": "evaluation.comparing.comparison",
    "evaluate_grid": "evaluation.grid",
    "evaluate_runs": "evaluation.from_runs",
    "export_pyserini": "anserini.exporting.export",
    "load": "collections.registry",
    "load_beir": "collections.formats.beir_export",
    "load_collection": "collections.registry",
    "load_setting": "collections.registry",
    "prepare_beir": "collections.formats.beir_export",
    "read_hub": "training.sources.hub",
    "read_ir_datasets": "training.sources.irds",
    "read_pairs": "training.sources.pair_files",
    "read_parallel_text": "training.sources.parallel_text",
    "read_vectors": "anserini.reading",
    "register": "registration",
    "verify_export": "anserini.verifying.verify",
    "write_faiss": "anserini.homes.faiss_file",
    "write_hub": "anserini.homes.hub",
}

__all__ = [
    "AWRF",
    "MRC",
    "BeirHybridError",
    "CollectionInfo",
    "CollectionSpec",
    "DenseEncoder",
    "EmbeddingStore",
    "GridEvaluator",
    "HybridBatchSampler",
    "HybridExactSearch",
    "HybridTrainer",
    "HybridTrainingArguments",
    "LanguageRecall",
    "LareqaAP",
    "MultilingualCollection",
    "ParallelPairs",
    "PyseriniQueryEncoder",
    "RankDistance",
    "Request",
    "Run",
    "Setting",
    "SettingView",
    "__version__",
    "available",
    "compare",
    "evaluate_grid",
    "evaluate_runs",
    "export_pyserini",
    "load",
    "load_beir",
    "load_collection",
    "load_setting",
    "prepare_beir",
    "read_hub",
    "read_ir_datasets",
    "read_pairs",
    "read_parallel_text",
    "read_vectors",
    "register",
    "verify_export",
    "write_faiss",
    "write_hub",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
