"""The threads that search."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

_SECONDS_A_TURN = 5e-5


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
    with (
        threadpool_limits(1, user_api="blas"),
        _torch_in_one_thread() as begin,
        _TURNS.short(),
        ThreadPoolExecutor(threads(), initializer=begin) as pool,
    ):
        yield pool


@contextlib.contextmanager
def _torch_in_one_thread() -> Iterator[Callable[[], None] | None]:
    """What a thread begins with so that PyTorch, where it is in use, starts no others for it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield None
        return
    before = torch.get_num_threads()
    try:
        yield partial(torch.set_num_threads, 1)
    finally:
        torch.set_num_threads(before)  # some of what the threads were told holds for all


class _Turns:
    """Short turns at Python's lock while threads search.

    NumPy gives the lock back in each of its many calls. A thread that wants it again waits for a whole turn, 5 ms by
    default, of one that makes Python objects of its results; with short turns a search into dicts takes a tenth less.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._searches = 0
        self._before = 0.0

    @contextlib.contextmanager
    def short(self) -> Iterator[None]:
        with self._lock:
            if not self._searches:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _SECONDS_A_TURN))
            self._searches += 1
        try:
            yield
        finally:
            with self._lock:
                self._searches -= 1
                if not self._searches:
                    sys.setswitchinterval(self._before)


_TURNS = _Turns()
