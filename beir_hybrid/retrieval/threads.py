"""The threads that search."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

_SECONDS_A_TURN = 2e-4


def threads() -> int:
    """How many threads search: what this process may use, or was told to (OMP_NUM_THREADS)."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(may, int(told) if told.isdecimal() else may, 16))


@contextlib.contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Threads that score and choose on their own, one for each processor, while the BLAS and PyTorch start none.

    A BLAS with threads waits for all of them at the end of each product, and leaves all but one idle between products.
    """
    with _SEARCHES, ThreadPoolExecutor(threads(), initializer=_begin) as pool:
        yield pool


class _Searches:
    """What a search changes for the whole process, while any runs: it is as before after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._changed = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._running:
                self._changed.enter_context(_changed())
            self._running += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._changed.close()


@contextlib.contextmanager
def _changed() -> Iterator[None]:
    turn, torch = sys.getswitchinterval(), sys.modules.get("torch")
    torch_threads = torch.get_num_threads() if torch is not None else 0
    with threadpool_limits(1, user_api="blas"):
        # NumPy gives Python's lock back in each of its many calls. A thread that wants it again waits for a whole turn,
        # 5 ms by default, of one that makes Python objects: with short turns a search into dicts takes a tenth less.
        sys.setswitchinterval(min(turn, _SECONDS_A_TURN))
        try:
            yield
        finally:
            sys.setswitchinterval(turn)
            if torch is not None:
                torch.set_num_threads(torch_threads)  # some of what `_begin` tells a thread holds for all


def _begin() -> None:
    """PyTorch, where it is in use, starts no threads for this one."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


_SEARCHES = _Searches()
