"""An exported folder, read back by Pyserini itself and compared with our own ranking, question by question.

Pyserini runs in a process of its own: its FaissSearcher, its command line and its trec_eval, on the files that a user
has. Where there is no Java, Faiss alone reads the folder as Pyserini's searcher does, and the result says what was not
looked at.
"""

from __future__ import annotations

import locale
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.anserini import commands, jvm
from beir_hybrid.anserini.exporting.exported import Exported, ExportedQueries
from beir_hybrid.anserini.verifying.agreement import (
    Agreement,
    FloatArray,
    Hits,
    IntArray,
    Scorer,
    compare_hits,
    unsettled,
)
from beir_hybrid.anserini.verifying.reader import PyseriniReader
from beir_hybrid.anserini.verifying.verification import HitsCheck, MeasureCheck, Verification
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import sha256_file, write_json
from beir_hybrid.retrieval.search import top_k
from beir_hybrid.version import __version__

DEPTH, ENCODED = 100, 100
TOLERANCE = 1e-5
RECORD = "verification.json"
_LEAST_COSINE = 0.999
_FEW = 8
"""Questions for which the command line is let encode them, one by one."""
_DIGITS = 5.1e-5
"""What trec_eval's four digits leave open."""
_PAIRS = 8192
_TIE = 1e-6


def verify_export(
    exported: Exported, *, depth: int = DEPTH, encoded: int | None = ENCODED, timeout: float | None = None
) -> Verification:
    """Search an exported folder with Faiss and with Pyserini, compare with our ranking, and record it in the folder.

    Every question of every exported setting is compared: the same `depth` passages, scores within 1e-5 (passages whose
    scores are nearer than that stand in any order), and trec_eval's measures. Of an approximate index the hits must be
    Faiss's own, and its recall is told.

    Args:
        depth: How many passages are compared for each question.
        encoded: For how many questions of each setting, spread over it, Pyserini's own encoder is tried, where the
            folder has one: it takes one text at a time. None for all.
        timeout: Seconds that one step in the other process may take.

    Returns:
        What was found; also written to `verification.json` in the folder.

    Raises:
        BeirHybridError: the index cannot be read at all, or Pyserini's process failed or took too long.
    """
    from tqdm.auto import tqdm

    check = _Check(exported, depth, encoded)
    no_java = jvm.available()
    with ExitStack() as stack:
        if no_java is None and not check.problems:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-")))
            java = stack.enter_context(jvm.JavaProcess())
            check.pyserini = PyseriniReader(java, exported, scratch, check.depth, timeout)
            check.versions |= check.pyserini.versions()
        settings = () if check.problems else exported.settings.values()
        for queries in tqdm(settings, desc="Reading back", unit="setting", disable=None):
            check.setting(queries)
    found = check.verification(no_java)
    about = {"manifest_sha256": sha256_file(exported.folder / "manifest.json")}
    write_json(exported.folder / RECORD, found.describe() | about)
    return found


class _Check:
    """The comparisons of one folder, gathered."""

    def __init__(self, exported: Exported, depth: int, encoded: int | None) -> None:
        import faiss

        self._exported, self._encoded = exported, encoded
        self._docids = list(exported.docids)
        self.depth = min(depth, len(self._docids))
        try:
            self._index = faiss.read_index(str(exported.folder / "index"))
        except RuntimeError as error:
            raise BeirHybridError(
                f"{exported.folder / 'index'}: Faiss cannot read it ({str(error).splitlines()[0]}). Export again."
            ) from None
        self._exact = isinstance(self._index, faiss.IndexFlat)
        self.versions = {"beir_hybrid": __version__, "faiss": faiss.__version__}
        self.problems = self._file_problems()
        self.pyserini: PyseriniReader | None = None
        self._hits: list[HitsCheck] = []
        self._measures: list[MeasureCheck] = []
        self._recall: dict[str, float] = {}
        self._vectors: dict[str, float] = {}

    def setting(self, queries: ExportedQueries) -> None:
        """Compare all that can be for the questions of one setting."""
        expected, score = self._expected(queries.vectors, queries.view.name)
        self._note(queries, "Faiss", self._by_faiss(queries.vectors), expected, score)
        if (pyserini := self.pyserini) is None:
            return
        self._note(queries, "FaissSearcher", pyserini.search(queries), expected, score)
        run = pyserini.search_command(queries)
        found = pyserini.read_run(run, queries.topic_ids, self._docids)
        agreement = self._note(queries, "command line", found, expected, score)
        if len(queries.view.judgements.queries):
            self._measure(queries, expected, agreement, pyserini.evaluate(queries, run))
        if self._flags:
            self._encoder(queries, pyserini)

    def verification(self, no_java: str | None) -> Verification:
        """All that was compared."""
        found = (tuple(self._hits), tuple(self._measures), self._recall, self._vectors)
        return Verification(
            self.depth, TOLERANCE, *found, tuple(self._left_out(no_java)), tuple(self.problems), self.versions
        )

    def _file_problems(self) -> list[str]:
        """What is wrong with `index` and `docid`, read as Pyserini does: in the locale's encoding, lines stripped."""
        path, shape = self._exported.folder / "docid", self._exported.passages.shape
        with open(path, encoding=locale.getpreferredencoding(False), errors="replace") as lines:
            read = [line.rstrip() for line in lines]
        problems = []
        if read != self._docids:
            pairs = enumerate(zip(read, self._docids, strict=False))
            row = next((i for i, (one, other) in pairs if one != other), min(len(read), len(self._docids)))
            problems.append(f"docid: {len(read)} lines for {len(self._docids)} passages; row {row} is another id.")
        if (self._index.ntotal, self._index.d) != shape:
            problems.append(
                f"index: {self._index.ntotal} vectors of {self._index.d}; {shape[0]} of {shape[1]} expected."
            )
        return problems

    def _encoder(self, queries: ExportedQueries, pyserini: PyseriniReader) -> None:
        """Search with the query vectors that Pyserini makes itself."""
        count = len(queries.ids)
        some = np.unique(np.linspace(0, count - 1, min(count, self._encoded or count)).astype(np.int64))
        ours = queries.vectors[some]
        found, vectors = pyserini.search_with_encoder(queries, self._flags, some)
        self._compare_vectors(queries, vectors, ours)
        # Where ours are rounded, Pyserini's hits must be the best ones for its own vectors.
        expected, score = self._expected(ours if self._full_precision else vectors)
        self._note(queries, "encoder", found, expected, score)
        if all(one.part != "encoder command" for one in self._hits):
            few = some[:_FEW]
            run = pyserini.search_command(queries, self._flags, few)
            found = pyserini.read_run(run, [queries.topic_ids[row] for row in few], self._docids)
            first = Hits(expected.rows[:_FEW], expected.scores[:_FEW])
            self._note(queries, "encoder command", found, first, score)

    def _compare_vectors(self, queries: ExportedQueries, vectors: FloatArray, ours: FloatArray) -> None:
        apart = float(np.abs(vectors - ours).max(initial=0.0))
        cosine = float((vectors * ours).sum(axis=1).min(initial=1.0))
        self._vectors["largest_difference"] = max(apart, self._vectors.get("largest_difference", 0.0))
        self._vectors["least_cosine"] = min(cosine, self._vectors.get("least_cosine", 1.0))
        if not cosine >= _LEAST_COSINE:
            self.problems.append(
                f"{queries.view.name}: a query vector of encoder/ has a cosine of {cosine:.4f} to the model's own."
            )

    def _measure(
        self, queries: ExportedQueries, expected: Hits, agreement: Agreement, theirs: dict[str, dict[str, float]]
    ) -> None:
        """trec_eval on Pyserini's run beside ir-measures on our ranking."""
        qrels = _judgements(queries, self._exported.passage_rows, self._docids)
        grades = _grades(queries, qrels, expected, self._docids)
        free = dict(zip(queries.topic_ids, agreement.open | unsettled(expected, grades, agreement.apart), strict=True))
        for measure, ours in _our_measures(queries, qrels, expected, self._docids).items():
            differ = [one for one in ours if not abs(ours[one] - theirs[measure].get(one, np.inf)) <= _DIGITS]
            open_ = sum(bool(free[topic]) for topic in differ)
            means = (float(np.mean([*ours.values()])), theirs[measure].get("all", float("nan")))
            self._measures.append(MeasureCheck(queries.view.name, measure, *means, len(differ) - open_, open_))

    def _note(self, queries: ExportedQueries, part: str, found: Hits, expected: Hits, score: Scorer) -> Agreement:
        there = np.abs(expected.scores[expected.rows >= 0])
        tolerance = TOLERANCE * max(1.0, float(there.max(initial=0.0)))  # of cosines; of larger scores, in proportion
        agreement = compare_hits(found, expected, tolerance, score)
        counts = (len(agreement.wrong), int(agreement.wrong.sum()), int(agreement.open.sum()))
        self._hits.append(HitsCheck(queries.view.name, part, *counts, agreement.apart, agreement.why))
        return agreement

    def _expected(self, vectors: FloatArray, name: str | None = None) -> tuple[Hits, Scorer]:
        """What must be found, and the score of what is not among it: our ranking, or, approximately, Faiss's own."""
        if self._exact or name is not None:
            scores, rows = top_k(vectors, self._exported.passages, self.depth, self._docids)
            ours = Hits(rows, scores)
        if self._exact:
            return ours, self._scorer(vectors)
        found = self._by_faiss(vectors)
        if name is not None:
            self._recall[name] = self._recall_of(found, ours, self._scorer(vectors))
        last = np.where(found.rows >= 0, found.scores, np.inf).min(axis=1, initial=np.inf)
        return found, lambda questions, _: last[questions]

    def _recall_of(self, found: Hits, exact: Hits, score: Scorer) -> float:
        """The share of hits that are as good as the last of the exact ones: ties do no harm."""
        questions, places = np.nonzero(found.rows >= 0)
        good = score(questions, found.rows[questions, places]) >= exact.scores[questions, -1] - _TIE
        return float(good.sum() / max(exact.rows.size, 1))

    def _by_faiss(self, vectors: FloatArray) -> Hits:
        scores, rows = self._index.search(np.ascontiguousarray(vectors, dtype=np.float32), self.depth)
        return Hits(rows.astype(np.int64), scores)

    def _scorer(self, vectors: FloatArray) -> Scorer:
        def score(questions: IntArray, passages: IntArray) -> npt.NDArray[Any]:
            found = np.empty(len(questions))
            for start in range(0, len(questions), _PAIRS):
                some = slice(start, start + _PAIRS)
                found[some] = (vectors[questions[some]] * self._exported.passages[passages[some]]).sum(axis=1)
            return found

        return score

    @property
    def _flags(self) -> list[str]:
        """Of Pyserini's encoder; none where the folder has no encoder."""
        return list((self._exported.manifest.get("query_encoder") or {}).get("flags") or [])

    @property
    def _full_precision(self) -> bool:
        return bool((self._exported.manifest.get("precision") or {}).get("query") == "float32")

    def _left_out(self, no_java: str | None) -> list[str]:
        told = []
        if no_java:
            told.append(f"Pyserini's FaissSearcher, its command line and trec_eval, for there is no Java: {no_java}")
        if not self._exported.settings:
            told.append("any search, for no setting searches all of these passages; name one (--setting).")
        encoder = self._exported.manifest.get("query_encoder") or {}
        if not encoder.get("flags"):
            why = "; ".join(encoder.get("obstacles") or ["there is none"])
            told.append(f"Pyserini's own encoding of queries: {why}. The encoded queries serve.")
        elif not no_java and not self._full_precision and self._vectors:
            told.append(
                "that encoder/ ranks as our query vectors do, for those are rounded (bf16) and its are not; its hits "
                "are the best ones for its own vectors."
            )
        return told


def _judgements(queries: ExportedQueries, passage_rows: IntArray, docids: list[str]) -> dict[str, dict[str, int]]:
    """Question -> passage -> grade, by the ids in the folder."""
    judged = queries.view.judgements
    place = np.searchsorted(passage_rows, judged.passages)
    qrels: dict[str, dict[str, int]] = {}
    for query, passage, grade in zip(judged.queries.tolist(), place.tolist(), judged.grades.tolist(), strict=True):
        qrels.setdefault(queries.topic_ids[query], {})[docids[passage]] = int(grade)
    return qrels


def _grades(
    queries: ExportedQueries, qrels: dict[str, dict[str, int]], hits: Hits, docids: list[str]
) -> npt.NDArray[Any]:
    """The grade of each hit; 0 for what nobody judged."""
    rows = zip(queries.topic_ids, hits.rows.tolist(), strict=True)
    return np.array([[qrels.get(topic, {}).get(docids[row], 0) for row in found] for topic, found in rows])


def _our_measures(
    queries: ExportedQueries, qrels: dict[str, dict[str, int]], hits: Hits, docids: list[str]
) -> dict[str, dict[str, float]]:
    """Measure -> question -> value, of the questions that were judged."""
    import ir_measures

    rows = zip(queries.topic_ids, hits.rows.tolist(), hits.scores.tolist(), strict=True)
    run = {
        topic: {docids[row]: score for row, score in zip(found, scores, strict=True) if row >= 0}
        for topic, found, scores in rows
    }
    measures = {ir_measures.parse_measure(name): name for name in commands.MEASURES.values()}
    values: dict[str, dict[str, float]] = {name: {} for name in measures.values()}
    for found in ir_measures.iter_calc(list(measures), qrels, run):
        values[measures[found.measure]][found.query_id] = float(found.value)
    return values
