"""Laying parallel pairs out on disk, and opening them again: seconds, memory, and how both grow.

    python benchmarks/open_pairs.py [ITEMS LANGUAGES]

400,000 items in 7 languages unless told otherwise, of generated texts of some 40 characters, in a temporary folder.
Each figure is from a fresh process; memory is the growth of its peak over what it had before, mapped files included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_CHILD = """
import json, resource, sys, time
from beir_hybrid.training.sources.store import PairRow, Part, Source, open_pairs
import scipy.sparse.csgraph, tqdm.auto

items, languages = int(sys.argv[1]), int(sys.argv[2])
CODES = [f"l{number}" for number in range(languages)]

def rows():
    for item in range(items):
        for code in CODES:
            yield PairRow(f"item {item}", code, f"what is said of {item * 7919} in {code}, please?",
                          f"of {item * 7919} it is said in {code} that it is so")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, started = peak(), time.perf_counter()
pairs = open_pairs(Source("generated", ["open_pairs", items, languages], lambda: [Part("generated", rows())]))
seconds = time.perf_counter() - started
assert len(pairs) == items and pairs.query_row.shape == (items, languages)
memory = peak() - before
assert pairs.pair(items // 2, 0, languages - 1)[0].endswith("in l0, please?")
print(json.dumps({"seconds": seconds, "memory": memory}))
"""


def measured(items: int, languages: int, cache: Path) -> tuple[dict[str, float], dict[str, float], float]:
    """Seconds and megabytes to lay out, and to open again; gigabytes on disk."""
    command = [sys.executable, "-c", _CHILD, str(items), str(languages)]
    environment = {**os.environ, "BEIR_HYBRID_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    runs = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        runs.append(json.loads(done.stdout))
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e9
    return runs[0], runs[1], size


def main() -> None:
    items, languages = (int(sys.argv[at]) if len(sys.argv) > at else value for at, value in ((1, 400_000), (2, 7)))
    found = []
    for count in (items // 2, items):
        with tempfile.TemporaryDirectory() as folder:
            laid, opened, size = measured(count, languages, Path(folder))
        found.append((laid, opened))
        print(
            f"{count:,} items x {languages} languages: laid out in {laid['seconds']:.1f} s "
            f"({count * languages / laid['seconds']:,.0f} pairs a second), {laid['memory']:,.0f} MB more memory at "
            f"most, {size:.2f} GB on disk; opened again in {opened['seconds']:.3f} s, {opened['memory']:.1f} MB more"
        )
    (half, half_opened), (whole, opened) = found
    print(
        f"the whole over half of it: laying out {whole['seconds'] / half['seconds']:.2f} times the seconds, "
        f"{whole['memory'] / max(half['memory'], 0.1):.2f} times the memory; opening "
        f"{opened['seconds'] / half_opened['seconds']:.2f} times the seconds, "
        f"{opened['memory'] - half_opened['memory']:+.1f} MB"
    )


if __name__ == "__main__":
    main()
