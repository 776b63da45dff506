from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.pairs import ParallelPairs
from beir_hybrid.training.sources import read_parallel_text

LINES = {
    "en": ["Good day.", "  Bees\u2028fly.", "", "Alone.", "No one."],
    "de": ["Guten Tag.", "Bienen fliegen.", "Nur hier.", "", "Niemand."],
    "hi": ["नमस्ते।", "", "", " ", "कोई नहीं।\x85"],
}
SENTENCES = [
    {"en": "Good day.", "de": "Guten Tag.", "hi": "नमस्ते।"},
    {"en": "Bees\u2028fly.", "de": "Bienen fliegen."},
    {"en": "No one.", "de": "Niemand.", "hi": "कोई नहीं।"},
]


def moses(folder: Path, end: str = "\n") -> dict[str, Path]:
    files = {}
    for code, lines in LINES.items():
        data = "".join(line + end for line in lines).encode()
        files[code] = folder / (f"news.{code}" + ".gz" * (code == "de"))
        files[code].write_bytes(gzip.compress(data) if code == "de" else data)
    return files


def table(path: Path, *more: str) -> Path:
    rows = ["\t".join(LINES), *map("\t".join, zip(*LINES.values(), strict=True)), *more]
    path.write_bytes(b"\xef\xbb\xbf" + "".join(row + "\n" for row in rows).encode())
    return path


def sentences(pairs: ParallelPairs) -> list[dict[str, str]]:
    assert (pairs.query_row == pairs.passage_row).all()
    assert not pairs.same_language
    return [
        {
            code: pairs.query_texts[pairs.query_row[item, number]]
            for number, code in enumerate(pairs.languages)
            if pairs.query_row[item, number] >= 0
        }
        for item in range(len(pairs))
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_one_number_are_translations(tmp_path: Path, end: str) -> None:
    pairs = read_parallel_text(moses(tmp_path, end))
    assert (pairs.source, pairs.languages) == ("news", ("de", "en", "hi"))
    assert sentences(pairs) == SENTENCES
    assert len(pairs.query_texts) == 8  # each is stored once
    assert pairs.pair(0, 0, 1) == ("Guten Tag.", "Good day.")


def test_a_table_has_a_column_for_each_language(tmp_path: Path) -> None:
    path = table(tmp_path / "news.tsv")
    pairs = read_parallel_text(path, name="mine")
    assert (pairs.source, sentences(pairs)) == ("mine", SENTENCES)
    zipped = tmp_path / "news.tsv.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert read_parallel_text(zipped).digest == pairs.digest
    part = read_parallel_text(path, ["hi", "en"])
    assert part.languages == ("hi", "en")
    assert sentences(part) == [
        {code: row[code] for code in ("hi", "en")} for row in (SENTENCES[0], SENTENCES[2])
    ]  # fmt: skip


def test_faults(tmp_path: Path) -> None:
    files = moses(tmp_path)
    with files["hi"].open("a", encoding="utf-8") as stream:
        stream.write("और\nऔर")
    with pytest.raises(BeirHybridError, match=r"different numbers of lines: 5 in .*news\.en, 5 in .*, 7 in .*news\.hi"):
        read_parallel_text(files)
    with pytest.raises(BeirHybridError, match="1 files of parallel text were named"):
        read_parallel_text({"en": files["en"]})
    with pytest.raises(BeirHybridError, match="nowhere: cannot be read"):
        read_parallel_text(tmp_path / "nowhere")
    with pytest.raises(BeirHybridError, match=r"bad\.tsv, line 7: 2 columns; expected 3 \(en, de, hi\)"):
        read_parallel_text(table(tmp_path / "bad.tsv", "a\tb"))
    with pytest.raises(BeirHybridError, match=r"news\.en, line 1: 'Good day\.'; expected two or more"):
        read_parallel_text(files["en"])
    (tmp_path / "twice.tsv").write_text("en\ten\na\tb\n")
    with pytest.raises(BeirHybridError, match=r"line 1: 'en, en'; expected two or more different"):
        read_parallel_text(tmp_path / "twice.tsv")
    (tmp_path / "bytes.tsv").write_bytes(b"en\tde\na\tb\xff\n")
    with pytest.raises(BeirHybridError, match=r"line 2: not UTF-8 at byte 4"):
        read_parallel_text(tmp_path / "bytes.tsv")
    (tmp_path / "empty.tsv").write_text("en\tde\n\tb\n")
    with pytest.raises(BeirHybridError, match="no texts at all"):
        read_parallel_text(tmp_path / "empty.tsv")
    whole = gzip.compress(table(tmp_path / "a.tsv").read_bytes())
    for number, data in enumerate((whole[:-9], whole[:20] + b"\xff" * 9 + whole[29:])):
        (tmp_path / f"cut{number}.gz").write_bytes(data)
        with pytest.raises(BeirHybridError, match=rf"cut{number}\.gz: cannot be read after line \d"):
            read_parallel_text(tmp_path / f"cut{number}.gz")
