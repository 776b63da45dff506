"""The one exception of this package for bad input: what is wrong, what was expected, what to do."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

_LISTED = 30


class BeirHybridError(Exception):
    """Bad input, a bad call or a machine that refuses (full disk, no permission).

    The message is one paragraph for the user: where (file, line, item), what is wrong, what was expected and the way
    out. The command line prints it and exits with code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> BeirHybridError:
    """The error for a `name` that is not among the `known` ones, with the nearest one suggested."""
    names = list(known)
    listed = names if len(names) <= _LISTED else [*names[:_LISTED], f"and {len(names) - _LISTED} more"]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return BeirHybridError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(listed)}.")


@contextlib.contextmanager
def library_errors(what: str, way_out: str) -> Iterator[None]:
    """Whatever a library, or what it stands on, raises is the one exception of this package: `what` failed."""
    try:
        yield
    except BeirHybridError:
        raise
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        fault = fault if len(fault) <= 300 else f"{fault[:300]}..."
        raise BeirHybridError(f"{what} ({fault}). {way_out}") from error
