"""Pyserini's own command on ids and questions that its readers would break if they were written as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beir_hybrid.anserini import jvm
from beir_hybrid.anserini.exporting.export import export_pyserini
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo
from tests.anserini.exporting.test_export import Random

reason = jvm.available()
PASSAGES = ["a b", "ä", "x\ny", 'q"q', "007", "#1", "日本", "a%41", "back\\slash", "'", "-", "0"]
QUESTIONS = {
    "01": "an emoji 😀 in it",
    "1": "a tab\there",
    "000": "  blanks, and one that does not break\u00a0end \u00a0",
    "b c": "line\nbreak\u2028and\u0085others\r\n",
    "x\ty": "สวัสดี",
    "5": "العربية\u200f \u200f",
    'x"y': "\"quoted\" 'twice'",
    "٣": "an id of Arabic digits",
    "²": "a digit that is no number",
    "marks": "\ufeffmarks\ufeff and \x0bcontrols\x0c \x1c",
    "planes": "𝔘𝔫𝔦 👨\u200d👩",
    "-5": "minus",
    "1e5": "a float",
    "9" * 20: "larger than any integer of Java",
}


@pytest.mark.skipif(reason is not None, reason=str(reason))
def test_pyserini_finds_what_we_do(tmp_path: Path) -> None:
    builder = CollectionBuilder("hard", ("en",), CollectionInfo("", "", "the test"))
    rows = [builder.add_passage(identifier, f"text {identifier} 😀", 0, "test") for identifier in PASSAGES]
    for number, (identifier, text) in enumerate(QUESTIONS.items()):
        builder.add_query(identifier, text, 0, str(number), rows[number % len(rows)], "test")
    exported = export_pyserini(Random(), builder.build(), tmp_path / "index")
    file = "hard.mono.en"
    command = [sys.executable, "-m", "beir_hybrid.anserini", "pyserini.search.faiss", "--index", ".", "--hits", "5"]
    command += ["--topics", f"topics/{file}.tsv", "--encoded-queries", f"queries/{file}", "--output", "run.txt"]
    done = subprocess.run(command, cwd=exported.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run: dict[str, list[str]] = {}
    for line in (exported.folder / "run.txt").read_text("ascii").splitlines():
        query, _, docid, *_ = line.split()
        run.setdefault(query, []).append(docid)
    queries = exported.settings["hard/mono/en"]
    best = np.argsort(-(queries.vectors @ exported.passages[:].T), axis=1)[:, :5]
    docids = list(exported.docids)
    assert run == {
        topic: [docids[row] for row in found] for topic, found in zip(queries.topic_ids, best.tolist(), strict=True)
    }
