"""beir-hybrid evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beir_hybrid.cli import options
from beir_hybrid.cli.given_vectors import GivenVectors, vectors_call
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import check_writable

if TYPE_CHECKING:
    from beir_hybrid.collections.collection import MultilingualCollection
    from beir_hybrid.encoders.dense import DenseEncoder
    from beir_hybrid.evaluation.figures import Results
    from beir_hybrid.evaluation.plan import GridPlan

_Runs = Annotated[
    list[str] | None,
    typer.Option(
        help="Runs of another system, NAME=FOLDER, with a run for each setting: TREC (xquad-r.cross.en-de.trec, .gz) "
        "or BEIR's results (.json). May be repeated.",
        metavar="NAME=FOLDER",
        show_default=False,
    ),
]
_WriteRuns = Annotated[
    Path | None,
    typer.Option(
        help="Write the rankings of each model to a folder of its own in this one: a TREC run for each setting.",
        show_default=False,
    ),
]
_Depth = Annotated[int, typer.Option(help="Passages for each question in these runs.", min=1)]
_Bm25 = Annotated[
    bool,
    typer.Option(
        "--bm25", help="Also BM25 with Lucene's analyzers, to depth 1000 (needs `pip install beir-hybrid[pyserini]`)."
    ),
]
_Embeddings = Annotated[
    Path | None,
    typer.Option(
        help="Keep the embeddings in this folder, and take from there what was encoded before.", show_default=False
    ),
]
_PassageVectors = Annotated[
    Path | None,
    typer.Option(
        help="Take the passages' vectors from here, and have MODEL encode the questions alone: a Pyserini dense index "
        "(a folder with index and docid), JSON lines as pyserini.encode writes them, or what `export` wrote for Faiss "
        "or the hub.",
        show_default=False,
    ),
]
_QueryVectors = Annotated[
    Path | None,
    typer.Option(
        help="Take the questions' vectors from here too (JSON lines, Parquet, or what `export` wrote for Faiss or the "
        "hub; not embedding.pkl): no MODEL is needed.",
        show_default=False,
    ),
]


def evaluate(
    models: options.Models = None,
    collection: options.Collection = "xquad-r",
    data_dir: options.DataDir = None,
    languages: options.Languages = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            help="A kind (mono, cross, multi) or one setting (cross/en-de, blend/de+en/multi); may be repeated. "
            "Default: all but blends."
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="A measure in ir-measures' notation; may be repeated. Default: AP and R@1 (mono, cross), AP, R@10 and "
            "RankDistance (multi)."
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            help="Write the figures as JSON, and the values of each question beside them, for `compare`.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write results.json, queries.parquet (the values of each question, for `compare`), report.html, "
            "report.md, report.tex, figures.csv and heatmap.png to this folder.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="What tables call a model; may be repeated, in the models' order.", show_default=False),
    ] = None,
    runs: _Runs = None,
    write_runs: _WriteRuns = None,
    depth: _Depth = 1000,
    bm25: _Bm25 = False,
    embeddings: _Embeddings = None,
    passage_vectors: _PassageVectors = None,
    query_vectors: _QueryVectors = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also the published figures of this collection, above your own.")
    ] = False,
    precision: options.Precision = "auto",
    device: options.Device = None,
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Evaluate even on data that the model was trained on.")
    ] = False,
) -> None:
    """Evaluate each MODEL in every language setting of a collection.

    Each text is encoded once. **mono**: passages of the question's language. **cross**: passages of one other
    language. **multi**: all languages in one pool. **macro** is the mean over settings, **micro** over questions.
    **RankDistance** is the language bias: the distance in ranks between the translations of an answer in the pool.

    `beir-hybrid evaluate bundled:multilingual-e5-small my-encoder --collection xquad-r --report my-report`

    `beir-hybrid evaluate my-encoder --passage-vectors my-index` evaluates a Pyserini index that is there already.
    """
    models = models or []
    vectors = vectors_call(models, passage_vectors, query_vectors)
    names = system or models or ([vectors.name] if vectors else [])
    _check_call(models, names, runs, write_runs, bm25, vectors)
    data = options.load_collection(collection, data_dir, languages, setting or ())
    from beir_hybrid.evaluation.figures import combine
    from beir_hybrid.evaluation.grid import evaluate_grid
    from beir_hybrid.evaluation.plan import plan_grid
    from beir_hybrid.evaluation.published import published_beside
    from beir_hybrid.evaluation.reports.report import summary_table, write_report

    for path in (json, report and report / "results.json"):
        if path is not None:
            check_writable(path)
    # What takes a while comes last: the runs are read before a model is loaded.
    plan = plan_grid(data, measure, setting)
    others = [_of_runs(given, data, measure) for given in runs or ()]
    results = []
    chosen: dict[str, Any] = {"measures": measure, "settings": setting, "depth": depth}
    folders = [write_runs and write_runs / _folder_name(name) for name in names]
    if vectors and not models:
        results.append(vectors.evaluate(data, allow_seen, **chosen, system=names[0], runs=folders[0]))
    for name, model, folder in zip(names, models, folders, strict=bool(models)):
        encoder = options.load_encoder(model, query_prompt, passage_prompt, precision, device)
        results.append(
            evaluate_grid(
                encoder,
                data,
                **chosen,
                system=name,
                batching=encoder.batching,
                allow_seen=allow_seen,
                embeddings=embeddings,
                passage_vectors=vectors.passages_for(encoder) if vectors else None,
                runs=folder,
            )
        )
        typer.echo(_precision(name, encoder), err=True)
    results += [*([_of_bm25(data, plan, measure)] if bm25 else ()), *others]
    results.sort(key=lambda one: one.origin == "ours")  # baselines first: differences are from the first system
    references = published_beside(results[0]) if published else ()
    if published and not references:
        typer.echo(f"No figures of {data.name} have been published, or none on the same text and languages.", err=True)
    typer.echo(summary_table(results, references=references))
    if json is not None:
        combine(results).write_json(json)
        typer.echo(f"figures: {json}")
    if report is not None:
        for path in write_report(results, report, references):
            typer.echo(f"report: {path}")


def _precision(name: str, encoder: DenseEncoder) -> str:
    """In which precision was encoded, and what came out when the two were tried."""
    tried = encoder.precision_probe
    found = f"{name}: encoded in {encoder.precision}"
    if tried is None:
        return f"{found}."
    speed, cosine = tried["bf16_speedup"], tried["min_cosine"]
    return (
        f"{found}; bf16 is {speed:.1f} times as fast as float32 here, and its vectors' cosine with those {cosine:.5f}."
    )


def _check_call(
    models: list[str],
    names: list[str],
    runs: list[str] | None,
    write_runs: Path | None,
    bm25: bool,
    vectors: GivenVectors | None,
) -> None:
    """Refuse what cannot be right before anything is read."""
    if not (models or runs or bm25 or vectors):
        raise BeirHybridError(
            "there is nothing to evaluate; name a model, --runs NAME=FOLDER, --passage-vectors or --bm25."
        )
    if len(names) != (len(models) or bool(vectors)):
        raise BeirHybridError(
            f"{len(names)} names for {len(models)} models; give --system once for each, or not at all."
        )
    if write_runs and len(set(map(_folder_name, names))) < len(names):
        raise BeirHybridError("two models would write their runs to one folder; name each with --system.")
    for given in runs or ():
        name, _, folder = given.partition("=")
        if not name or not folder:
            raise BeirHybridError(f"--runs {given}: expected NAME=FOLDER, as in --runs bm25=my-runs.")
    if bm25:
        from beir_hybrid.anserini import jvm

        if reason := jvm.available():
            raise BeirHybridError(f"--bm25: {reason}")


def _folder_name(name: str) -> str:
    """What the folder of a model's runs is called: the last part of its name."""
    return Path(name.replace(":", "-")).name


def _of_runs(given: str, data: MultilingualCollection, measures: list[str] | None) -> Results:
    """The figures of NAME=FOLDER."""
    from beir_hybrid.evaluation.from_runs import evaluate_runs, read_runs

    name, _, folder = given.partition("=")
    results = evaluate_runs(read_runs(folder, data), measures=measures, system=name)
    if empty := results.provenance.get("without_results"):
        typer.echo(f"{name}: {empty:,} questions have no results in {folder}; each counts as 0.", err=True)
    return results


def _of_bm25(data: MultilingualCollection, plan: GridPlan, measures: list[str] | None) -> Results:
    """BM25 in the settings of a plan."""
    import numpy as np

    from beir_hybrid.anserini.lexical.bm25 import DEPTH, bm25_runs
    from beir_hybrid.evaluation.from_runs import evaluate_runs

    found = list(bm25_runs(data, plan.settings))
    # What shares no term with a question is not found at any depth: only a question with so many was cut off.
    cut = any(np.bincount(run.queries).max(initial=0) >= DEPTH for run in found)
    about = {"encoder": found[0].provenance, "depth": DEPTH if cut else None}
    return evaluate_runs((run.run for run in found), measures=measures, system="BM25", provenance=about)
