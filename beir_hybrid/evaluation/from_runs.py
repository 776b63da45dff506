"""Figures of runs: of whatever system made them, beside those of the grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np

from beir_hybrid.collections.collection import KINDS, MultilingualCollection, Setting, SettingView
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.averages import SettingValues, figures_of, query_figures
from beir_hybrid.evaluation.figures import Figure, Results, data_provenance, package_versions
from beir_hybrid.evaluation.measures import Values, evaluate_run, ranked_run, run_rank_correlation
from beir_hybrid.evaluation.plan import GridPlan, Measures, plan_grid
from beir_hybrid.files import read_json
from beir_hybrid.retrieval.runs import Run

_BEIR = ".json"
_ENDINGS = (".trec", ".trec.gz", ".run", ".run.gz", ".txt", ".txt.gz", _BEIR)


def evaluate_runs(
    runs: Iterable[Run],
    *,
    measures: Measures | None = None,
    system: str = "",
    batching: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Results:
    """The figures of runs, one run a setting, all of one collection.

    A question without results counts as 0, and the provenance says how many there are. RankDistance is not defined
    where a relevant passage was not found: among the default measures it is then left out, and where it was asked for
    it is an error.

    Args:
        measures: As in `evaluate_grid`. MRC compares the runs of all multi settings that there are.
        system, batching: What made the runs, for the figures.
        provenance: What is known about it, for the results.

    Raises:
        BeirHybridError: there is no run, two are of one setting, or of different collections; as `evaluate_run`.
    """
    by_setting: dict[Setting, Run] = {}
    for run in runs:
        if run.view.setting in by_setting:
            raise BeirHybridError(f"two runs are of {run.view.name}; give one for each setting.")
        by_setting[run.view.setting] = run
    if not by_setting:
        raise BeirHybridError("there is no run to evaluate; give one for each setting.")
    collection = next(iter(by_setting.values())).view.collection
    if any(run.view.collection.digest != collection.digest for run in by_setting.values()):
        raise BeirHybridError("the runs are of different collections; evaluate each collection on its own.")
    plan = plan_grid(collection, measures, [str(setting) for setting in by_setting])
    depth = max((_depth(run) for run in by_setting.values()), default=0)
    blank = Figure(collection.name, system, batching, "", "", "", "", 0.0, 0)
    values: dict[Setting, tuple[IntArray, SettingValues]] = {}
    left_out: set[str] = set()
    correlations = _correlations(by_setting, plan)
    for setting in plan.settings:
        run, wanted = by_setting[setting], list(plan.measures[setting.kind])
        if measures is None and not _finds_all(run):
            left_out |= {str(one) for one in wanted if one.NAME == "RankDistance"}
            wanted = [one for one in wanted if one.NAME != "RankDistance"]
        values[setting] = run.view.query_rows, _values(run, wanted, correlations)
    about = {
        **data_provenance(collection),
        "measures": {kind: [str(measure) for measure in plan.measures[kind]] for kind in KINDS},
        "versions": package_versions(),
        **({} if all(map(_is_whole, by_setting.values())) else {"depth": depth}),
        **({"undefined": sorted(left_out)} if left_out else {}),
        **({"without_results": empty} if (empty := sum(map(_empty, by_setting.values()))) else {}),
        "unknown_ids": sum(run.unknown_queries + run.unknown_documents for run in by_setting.values()),
        **(provenance or {}),
    }
    measured = {setting: own for setting, (_, own) in values.items()}
    return Results(tuple(figures_of(measured, plan, blank)), about, tuple(query_figures(values, collection, blank)))


def read_runs(path: Path | str, collection: MultilingualCollection) -> list[Run]:
    """The runs in a folder, or the one in a file: `xquad-r.cross.en-de.trec` is of the setting `xquad-r/cross/en-de`.

    TREC runs end in .trec, .run or .txt, each also with .gz. A file ending in .json holds the results that BEIR's
    retrievers return: `{query id: {document id: score}}`.

    Raises:
        BeirHybridError: there is no such folder or file, a file is of no setting of the collection, or is no run.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise BeirHybridError(f"{path}: no such folder; expected one with a run for each setting.")
    known = {run_name(setting): setting for setting in collection.settings}
    example = f"{next(iter(known))}.trec"
    found = []
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        ending = next((one for one in sorted(_ENDINGS, key=len, reverse=True) if file.name.endswith(one)), None)
        name = file.name.removesuffix(ending or "")
        if ending is None or (ending == _BEIR and name not in known and file != path):
            continue  # JSON of another kind may well lie beside runs
        if name not in known:
            raise BeirHybridError(
                f"{file}: {name} is no setting of {collection.name}; name a run after its setting, {example}."
            )
        view = collection.view(known[name])
        found.append(_of_beir(file, view) if ending == _BEIR else Run.read(file, view))
    if not found:
        raise BeirHybridError(f"{path}: no runs here; expected files like {example}.")
    return found


def _of_beir(path: Path, view: SettingView) -> Run:
    results = read_json(path, "BEIR's results: {query id: {document id: score}}")
    if not isinstance(results, dict) or not all(isinstance(own, dict) for own in results.values()):
        raise BeirHybridError(f"{path}: expected BEIR's results, {{query id: {{document id: score}}}}.")
    for query, own in results.items():
        for document, score in own.items():
            if isinstance(score, bool) or not isinstance(score, (int, float)):
                raise BeirHybridError(
                    f"{path}: the score of {document!r} for {query!r} is {score!r}; expected a number."
                )
    try:
        return Run.from_beir(results, view)
    except BeirHybridError as error:
        raise BeirHybridError(f"{path}: {error}") from None


def run_name(setting: Setting) -> str:
    """What the run of a setting is called as a file, without its ending."""
    return str(setting).replace("/", ".")


def _correlations(runs: Mapping[Setting, Run], plan: GridPlan) -> Values | None:
    """Shape (queries of the collection,): how each ranking of a multi setting correlates with its translations'."""
    in_pool = [run for setting, run in runs.items() if setting.kind == "multi"]
    if not in_pool or not any(measure.NAME == "MRC" for measure in plan.measures["multi"]):
        return None
    collection = in_pool[0].view.collection
    if len(in_pool) < 2:
        raise BeirHybridError(
            f"MRC compares the rankings of questions in several languages, and {in_pool[0].view.name} is the only "
            "multi setting with a run; give the runs of others too."
        )
    queries, passages = (np.concatenate([getattr(run, name) for run in in_pool]) for name in ("queries", "passages"))
    return run_rank_correlation(ranked_run(queries, passages, len(collection.queries)), collection.query_item)


def _values(run: Run, measures: list[ir_measures.Measure], correlations: Values | None) -> SettingValues:
    view = run.view
    ranked = ranked_run(np.searchsorted(view.query_rows, run.queries), run.passages, len(view.query_rows))
    collection = view.collection
    return evaluate_run(
        ranked,
        view.judgements,
        measures,
        languages=collection.passages.language,
        codes=tuple(collection.languages),
        correlations=None if correlations is None else correlations[view.query_rows],
    )


def _finds_all(run: Run) -> bool:
    """Whether every relevant passage was found."""
    relevant = run.view.judgements.where(run.view.judgements.grades > 0)
    width = len(run.view.collection.passages)
    wanted = run.view.query_rows[relevant.queries] * width + relevant.passages
    return bool(np.isin(wanted, run.queries * width + run.passages).all())


def _depth(run: Run) -> int:
    return int(np.bincount(np.searchsorted(run.view.query_rows, run.queries)).max(initial=0))


def _empty(run: Run) -> int:
    """How many questions have no results."""
    return len(run.view.query_rows) - len(np.unique(run.queries))


def _is_whole(run: Run) -> bool:
    """Whether every question has all passages that are searched."""
    return len(run) == len(run.view.query_rows) * len(run.view.passage_rows)
