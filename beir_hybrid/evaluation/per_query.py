"""The value of each question behind the figures, which paired tests need: Parquet beside the JSON of the figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import sha256_file

_KEY = ("system", "batching", "collection", "setting", "measure")
_COLUMNS = (*_KEY, "query", "item", "value")
_DICTIONARY_BYTES = (
    64 << 20
)  # ids of a large set fill more than the usual 1 MiB, and would then be written out each time


@dataclass(frozen=True, eq=False)
class QueryFigures:
    """The values of one measure for every question of one setting.

    Attributes:
        collection, system, batching, setting, measure: As in the figure that is their mean.
        ids: The questions.
        items: What each question is a translation of; questions of one item are parallel.
        values: Shape (questions,).
    """

    collection: str
    system: str
    batching: str
    setting: str
    measure: str
    ids: Sequence[str]
    items: Sequence[str]
    values: npt.NDArray[np.float64]

    @property
    def key(self) -> tuple[str, str]:
        """What two systems share when their questions can be paired: setting and measure."""
        return self.setting, self.measure


def values_path(results: Path) -> Path:
    """Where the values belong whose figures are in `results`: `queries.parquet` beside `results.json`."""
    return results.with_name("queries.parquet" if results.stem == "results" else f"{results.stem}.queries.parquet")


def write_values(values: Sequence[QueryFigures], path: Path) -> str:
    """Write Parquet to `path`, a row a value; return the SHA-256 of the file."""
    import pyarrow as pa
    from pyarrow import parquet

    lengths = [len(one.values) for one in values]
    columns = {name: _repeated([getattr(one, name) for one in values], lengths) for name in _KEY}
    columns["query"] = _coded([one.ids for one in values])
    columns["item"] = _coded([one.items for one in values])
    columns["value"] = pa.array(np.concatenate([one.values for one in values]), pa.float64())
    parquet.write_table(
        pa.table({name: columns[name] for name in _COLUMNS}),
        path,
        compression="zstd",
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
    )
    return sha256_file(path)


def read_values(path: Path, digest: str) -> tuple[QueryFigures, ...]:
    """Read what `write_values` wrote.

    Args:
        digest: The SHA-256 that the JSON of the figures says the file has.

    Raises:
        BeirHybridError: the file is broken, or belongs to other figures.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if sha256_file(path) != digest:
        raise BeirHybridError(
            f"{path}: belongs to other figures than those beside it (its SHA-256 is not the one that they name). "
            "Put the two files of one evaluation together, or evaluate again."
        )
    try:
        table = parquet.read_table(path, columns=list(_COLUMNS), read_dictionary=list(_COLUMNS[:-1]))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        fault = " ".join(str(error).split())
        raise BeirHybridError(f"{path}: cannot be read ({fault}); expected the values of each question.") from None
    return tuple(_blocks(table.combine_chunks()))


def _repeated(names: Sequence[str], lengths: Sequence[int]) -> Any:
    """A dictionary-encoded column that holds each name so many times."""
    import pyarrow as pa

    number: dict[str, int] = {}
    codes = [number.setdefault(name, len(number)) for name in names]
    return pa.DictionaryArray.from_arrays(pa.array(np.repeat(codes, lengths), pa.int32()), pa.array(list(number)))


def _coded(parts: Sequence[Sequence[str]]) -> Any:
    """A dictionary-encoded column of ids; settings that ask the same questions share one sequence, coded once."""
    import pyarrow as pa

    number: dict[str, int] = {}
    coded: dict[int, npt.NDArray[np.int32]] = {}
    for part in parts:
        if id(part) not in coded:
            coded[id(part)] = np.array([number.setdefault(one, len(number)) for one in part], dtype=np.int32)
    codes = np.concatenate([coded[id(part)] for part in parts])
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(number), pa.string()))


def _blocks(table: Any) -> Iterator[QueryFigures]:
    """The rows cut where the key changes, or where the first question comes again (two systems of one name)."""
    codes, names = {}, {}
    for name in _COLUMNS[:-1]:
        column = table.column(name).combine_chunks()
        codes[name] = column.indices.to_numpy(zero_copy_only=False)
        names[name] = column.dictionary.to_pylist()
    values = table.column("value").to_numpy()
    change = np.zeros(max(len(values) - 1, 0), dtype=np.bool_)
    for name in _KEY:
        change |= np.diff(codes[name]) != 0
    bounds = [0, *(np.flatnonzero(change) + 1).tolist(), len(values)] if len(values) else []
    shared = _sharing()
    for start, end in itertools.pairwise(bounds):
        queries = codes["query"][start:end]
        again = [*(start + np.flatnonzero(queries == queries[0])).tolist(), end]
        for a, b in itertools.pairwise(again):
            key = {name: names[name][codes[name][a]] for name in _KEY}
            ids, items = (shared(codes[name][a:b], names[name], name) for name in ("query", "item"))
            yield QueryFigures(**key, ids=ids, items=items, values=values[a:b])


def _sharing() -> Callable[[npt.NDArray[Any], Sequence[str], str], tuple[str, ...]]:
    """Decodes ids; equal sequences become one, as they were when they were written."""
    known: dict[tuple[str, bytes], tuple[str, ...]] = {}

    def decode(codes: npt.NDArray[Any], names: Sequence[str], column: str) -> tuple[str, ...]:
        key = (column, codes.tobytes())
        if key not in known:
            known[key] = tuple(names[code] for code in codes.tolist())
        return known[key]

    return decode
