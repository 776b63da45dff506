"""What a page says of where its figures came from, and how to get them again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from beir_hybrid.evaluation.comparing.pairing import System
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.evaluation.measures.names import DEFAULT
from beir_hybrid.evaluation.reports.tables import line_of

_DATA = {
    "collection": "Collection", "origin": "Origin", "licence": "Licence", "citation": "Citation",
    "languages": "Languages", "queries": "Questions", "passages": "Passages", "text_mode": "Each passage is a",
    "digest": "SHA-256 of the data as read",
}  # fmt: skip
_ENCODER = {"model": "Model", "digest": "SHA-256 of the weights", "training": "Training"}
_SYSTEM = {
    "encoder": "", "score_function": "Score", "dimensions": "Dimensions", "depth": "Depth of the rankings",
    "undefined": "Undefined in these rankings", "measures": "Measures", "texts_encoded": "Texts encoded",
    "unknown_ids": "Unknown ids in the runs", "versions": "Versions", "timing": "Seconds",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """Terms and what is known of them, under a heading."""

    title: str
    origin: str
    rows: tuple[tuple[str, str], ...]


def data_facts(results: Results) -> tuple[tuple[str, str], ...]:
    """The data of a collection; empty where the results do not say."""
    provenance = results.provenance
    if "digest" not in provenance:
        return ()
    return tuple((term, line_of(provenance[name])) for name, term in _DATA.items() if provenance.get(name))


def system_facts(system: System, label: str) -> Iterator[Facts]:
    """The model, the software and the time of each run of a system, as far as its results hold them."""
    for number, run in enumerate(system.runs, 1):
        rows: list[tuple[str, str]] = []
        for name, term in _SYSTEM.items():
            value = run.provenance.get(name)
            if name == "encoder" and isinstance(value, Mapping):
                rows += [
                    (_ENCODER.get(key, _words(key)), line_of(own)) for key, own in value.items() if own is not None
                ]
            elif value not in (None, ""):
                rows.append((term or _words(name), line_of(value)))
        which = f", run {number} of {len(system.runs)}" if len(system.runs) > 1 else ""
        yield Facts(f"{label} on {run.collection}{which}", run.origin, tuple(rows))


def commands(group: Sequence[System]) -> tuple[list[str], list[str]]:
    """The command lines that measure systems of one collection again, and the names of those that no command makes.

    Several systems that were measured alike share a line; where one has several runs, each run has a line and a report
    of its own, and the last line compares them.
    """
    several = any(len(system.runs) > 1 for system in group)
    lines: dict[tuple[tuple[str, ...], str], list[tuple[str, str]]] = {}
    reports: dict[str, list[str]] = {}
    others = []
    for place, system in enumerate(group, 1):
        for number, run in enumerate(system.runs, 1):
            model = (run.provenance.get("encoder") or {}).get("model")
            if isinstance(model, str):
                report = f"reports/{place}-run{number}" if several else "report"
                reports.setdefault(system.name, []).append(report)
                lines.setdefault((tuple(_choices(run)), report), []).append((model, run.figures[0].system))
            else:
                others.append(system.name)
    found = []
    for (choices, report), systems in lines.items():
        models = [model for model, _ in systems]
        renamed = any(model != name for model, name in systems)
        names = [part for _, name in systems for part in ("--system", name)] if renamed else []
        found.append(shlex.join(["beir-hybrid", "evaluate", *models, *choices, *names, "--report", report]))
    if several and len(reports) > 1:
        named = [f"{name}={','.join(folders)}" for name, folders in reports.items()]
        found.append(shlex.join(["beir-hybrid", "compare", *named, "--html", "comparison.html"]))
    return found, list(dict.fromkeys(others))


def _choices(results: Results) -> Iterator[str]:
    yield from ("--collection", results.collection)
    whole = {one.kind for one in results.figures if one.average and not one.query_language and "blend" not in one.kind}
    single = [
        one.setting.removeprefix(f"{results.collection}/")
        for one in results.figures
        if not one.average and one.kind not in whole
    ]
    if single or whole != {"mono", "cross", "multi"}:
        for setting in dict.fromkeys([*sorted(whole), *single]):
            yield from ("--setting", setting)
    measures: Mapping[str, Sequence[str]] = results.provenance.get("measures") or {}
    if any(list(measures.get(kind, own)) != list(own) for kind, own in DEFAULT.items()):
        for measure in dict.fromkeys(measure for own in measures.values() for measure in own):
            yield from ("--measure", measure)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
