"""JSON lines, plain or gzip: read one object at a time, in bounded memory, with the place of every fault."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from isal import igzip_lib

from beir_hybrid.errors import BeirHybridError

BLOCK = 2**18  # bytes; fits the processor cache, which makes it faster than 2**20
MAX_LINE = 64 * 2**20
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


def read_jsonl(path: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number, from 1, and the object of every line that is not blank.

    Args:
        path: UTF-8, plain or gzip; which of the two is seen from the first bytes, not from the name.
        what: What the file should be, for errors: `a corpus in JSON lines`.

    Raises:
        BeirHybridError: the file is missing, unreadable, cut short or corrupt, or a line is too long, not UTF-8 or
            not a JSON object. Raised when that line is reached; those before it have been yielded.
    """
    number = 0
    loads = orjson.loads
    for lines in _lines(path, what):
        for line in lines:
            number += 1
            try:
                record = loads(line)
            except orjson.JSONDecodeError:
                line = line.removeprefix(_BOM) if number == 1 else line
                if not line or line.isspace():
                    continue
                record = _second_look(line, f"{path}, line {number}", what)
            if type(record) is not dict:
                raise BeirHybridError(
                    f"{path}, line {number}: a JSON {_json_type(record)}, not an object; expected {what}."
                )
            yield number, record


def text_field(record: dict[str, Any], key: str, where: str, *, default: str | None = None) -> str:
    """The string at `key`; where it is missing or null, `default` if one is given.

    Raises:
        BeirHybridError: there is no string at `key`; begins with `where`.
    """
    value = record.get(key)
    if isinstance(value, str):
        return value
    if value is not None:
        raise BeirHybridError(f"{where}: {key!r} is a JSON {_json_type(value)}; expected a string.")
    if default is None:
        raise BeirHybridError(f"{where}: no {key!r}; expected a string. The object has {_keys(record)}.")
    return default


def id_field(record: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    """The id at the first of `keys` that is there: a string that is not empty, or a whole number, as decimal digits.

    Raises:
        BeirHybridError: there is no id; begins with `where`.
    """
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None:
            found = "empty" if value == "" else f"a JSON {_json_type(value)}"
            raise BeirHybridError(f"{where}: {key!r} is {found}; expected an id, a string or a whole number.")
    wanted = " or ".join(repr(key) for key in keys)
    raise BeirHybridError(f"{where}: no id; expected {wanted}. The object has {_keys(record)}.")


def _lines(path: Path, what: str) -> Iterator[list[bytes]]:
    """The lines of the file, without their ends, a block's worth at a time."""
    number = 0
    begun: list[bytes] = []  # a line that is not over yet; joined once, or a long one would be copied for each block
    length = 0
    try:
        for block in _blocks(path, what):
            first, *rest = block.split(b"\n")
            begun.append(first)
            length += len(first)
            # Only a line that spans blocks can be too long: a block is shorter than the limit.
            if length > MAX_LINE:
                raise BeirHybridError(f"{path}, line {number + 1}: longer than {MAX_LINE} bytes; expected {what}.")
            if rest:
                last = rest.pop()
                yield [b"".join(begun), *rest]
                number += 1 + len(rest)
                begun, length = [last], len(last)
    except (EOFError, igzip_lib.IsalError) as error:  # type: ignore[misc]  # a class, but declared an object
        fault = "ends too early" if isinstance(error, EOFError) else f"is corrupt ({error})"
        raise BeirHybridError(
            f"{path}: the gzip data {fault}; stopped after line {number}. "
            "The file may be cut short: fetch or write it again."
        ) from None
    if length:
        yield [b"".join(begun)]


def _blocks(path: Path, what: str) -> Iterator[bytes]:
    """The bytes of the file, unzipped, in blocks of bounded size."""
    try:
        with open(path, "rb") as raw:
            head = raw.read(len(_GZIP))
            rest = iter(lambda: raw.read(BLOCK), b"")  # not sought back to the start: the file may be a pipe
            yield from _unzipped(head, rest) if head == _GZIP else itertools.chain([head], rest)
    except FileNotFoundError:
        raise BeirHybridError(f"{path}: no such file; expected {what}.") from None
    except (OSError, ValueError) as error:  # a ValueError for a path with a zero byte
        fault = getattr(error, "strerror", None) or error
        raise BeirHybridError(f"{path}: cannot be read ({fault}); expected {what}.") from None


def _unzipped(waiting: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """The contents of the gzip members in `waiting` and what follows it."""
    # The file object for this (igzip.open) drops the lines before a fault together with the block that the fault is
    # in. This does not, so that the line in the error is the right one.
    while waiting:
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not member.eof:
            if member.needs_input and not waiting and not (waiting := next(rest, b"")):
                raise EOFError
            block, waiting = member.decompress(waiting, BLOCK), b""
            yield block
        waiting = member.unused_data.lstrip(b"\0")  # between and after the members there may be padding
        while not waiting and (block := next(rest, b"")):
            waiting = block.lstrip(b"\0")


def _second_look(line: bytes, where: str, what: str) -> Any:
    """What is in a line that was not plainly JSON, or the error that says what is wrong with it."""
    try:
        line.decode("utf-8")
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        fault = f"not valid JSON ({error.msg} at column {error.colno})"
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 at byte {error.start + 1} of the line"
    raise BeirHybridError(f"{where}: {fault}; expected {what}.")


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _keys(record: dict[str, Any]) -> str:
    return ", ".join(repr(key[:40]) for key in list(record)[:10]) or "no fields"
