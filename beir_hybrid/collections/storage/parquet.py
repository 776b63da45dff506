"""Parquet, row by row."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from beir_hybrid.errors import BeirHybridError

_BATCH = 4096


def read_parquet(path: Path, what: str, columns: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows, numbered from 1, with those of the `columns` that the file has; a batch of rows is in memory at a time.

    Raises:
        BeirHybridError: the file is missing or broken; says after which row, and that `what` was expected.
    """
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in columns]
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except (pa.ArrowException, OSError, ValueError) as error:
        fault = " ".join(str(error).split())
        raise BeirHybridError(f"{path}: cannot be read after row {number} ({fault}); expected {what}.") from None
