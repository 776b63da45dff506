"""Copies of a model in processes of their own, one for each device, that encode together: several GPUs, one program."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from beir_hybrid.encoders.encoding import FloatArray, computing, vectors_of
from beir_hybrid.encoders.tokenised import IntArray, Tokenised
from beir_hybrid.errors import BeirHybridError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from sentence_transformers import SentenceTransformer

_AHEAD = 3
"""Batches that are made for each process before its first comes back."""
_POLL_SECONDS = 2.0


class Workers:
    """Processes that each hold a copy of a model; on CPUs they share its weights.

    The batches are those of one process, so that the vectors are the same whoever encodes them.
    """

    def __init__(self, model: SentenceTransformer, devices: Sequence[str]) -> None:
        """Start them.

        Args:
            model: Left on the device where it is.
            devices: As in torch; one may be named several times.
        """
        import torch

        context = multiprocessing.get_context("spawn")  # forking after a GPU or threads were used hangs
        self._tasks, self._results = context.Queue(), context.Queue()
        self._devices = tuple(devices)
        on_cpu = sum(torch.device(device).type == "cpu" for device in devices)
        threads = max(1, torch.get_num_threads() // max(1, on_cpu))
        home = model.device
        model.to("cpu").share_memory()
        self._processes: list[SpawnProcess] = []
        for device in devices:
            process = context.Process(
                target=_serve, args=(model, device, threads, self._tasks, self._results), daemon=True
            )
            process.start()
            self._processes.append(process)
        model.to(home)
        self.close = weakref.finalize(self, _stop, self._processes)

    def encode(
        self,
        tokens: Tokenised,
        dimension: int,
        precision: str,
        batches: Iterable[IntArray],
        advance: Callable[[int], object] = lambda done: None,
    ) -> FloatArray:
        """As `encoding.encode`.

        Raises:
            BeirHybridError: a process ended, or a batch failed in it. All are stopped then.
        """
        import torch

        vectors = np.empty((len(tokens), dimension), dtype=np.float32)
        waiting: dict[int, IntArray] = {}

        def take() -> None:
            number, found = self._result()
            rows = waiting.pop(number)
            vectors[rows] = found
            advance(len(rows))

        try:
            for number, rows in enumerate(batches):
                features = {
                    name: value.numpy() if torch.is_tensor(value) else value
                    for name, value in tokens.batch(rows).items()
                }
                self._tasks.put((precision, number, features))
                waiting[number] = rows
                if len(waiting) >= _AHEAD * len(self._processes):
                    take()
            while waiting:
                take()
        except BaseException:  # what is still under way would be taken for the next call's
            self.close()
            raise
        return vectors

    @property
    def alive(self) -> bool:
        """Whether they can be asked to encode."""
        return self.close.alive

    def _result(self) -> tuple[int, FloatArray]:
        while True:
            try:
                number, found = self._results.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                for device, process in zip(self._devices, self._processes, strict=True):
                    if not process.is_alive():
                        raise BeirHybridError(
                            f"the process that encodes on {device} has ended (exit code {process.exitcode}). It may "
                            "have been out of memory; or, in a script, the code that starts it must stand below "
                            "`if __name__ == '__main__':`."
                        ) from None
                continue
            if isinstance(found, str):
                raise BeirHybridError(found)
            return number, found


def _serve(model: SentenceTransformer, device: str, threads: int, tasks: Any, results: Any) -> None:
    """What a process does: batches in, vectors out, until the process that started it ends."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other one is told too, and stops this one
    torch.set_num_threads(threads)
    model.to(device)
    precision, number, features = _next(tasks)
    while True:
        with computing(model, current := precision):
            while precision == current:
                results.put((number, _encoded(model, features, precision, device)))
                precision, number, features = _next(tasks)


def _next(tasks: Any) -> Any:
    parent = multiprocessing.parent_process()
    while True:
        try:
            return tasks.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if parent is not None and not parent.is_alive():
                raise SystemExit from None


def _encoded(model: SentenceTransformer, features: dict[str, Any], precision: str, device: str) -> FloatArray | str:
    import torch

    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in features.items()
    }
    try:
        return vectors_of(model, tensors, precision)
    except Exception as error:  # whatever it is, the process that asked must hear of it
        return f"encoding on {device} failed: {type(error).__name__}: {str(error).strip()}"


def _stop(processes: list[SpawnProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
