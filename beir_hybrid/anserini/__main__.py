"""The process with Java that `jvm.JavaProcess` starts: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import os

from beir_hybrid.anserini.jvm import serve


def main() -> None:
    """Answer until nothing more is asked."""
    # Java prints to descriptor 1 as it likes: answers go through a copy of it, and what is printed goes to the log.
    with open(os.dup(1), "w", encoding="utf-8") as answer, open(0, encoding="utf-8", closefd=False) as requests:
        os.dup2(2, 1)
        serve(requests, answer)


if __name__ == "__main__":
    main()
