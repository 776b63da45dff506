"""A figure is one row of a result; results are rows and what they came from."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.per_query import QueryFigures, read_values, values_path, write_values
from beir_hybrid.files import atomic_file, read_json, write_json

AVERAGES = ("", "macro", "micro")
AVERAGED_KINDS = ("mono", "cross", "multi", "blend/mono", "blend/multi")  # what settings are averaged with
_VALUES = "query_values"  # in the provenance of a file: the SHA-256 of the values beside it


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        collection: Its name, `xquad-r`.
        system: What was measured, in the user's words.
        batching: How the system was trained, where that is known: `hybrid`, `x-y`, or empty.
        setting: `xquad-r/mono/en`; for averages `xquad-r/mono`.
        measure: In ir_measures' notation, `R@10`.
        average: `macro` (mean over settings), `micro` (mean over questions), or empty for one setting.
        query_language: The language of the questions; empty for an average over languages.
        value: The mean over the questions. RankDistance is in ranks, MRC lies in -1..1, all others in 0..1.
        queries: How many questions it is the mean of; 0 where a publication does not say.
    """

    collection: str
    system: str
    batching: str
    setting: str
    measure: str
    average: str
    query_language: str
    value: float
    queries: int

    @property
    def kind(self) -> str:
        """What settings are averaged with it: mono, cross, multi, blend/mono or blend/multi."""
        return kind_of(self.setting, self.collection)


def lower_is_better(measure: str) -> bool:
    """RankDistance is a distance, also with parameters (`RankDistance(rel=2)`); of all others more is better."""
    return measure.startswith("RankDistance")


def kind_of(setting: str, collection: str) -> str:
    """The kind of a setting or of an average; a blend in the pool is another task than in one language."""
    kind, *languages = setting.removeprefix(f"{collection}/").split("/")
    if kind != "blend":
        return kind
    return "blend/multi" if languages[-1:] == ["multi"] else "blend/mono"


@dataclass(frozen=True)
class Results:
    """Figures, their provenance (what data, model and software they came from), and the values of each question.

    Attributes:
        queries: What the figures of single settings are means of; empty where that was not kept.
    """

    figures: tuple[Figure, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    queries: tuple[QueryFigures, ...] = field(default=(), compare=False, repr=False)

    def select(self, **fields: str) -> tuple[Figure, ...]:
        """The figures whose fields have these values: `select(setting="xquad-r/mono", measure="AP")`.

        Raises:
            BeirHybridError: a figure has no such field.
        """
        _check_fields(fields)
        return tuple(
            figure for figure in self.figures if all(getattr(figure, name) == value for name, value in fields.items())
        )

    def value(
        self, *, setting: str, measure: str, average: str = "", query_language: str | None = None, **fields: str
    ) -> float:
        """The value of the one figure that matches.

        `setting` may leave the collection out (`mono/en`). A setting of one language names its query language; the
        average of cross settings over passage languages is asked for with `query_language`.

        Raises:
            BeirHybridError: no figure matches, or several do.
        """
        found = [
            figure
            for figure in self.select(measure=measure, average=average, **fields)
            if setting in (figure.setting, figure.setting.removeprefix(f"{figure.collection}/"))
            and figure.query_language == _asked_language(figure, query_language)
        ]
        if len(found) != 1:
            wanted = f"setting={setting!r}, measure={measure!r}, average={average!r}"
            if not found:
                known = sorted(
                    {f"{figure.setting} {figure.measure} {figure.average}".strip() for figure in self.figures}
                )
                more = f" and {len(known) - 12} more" if len(known) > 12 else ""
                raise BeirHybridError(f"no figure with {wanted}. There are: {', '.join(known[:12])}{more}.")
            systems = sorted({f"{figure.collection}, {figure.system}, {figure.batching}" for figure in found})
            raise BeirHybridError(f"{len(found)} figures with {wanted}; name the system: {'; '.join(systems)}.")
        return found[0].value

    @property
    def label(self) -> str:
        """What a table calls this system."""
        names = {(figure.system, figure.batching) for figure in self.figures}
        if len(names) != 1:
            return f"{len(names)} systems"
        system, batching = names.pop()
        both = system and batching and not system.startswith(batching)
        name = f"{system} ({batching})" if both else system or batching or "system"
        # What stands lower down was not found, which costs AP: whoever reads a table should know.
        return f"{name}, top {depth}" if (depth := self.provenance.get("depth")) else name

    @property
    def collection(self) -> str:
        """The name of the collection; several are joined by a comma."""
        return ", ".join(dict.fromkeys(figure.collection for figure in self.figures))

    @property
    def origin(self) -> str:
        """`published`, `ours` (measured here and trained with these batches) or `baseline` (measured here only)."""
        if "published" in self.provenance:
            return "published"
        trained = (self.provenance.get("encoder") or {}).get("training")
        return "ours" if trained or any(figure.batching for figure in self.figures) else "baseline"

    def to_json(self) -> dict[str, Any]:
        """`{"provenance": {...}, "figures": [row, ...]}`."""
        names = [part.name for part in dataclasses.fields(Figure)]
        return {
            "provenance": dict(self.provenance),
            "figures": [{name: getattr(figure, name) for name in names} for figure in self.figures],
        }

    def write_json(self, path: Path | str) -> None:
        """Write `to_json()` to `path`, and the values of each question beside it (`values_path`), both or neither.

        The JSON names the SHA-256 of the values, so that the two cannot be mixed up.
        """
        path, content = Path(path), self.to_json()
        if not self.queries:
            write_json(path, content)
            values_path(path).unlink(missing_ok=True)  # of what stood here before
            return
        with atomic_file(values_path(path)) as temporary:
            content["provenance"][_VALUES] = write_values(self.queries, temporary)
            write_json(path, content)

    @classmethod
    def read(cls, path: Path | str) -> Results:
        """Read what `write_json` wrote; without the file of values, `queries` is empty.

        Raises:
            BeirHybridError: the file is missing or is not such a file (names the figure and the field), or the values
                beside it belong to other figures.
        """
        content = read_json(Path(path), "results with provenance and figures")
        if not isinstance(content, dict) or not isinstance(content.get("figures"), list):
            raise BeirHybridError(
                f'{path}: expected {{"provenance": {{...}}, "figures": [...]}}, as write_json writes.'
            )
        provenance = content.get("provenance")
        if not isinstance(provenance, dict):
            raise BeirHybridError(f"{path}: provenance is {type(provenance).__name__}; expected an object.")
        rows = content["figures"]
        figures = tuple(_figure(row, f"{path}, figure {number}") for number, row in enumerate(rows, 1))
        digest = provenance.pop(_VALUES, None)
        beside = values_path(Path(path))
        return cls(figures, provenance, read_values(beside, str(digest)) if digest and beside.is_file() else ())


def combine(results: Sequence[Results]) -> Results:
    """The figures of several systems as one, each one's provenance under `provenance["systems"]`; one stays itself."""
    if len(results) == 1:
        return results[0]
    systems = [{"label": one.label, "collection": one.collection, **one.provenance} for one in results]
    figures = tuple(figure for one in results for figure in one.figures)
    return Results(figures, {"systems": systems}, tuple(values for one in results for values in one.queries))


def separate(results: Results) -> tuple[Results, ...]:
    """What `combine` joined: the figures of each system on each collection, with its own provenance."""
    parts: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in results.figures:
        parts.setdefault((figure.collection, figure.system, figure.batching), []).append(figure)
    if len(parts) == 1:
        return (results,)
    found = []
    for key, figures in parts.items():
        one = Results(tuple(figures))
        about = [
            {name: value for name, value in system.items() if name != "label"}
            for system in results.provenance.get("systems", ())
            if (system.get("label"), system.get("collection")) == (one.label, one.collection)
        ]
        values = tuple(part for part in results.queries if (part.collection, part.system, part.batching) == key)
        found.append(dataclasses.replace(one, provenance=about[0] if about else {}, queries=values))
    return tuple(found)


def check_comparable(one: Results, other: Results, *, depth: bool = True) -> None:
    """Refuse two results whose figures say nothing about each other.

    Args:
        depth: Whether rankings of different depth are refused too, rather than told apart by their labels.

    Raises:
        BeirHybridError: their data, text mode or depth of ranking differ.
    """
    for name in ("text_mode", "digest", "depth")[: 2 + depth]:
        first, second = one.provenance.get(name), other.provenance.get(name)
        both = first is not None and second is not None
        if first != second and (both or name == "depth"):  # no depth: every passage was ranked
            raise BeirHybridError(
                f"{one.label} and {other.label} were measured on different data called {one.collection}, or to "
                f"different depth ({name} {first or 'full'} and {second or 'full'}), so their figures do not compare. "
                "Evaluate both in the same way."
            )


def data_provenance(collection: MultilingualCollection) -> dict[str, Any]:
    """What a result says about its data."""
    info = collection.info
    return {
        "collection": collection.name,
        "digest": collection.digest,
        "licence": info.licence,
        "citation": info.citation,
        "origin": info.origin,
        "text_mode": info.text_mode,
        "languages": list(collection.languages),
        "queries": len(collection.queries),
        "passages": len(collection.passages),
    }


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that a figure may depend on, where they are installed."""
    found = {"python": platform.python_version()}
    for package in ("beir_hybrid", "torch", "sentence-transformers", "numpy", "ir-measures"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # nothing here needs torch, and a checkout may not be installed
    return found


def _asked_language(figure: Figure, query_language: str | None) -> str:
    if query_language is not None:
        return query_language
    return "" if figure.average else figure.query_language


def _check_fields(fields: Mapping[str, str]) -> None:
    known = [part.name for part in dataclasses.fields(Figure)]
    for name in fields:
        if name not in known:
            raise BeirHybridError(f"a figure has no field {name!r}. Fields: {', '.join(known)}.")


def _figure(row: Any, where: str) -> Figure:
    if not isinstance(row, dict):
        raise BeirHybridError(f"{where}: expected an object, found {type(row).__name__}.")
    _check_row_fields(row, where)
    if row["average"] not in AVERAGES:
        raise BeirHybridError(f"{where}: average is {row['average']!r}; expected macro, micro or nothing.")
    if not math.isfinite(row["value"]):
        raise BeirHybridError(f"{where}: value is {row['value']}; expected a finite number.")
    return Figure(**{**row, "value": float(row["value"])})


def _check_row_fields(row: dict[str, Any], where: str) -> None:
    kinds: dict[str, tuple[type, ...]] = {"value": (int, float), "queries": (int,)}
    names = [part.name for part in dataclasses.fields(Figure)]
    if missing := [name for name in names if name not in row]:
        raise BeirHybridError(f"{where}: {', '.join(missing)} missing; a figure has {', '.join(names)}.")
    if extra := [name for name in row if name not in names]:
        raise BeirHybridError(f"{where}: unknown field {extra[0]!r}; a figure has {', '.join(names)}.")
    for name in names:
        expected = kinds.get(name, (str,))
        if not isinstance(row[name], expected) or isinstance(row[name], bool):
            wanted = " or ".join(kind.__name__ for kind in expected)
            raise BeirHybridError(f"{where}: {name} is {type(row[name]).__name__}; expected {wanted}.")
