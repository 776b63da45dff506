"""Figures of runs: of whatever system made them, beside those of the grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np

from beir_hybrid.collections.collection import KINDS, MultilingualCollection, Setting
from beir_hybrid.collections.texts import IntArray
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.averages import SettingValues, figures_of, query_figures
from beir_hybrid.evaluation.figures import Figure, Results, data_provenance, package_versions
from beir_hybrid.evaluation.measures import evaluate_run, ranked_run
from beir_hybrid.evaluation.plan import Measures, plan_grid
from beir_hybrid.retrieval.runs import Run

_ENDINGS = (".trec", ".trec.gz", ".run", ".run.gz", ".txt", ".txt.gz")


def evaluate_runs(
    runs: Iterable[Run],
    *,
    measures: Measures | None = None,
    system: str = "",
    batching: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Results:
    """The figures of runs, one run a setting, all of one collection.

    A question without results counts as 0. RankDistance is not defined where a relevant passage was not found: among
    the default measures it is then left out, and where it was asked for it is an error.

    Args:
        measures: As in `evaluate_grid`; AWRF too, since whole rankings are there.
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
    plan = plan_grid(collection, measures, [str(setting) for setting in by_setting], whole_rankings=True)
    depth = max((_depth(run) for run in by_setting.values()), default=0)
    blank = Figure(collection.name, system, batching, "", "", "", "", 0.0, 0)
    values: dict[Setting, tuple[IntArray, SettingValues]] = {}
    left_out: set[str] = set()
    for setting in plan.settings:
        run, wanted = by_setting[setting], list(plan.measures[setting.kind])
        if measures is None and not _finds_all(run):
            left_out |= {str(one) for one in wanted if one.NAME == "RankDistance"}
            wanted = [one for one in wanted if one.NAME != "RankDistance"]
        values[setting] = run.view.query_rows, _values(run, wanted)
    about = {
        **data_provenance(collection),
        "measures": {kind: [str(measure) for measure in plan.measures[kind]] for kind in KINDS},
        "versions": package_versions(),
        **({} if all(map(_is_whole, by_setting.values())) else {"depth": depth}),
        **({"undefined": sorted(left_out)} if left_out else {}),
        "unknown_ids": sum(run.unknown_queries + run.unknown_documents for run in by_setting.values()),
        **(provenance or {}),
    }
    measured = {setting: own for setting, (_, own) in values.items()}
    return Results(tuple(figures_of(measured, plan, blank)), about, tuple(query_figures(values, collection, blank)))


def read_runs(folder: Path | str, collection: MultilingualCollection) -> list[Run]:
    """The runs in a folder: `xquad-r.cross.en-de.trec` is of the setting `xquad-r/cross/en-de`.

    The endings .trec, .run and .txt are read, each also with .gz.

    Raises:
        BeirHybridError: there is no such folder, a file is of no setting of the collection, or is no run.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise BeirHybridError(f"{folder}: no such folder; expected one with a run for each setting.")
    known = {run_name(setting): setting for setting in collection.settings}
    found = []
    for path in sorted(folder.iterdir()):
        ending = next((one for one in sorted(_ENDINGS, key=len, reverse=True) if path.name.endswith(one)), None)
        if ending is None:
            continue
        name = path.name.removesuffix(ending)
        if name not in known:
            example = next(iter(known))
            raise BeirHybridError(
                f"{path}: {name} is no setting of {collection.name}; name a run after its setting, {example}{ending}."
            )
        found.append(Run.read(path, collection.view(known[name])))
    if not found:
        raise BeirHybridError(f"{folder}: no runs here; expected files like {next(iter(known))}.trec.")
    return found


def run_name(setting: Setting) -> str:
    """What the run of a setting is called as a file, without its ending."""
    return str(setting).replace("/", ".")


def _values(run: Run, measures: list[ir_measures.Measure]) -> SettingValues:
    view = run.view
    ranked = ranked_run(np.searchsorted(view.query_rows, run.queries), run.passages, len(view.query_rows))
    collection = view.collection
    return evaluate_run(
        ranked, view.judgements, measures, languages=collection.passages.language, codes=tuple(collection.languages)
    )


def _finds_all(run: Run) -> bool:
    """Whether every relevant passage was found."""
    relevant = run.view.judgements.where(run.view.judgements.grades > 0)
    width = len(run.view.collection.passages)
    wanted = run.view.query_rows[relevant.queries] * width + relevant.passages
    return bool(np.isin(wanted, run.queries * width + run.passages).all())


def _depth(run: Run) -> int:
    return int(np.bincount(np.searchsorted(run.view.query_rows, run.queries)).max(initial=0))


def _is_whole(run: Run) -> bool:
    """Whether every question has all passages that are searched."""
    return len(run) == len(run.view.query_rows) * len(run.view.passage_rows)
