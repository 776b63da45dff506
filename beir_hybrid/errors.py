"""The one exception of this package for bad input: what is wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
