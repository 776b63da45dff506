"""Planning the next piece of an epoch in a thread, while the last one is trained on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from beir_hybrid.training.planning import EpochPlan

_THREADS = 2
"""One piece is being waited for and one is planned ahead. The arrays are large: most of the time Python waits too."""


class PlannedAhead:
    """Pieces of epochs, drawn in threads: the one that is asked for, and the one after it. More would take memory.

    Args:
        draw: The plan of a piece, of the epoch and the piece's number. Called in several threads at once.
    """

    def __init__(self, draw: Callable[[int, int], EpochPlan]) -> None:
        self._draw = draw
        self._pool: ThreadPoolExecutor | None = None
        self._begun: dict[tuple[int, int], Future[EpochPlan]] = {}

    def get(self, epoch: int, number: int, pieces: int) -> EpochPlan:
        """The plan of piece `number` of as many of an epoch. What went wrong in the thread is raised here."""
        self._pool = self._pool or ThreadPoolExecutor(_THREADS, thread_name_prefix="plan")
        wanted = [(epoch, one) for one in range(number, min(number + 2, pieces))]
        for key in [key for key in self._begun if key not in wanted]:
            self._begun.pop(key).cancel()
        for key in wanted:
            if key not in self._begun:
                self._begun[key] = self._pool.submit(self._draw, *key)
        return self._begun.pop(wanted[0]).result()

    def __getstate__(self) -> dict[str, object]:
        return {"_draw": self._draw, "_pool": None, "_begun": {}}
