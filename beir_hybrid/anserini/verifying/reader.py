"""Our side of `readback`: asks the process with Java, and turns what it writes into arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beir_hybrid.anserini import commands
from beir_hybrid.anserini.exporting.exported import Exported, ExportedQueries
from beir_hybrid.anserini.jvm import JavaProcess
from beir_hybrid.anserini.verifying.agreement import FloatArray, Hits, IntArray
from beir_hybrid.retrieval.threads import threads

_READBACK = "beir_hybrid.anserini.verifying.readback"


class PyseriniReader:
    """An exported folder, as Pyserini reads it.

    Args:
        scratch: A folder for what it writes.
        depth: How many hits to ask for.
        timeout: Seconds that one step may take.
    """

    def __init__(
        self, java: JavaProcess, exported: Exported, scratch: Path, depth: int, timeout: float | None = None
    ) -> None:
        self._java, self._exported, self._scratch, self._depth, self._timeout = java, exported, scratch, depth, timeout
        self._folder = str(exported.folder.resolve())

    def versions(self) -> dict[str, str]:
        """Of what runs there."""
        found: dict[str, str] = self._java.call(f"{_READBACK}:versions", timeout=self._timeout)
        return found

    def search(self, queries: ExportedQueries) -> Hits:
        """What FaissSearcher finds with the encoded queries, in the order of the setting's questions."""
        encoded = f"queries/{queries.file}"
        return self._searched("search", f"topics/{queries.file}.tsv", queries.topic_ids, encoded=encoded)[0]

    def search_with_encoder(
        self, queries: ExportedQueries, flags: list[str], rows: IntArray
    ) -> tuple[Hits, FloatArray]:
        """What FaissSearcher finds for some of the questions with Pyserini's own encoder, and its vectors of them."""
        asked = [queries.topic_ids[row] for row in rows]
        return self._searched("search_with_encoder", self._some_topics(queries, rows), asked, flags=flags)

    def search_command(
        self, queries: ExportedQueries, flags: list[str] | None = None, rows: IntArray | None = None
    ) -> Path:
        """The run that Pyserini's command line writes.

        Args:
            flags: For its own encoder; by default the encoded queries are taken.
            rows: Only some of the questions.
        """
        run = self._scratch / "run.txt"
        topics = f"topics/{queries.file}.tsv" if rows is None else self._some_topics(queries, rows)
        told = commands.search_arguments(queries.file, flags or (), run=str(run), topics=topics, hits=self._depth)
        self._command(commands.SEARCH, told)
        return run

    def evaluate(self, queries: ExportedQueries, run: Path) -> dict[str, dict[str, float]]:
        """What its trec_eval says of a run: measure -> question (and `all`) -> value."""
        told = commands.evaluate_arguments(queries.file, run=str(run), per_question=True)
        values: dict[str, dict[str, float]] = {name: {} for name in commands.MEASURES.values()}
        for line in self._command(commands.EVALUATE, told).splitlines():
            name, _, rest = line.partition("\t")
            question, _, value = rest.partition("\t")
            if measure := commands.MEASURES.get(name.strip()):
                values[measure][question] = float(value)
        return values

    def read_run(self, run: Path, topics: list[str], docids: list[str]) -> Hits:
        """A TREC run as hits, in the order of `topics`; what is not in the folder is no hit."""
        import pyarrow
        from pyarrow import compute, csv

        names = ["query", "q0", "passage", "rank", "score", "tag"]
        types = {"query": pyarrow.string(), "passage": pyarrow.string(), "score": pyarrow.float32()}
        rows = np.full((len(topics), self._depth), -1, dtype=np.int64)
        scores = np.full((len(topics), self._depth), -np.inf, dtype=np.float32)
        if not run.stat().st_size:
            return Hits(rows, scores)
        table = csv.read_csv(
            run,
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(column_types=types, include_columns=list(types), strings_can_be_null=False),
        )
        query = compute.index_in(table["query"], pyarrow.array(topics)).fill_null(-1).to_numpy().astype(np.int64)
        passage = compute.index_in(table["passage"], pyarrow.array(docids)).fill_null(-1).to_numpy()
        order = np.argsort(query, kind="stable")
        place = np.arange(len(order)) - np.searchsorted(query[order], query[order])
        order, place = order[place < self._depth], place[place < self._depth]
        kept = query[order] >= 0
        order, place = order[kept], place[kept]
        rows[query[order], place] = passage[order]
        scores[query[order], place] = table["score"].to_numpy()[order]
        return Hits(rows, scores)

    def _some_topics(self, queries: ExportedQueries, rows: IntArray) -> str:
        """A file of topics with those of some questions, as they stand in the folder."""
        lines = (self._exported.folder / "topics" / f"{queries.file}.tsv").read_bytes().split(b"\n")
        path = self._scratch / "topics.tsv"
        path.write_bytes(b"".join(lines[row] + b"\n" for row in rows))
        return str(path)

    def _searched(self, function: str, topics: str, asked: list[str], **call: Any) -> tuple[Hits, FloatArray]:
        output = self._scratch / "hits.npz"
        call |= {"folder": self._folder, "topics": topics, "output": str(output)}
        call |= {"depth": self._depth, "threads": threads()}
        self._java.call(f"{_READBACK}:{function}", timeout=self._timeout, **call)
        with np.load(output, allow_pickle=False) as found:
            place = {topic: row for row, topic in enumerate(found["topics"].tolist())}
            order = np.array([place.get(topic, -1) for topic in asked], dtype=np.int64)
            rows = np.where(order[:, None] >= 0, found["rows"][order], -1)
            hits = Hits(rows, found["scores"][order])
            return hits, found["vectors"][order] if "vectors" in found else np.empty((0, 0), dtype=np.float32)

    def _command(self, module: str, arguments: list[str]) -> str:
        call = {"folder": self._folder, "module": module, "arguments": arguments}
        return str(self._java.call(f"{_READBACK}:command", timeout=self._timeout, **call))
