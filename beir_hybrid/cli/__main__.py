"""`python -m beir_hybrid.cli`, which torchrun and accelerate can start."""

import atexit
import os
import sys
import time

from beir_hybrid.cli import app, main
from beir_hybrid.cli.processes import PATIENCE, is_first, started

_status = 1


def _main() -> None:
    if is_first():
        main()
        return
    try:
        status = app(standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "exit_code"):  # a wrong call has one: the first process tells what is wrong with it
            raise
        time.sleep(PATIENCE)
        status = error.exit_code
    sys.exit(status)


def _end() -> None:
    """End without torch's destructors: about one process in twenty that was connected to others aborts in them."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(_status)


if started() > 1:
    atexit.register(_end)  # the first to be registered is the last to run
try:
    _main()
except SystemExit as end:
    _status = end.code if isinstance(end.code, int) else int(end.code is not None)
    raise
else:
    _status = 0
