"""Opening XQuAD-R from its 11 files: seconds, memory over the bare interpreter, and what all 132 views add to one.

    python benchmarks/load_xquad_r.py [FOLDER]

FOLDER holds xquad-r/en.json and its kin; by default ../shared/data/lareqa. Each figure is the best (seconds) or the
largest (memory) of five fresh processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "lareqa"
RUNS = 5

_CHILD = """
import json, resource, sys, time, tracemalloc

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

bare, started = megabytes(), time.perf_counter()
import beir_hybrid
collection = beir_hybrid.load("xquad-r", data_dir=sys.argv[1])
seconds, memory = time.perf_counter() - started, megabytes() - bare

import numpy as np
tracemalloc.start()

def use(settings):
    views = [collection.view(setting) for setting in settings]
    held = [(view, view.corpus, view.queries, view.qrels, view.query_rows) for view in views]
    for view, corpus, queries, qrels, rows in held:
        first = next(iter(qrels))
        assert queries[first] and corpus[next(iter(qrels[first]))]["text"]
    return held

one = use(collection.settings[:1])
texts = sum(sys.getsizeof(t) for c in (collection.queries, collection.passages) for t in (*c.texts, *c.ids))
of_one = tracemalloc.get_traced_memory()[0]
every = use(collection.settings)
of_all = tracemalloc.get_traced_memory()[0]
print(json.dumps({"seconds": seconds, "memory": memory, "texts": texts / 2**20, "one": of_one / 2**20,
                  "all": of_all / 2**20, "views": len(every)}))
"""


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED
    if not (folder / "xquad-r").is_dir():
        print(f"no XQuAD-R in {folder}: nothing measured. Give the folder that holds xquad-r/.")
        return
    runs = []
    for _ in range(RUNS):
        done = subprocess.run([sys.executable, "-c", _CHILD, str(folder)], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    seconds, memory = min(run["seconds"] for run in runs), max(run["memory"] for run in runs)
    print(f"open 11 files, imports included: {seconds:.2f} s (at most 1.5), {memory:.0f} MB over the interpreter (150)")
    run = runs[-1]
    ratio = (run["texts"] + run["all"]) / (run["texts"] + run["one"])
    print(
        f"{run['views']} views in use at once: {run['all']:.1f} MB beside {run['texts']:.1f} MB of texts; one view: "
        f"{run['one']:.1f} MB; all with the texts / one with the texts = {ratio:.3f} (at most 1.10)"
    )


if __name__ == "__main__":
    main()
