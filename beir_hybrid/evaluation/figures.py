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
from beir_hybrid.files import read_json, write_json

AVERAGES = ("", "macro", "micro")


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
        value: The mean over the questions. RankDistance is in ranks, all others lie in 0..1.
        queries: How many questions it is the mean of.
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


@dataclass(frozen=True)
class Results:
    """Figures and their provenance: a JSON object that says what data, model and software they came from."""

    figures: tuple[Figure, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

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
        return f"{system} ({batching})" if system and batching else system or batching or "system"

    @property
    def collection(self) -> str:
        """The name of the collection; several are joined by a comma."""
        return ", ".join(dict.fromkeys(figure.collection for figure in self.figures))

    def to_json(self) -> dict[str, Any]:
        """`{"provenance": {...}, "figures": [row, ...]}`."""
        return {
            "provenance": dict(self.provenance),
            "figures": [dataclasses.asdict(figure) for figure in self.figures],
        }

    def write_json(self, path: Path | str) -> None:
        """Write `to_json()` to `path`, whole or not at all."""
        write_json(Path(path), self.to_json())

    @classmethod
    def read(cls, path: Path | str) -> Results:
        """Read what `write_json` wrote.

        Raises:
            BeirHybridError: the file is missing or is not such a file; names the figure and the field.
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
        return cls(tuple(_figure(row, f"{path}, figure {number}") for number, row in enumerate(rows, 1)), provenance)


def combine(results: Sequence[Results]) -> Results:
    """The figures of several systems as one, each one's provenance under `provenance["systems"]`; one stays itself."""
    if len(results) == 1:
        return results[0]
    systems = [{"label": one.label, "collection": one.collection, **one.provenance} for one in results]
    return Results(tuple(figure for one in results for figure in one.figures), {"systems": systems})


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
