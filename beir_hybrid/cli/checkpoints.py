"""The checkpoints of a training: where they lie, which are whole, and from which it goes on after a stop."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers import TrainerCallback

from beir_hybrid.cli.processes import Processes
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import as_one_error, check_writable, read_json, write_json

MARKER = "whole.json"
"""Written last into a checkpoint: the sizes of its files. A checkpoint without it, or with others, is never used."""
KEPT = 2
_STATE = "trainer_state.json"


def work_folder(output: Path) -> Path:
    """Where the checkpoints of a training to `output` lie: beside it, hidden."""
    return output.parent / f".{output.name}.training"


def drop_work(output: Path) -> None:
    """Remove what a training to `output` left behind that was stopped right after the model was in its place."""
    with contextlib.suppress(OSError), _locked(work_folder(output.resolve())):
        shutil.rmtree(work_folder(output.resolve()))


@contextlib.contextmanager
def training_folder(output: Path, save_steps: int) -> Iterator[Path]:
    """A folder for the trainer: removed at the end, unless there is a checkpoint to go on from."""
    # The first thing to happen: whoever may not write there learns it before the training.
    check_writable(output)
    if not save_steps:
        with tempfile.TemporaryDirectory(prefix="beir-hybrid-", ignore_cleanup_errors=True) as scratch:
            yield Path(scratch)
        return
    work = work_folder(output)
    with as_one_error(work):
        work.mkdir(exist_ok=True)
    with _locked(work):
        # The name of a temporary folder of `output`, and of nothing else's, left by a run that was killed.
        leftover = re.compile(re.escape(f".{output.name}.") + r"[a-z0-9_]{8}\.part")
        for path in output.parent.iterdir():
            if leftover.fullmatch(path.name) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        try:
            yield work
        except BaseException:
            if not whole_checkpoints(work):
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[None]:
    try:
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout:
        raise BeirHybridError(f"{work}: another process is training to this output; wait for it.") from None


def whole_checkpoints(work: Path) -> list[Path]:
    """The checkpoints that were written in full, the last one first."""
    found = [path for path in work.glob("checkpoint-*") if is_whole(path)]
    return sorted(found, key=step_of, reverse=True)


def checkpoint_of(work: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return work / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def is_whole(checkpoint: Path) -> bool:
    """Whether all that was written into a checkpoint is there."""
    try:
        sizes = json.loads((checkpoint / MARKER).read_bytes())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


class CheckpointCallback(TrainerCallback):
    """Marks a checkpoint once every process has written its part, and only then removes older ones.

    The last step has no checkpoint, since the model follows; where the best is looked for, it may be the last step's.
    """

    def __init__(self, processes: Processes, keeps_best: bool) -> None:
        self.processes, self.keeps_best = processes, keeps_best

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.best_global_step:  # read from a checkpoint, whose folder may have been moved since
            state.best_model_checkpoint = str(checkpoint_of(Path(args.output_dir), state.best_global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps and not self.keeps_best:
            control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        work = Path(args.output_dir)
        folder = checkpoint_of(work, state.global_step)
        # Each process lists the random state that it has written itself, which another machine may see only later; the
        # first has written all else.
        own = f"rng_state_{self.processes.index}.pth" if self.processes.index else "*"
        files = sorted(path for path in folder.rglob(own) if path.is_file())
        mine = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
        sizes = {name: size for one in self.processes.gathered(mine) for name, size in one.items()}
        if self.processes.index == 0:
            write_json(folder / MARKER, sizes)
            best = checkpoint_of(work, state.best_global_step) if state.best_global_step else None
            for path in whole_checkpoints(work)[KEPT:]:
                if path != best:
                    shutil.rmtree(path, ignore_errors=True)


def begin(work: Path, settings: dict[str, Any], restart: bool) -> Path | None:
    """The checkpoint to go on from, if there is one; all that is of no use any more is removed.

    Raises:
        BeirHybridError: the checkpoints are of a training with other settings.
    """
    checkpoints = [] if restart else _usable(whole_checkpoints(work))
    if checkpoints:
        _check_same(work, settings)
    for path in work.glob("checkpoint-*"):
        if path not in checkpoints:
            shutil.rmtree(path, ignore_errors=True)
    write_json(work / "settings.json", settings)
    return checkpoints[0] if checkpoints else None


def _usable(checkpoints: Sequence[Path]) -> list[Path]:
    """Those that also have, beside them, the best so far that they speak of."""
    names = {path.name for path in checkpoints}
    best = {path: read_json(path / _STATE, "the state of a training").get("best_global_step") for path in checkpoints}
    return [path for path in checkpoints if not best[path] or f"checkpoint-{best[path]}" in names]


def _check_same(work: Path, settings: Mapping[str, Any]) -> None:
    way_out = "Give the settings that it was started with to go on with it, or --restart to drop it and start anew."
    try:
        earlier = dict(read_json(work / "settings.json", "the settings of a training"))
    except (BeirHybridError, TypeError, ValueError) as error:
        raise BeirHybridError(f"{work} holds a training whose settings cannot be read: {error} {way_out}") from None
    before, now = earlier.get("processes"), settings.get("processes")
    if before != now:
        # Other settings follow from it; and the batches of a step are those of all processes.
        raise BeirHybridError(
            f"{work} holds a training that was begun with {before} processes, and this one has {now}. Start as many, "
            "or give --restart to drop it and start anew."
        )
    differences = [
        f"{option_name(name)} was {_short(earlier.get(name))} and is {_short(settings.get(name))}"
        for name in {**settings, **earlier}
        if earlier.get(name) != settings.get(name)
    ]
    if differences:
        raise BeirHybridError(f"{work} holds another training that was stopped: {'; '.join(differences)}. {way_out}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:17]}…"


_OPTION_NAMES = {
    "max_steps": "steps",
    "per_device_train_batch_size": "batch_size",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "scheduler",
    "eval_steps": "save_steps",
}


def option_name(argument: str) -> str:
    """What the command line calls the argument."""
    return _OPTION_NAMES.get(argument, argument)
