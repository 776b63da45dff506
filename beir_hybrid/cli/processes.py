"""Several processes that run one command together, as torchrun starts them: the first decides and speaks for all.

An error is told once. The first process tells its own and ends, and whoever started the processes then ends the others.
These wait a while with what they have to say: most often the first has found out the same.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import typer

from beir_hybrid.errors import BeirHybridError

_T = TypeVar("_T")

PATIENCE = 10.0
"""Seconds that a process leaves the first one to tell an error and to tidy up."""
_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_NUMBERS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Where torchrun, accelerate and mpirun say how many processes there are, and which is this one."""


def started() -> int:
    """How many processes were started together."""
    return _number(_COUNTS, 1)


def is_first() -> bool:
    """Whether this is the first of them."""
    return _number(_NUMBERS, 0) == 0


def _number(names: tuple[str, ...], otherwise: int) -> int:
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), otherwise)


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """What is wrong with the call itself every process finds out: the first tells it."""
    try:
        yield
    except Exception:
        if not is_first():
            time.sleep(PATIENCE)
        raise


def refuse_several(command: str) -> None:
    """Refuse a command that must run in one process.

    Raises:
        BeirHybridError: there are several.
    """
    if started() > 1:
        with told_once():
            raise BeirHybridError(f"{command} runs in one process; of several, start `beir-hybrid train`.")


class Processes:
    """The processes of a command, seen from one of them; where there is only one, nothing here does anything.

    Attributes:
        count: How many they are.
        index: Which this one is, from 0.
    """

    def __init__(self, count: int = 1, index: int = 0) -> None:
        self.count, self.index = count, index

    def first(self, do: Callable[[], _T]) -> _T:
        """What `do` returns in the first process, where alone it is called; an error there ends all of them."""
        if self.count == 1:
            return do()
        if self.index:
            done, value = self._sent(None)
            if not done:
                time.sleep(PATIENCE)
                raise typer.Exit(2)
            return value  # type: ignore[no-any-return]
        try:
            result = do()
        except BaseException:
            self._sent((False, None))
            raise
        self._sent((True, result))
        return result

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()

    def gathered(self, value: _T) -> list[_T]:
        """What each process gives, in their order."""
        found = [value] * self.count
        if self.count > 1:
            import torch.distributed

            torch.distributed.all_gather_object(found, value)
        return found

    def check_equal(self, settings: Mapping[str, Any]) -> None:
        """Refuse to go on together with other settings, as on machines with other files or other processors.

        Raises:
            BeirHybridError: a setting is another in some process; says which.
        """
        found = self.gathered(dict(settings))
        for number, other in enumerate(found):
            for name in {**found[0], **other}:
                if (mine := found[0].get(name)) != (its := other.get(name)):
                    raise BeirHybridError(
                        f"the processes differ in {name}: {mine} in the first, {its} in number {number}. Give all of "
                        "them the same command, files and kind of machine."
                    )

    def _sent(self, value: Any) -> Any:
        """The value that the first process sends to all."""
        import torch.distributed

        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextlib.contextmanager
def together(timeout: float) -> Iterator[Processes]:
    """The processes of this command, connected to each other as long as it runs.

    Args:
        timeout: Seconds after which a process no longer waits for another.

    Raises:
        BeirHybridError: they cannot be connected, or another process has ended.
    """
    if started() == 1:
        yield Processes()
        return
    with told_once():
        processes = _connected(timeout)
        try:
            yield processes
        except RuntimeError as error:
            if processes.index or not _is_lost(error):
                raise
            # Its own message stands above, and this one would only tell that a connection was closed.
            raise BeirHybridError("another process of this training has ended; see what it said.") from error
    # No process ends, and takes its connections away, while another still needs them. They are never cut: `__main__`.
    processes.wait()


def _connected(timeout: float) -> Processes:
    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]
    from sentence_transformers.util import get_device_name

    device = get_device_name()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.startswith("cuda") and here > torch.cuda.device_count():
        raise BeirHybridError(
            f"{here} processes were started on a machine with {torch.cuda.device_count()} GPUs; start one for each "
            "GPU (--nproc-per-node), or hide the GPUs to train on processors (CUDA_VISIBLE_DEVICES='')."
        )
    try:
        state = PartialState(cpu=device == "cpu", timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BeirHybridError(
            f"the {started()} processes cannot be connected: {reason} Start them by torchrun or accelerate launch."
        ) from error
    if state.num_processes != started():
        raise BeirHybridError(
            f"{started()} processes were started and {state.num_processes} of them are connected; start them by "
            "torchrun."
        )
    return Processes(state.num_processes, state.process_index)


def _is_lost(error: RuntimeError) -> bool:
    """Whether it says that another process is no longer there."""
    text = str(error).lower()
    return any(words in text for words in ("closed by peer", "reset by peer", "broken pipe", "remote process exited"))
