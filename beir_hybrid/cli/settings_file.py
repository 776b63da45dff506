"""YAML files of settings, and values of the types that are wanted."""

from __future__ import annotations

import contextlib
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from beir_hybrid.errors import BeirHybridError

ARGUMENTS = "arguments"
"""The key of a settings file under which other training arguments stand."""


def read_config(path: Path) -> dict[str, Any]:
    """What the YAML file holds, with underscores in its keys.

    Raises:
        BeirHybridError: it cannot be read, is no mapping of names, or names something twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise BeirHybridError(f"{path}: cannot be read ({error.strerror}); expected a YAML file.") from None
    except UnicodeDecodeError as error:
        raise BeirHybridError(f"{path}: not UTF-8 at byte {error.start}; expected a YAML file.") from None
    except RecursionError:
        raise BeirHybridError(f"{path}: nested too deeply for a file of settings.") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date like 2024-99-99 is a ValueError
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise BeirHybridError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise BeirHybridError(f"{path}: expected lines of `name: value`, as in `batch-size: 64`.")
    seen: set[str] = set()
    for key, _ in node.value:
        name = str(key.value).replace("-", "_")
        if name in seen:
            raise BeirHybridError(f"{path}, line {key.start_mark.line + 1}: {key.value} is there twice.")
        seen.add(name)
    found = {name.replace("-", "_"): value for name, value in content.items() if value is not None}
    if not isinstance(found.get(ARGUMENTS, {}), dict):
        raise BeirHybridError(f"{path}: arguments is {found[ARGUMENTS]!r}; expected lines of `name: value` below it.")
    return found


def as_mapping(setting: str, text: str) -> str | dict[str, Any]:
    """The mapping that a text writes out, with or without its braces; without a colon the text itself.

    Raises:
        BeirHybridError: it is no mapping after all.
    """
    if ":" not in text:
        return text
    with contextlib.suppress(yaml.YAMLError, ValueError):
        found = yaml.safe_load(text if text.strip().startswith("{") else f"{{{text}}}")
        if isinstance(found, dict):
            return found
    raise BeirHybridError(f"{setting} is {text!r}; expected one name, or names with their weights: 'x-y: 2, en-en: 1'.")


def as_type(value: Any, hint: Any) -> Any:
    """The value, as a number where one is wanted: YAML 1.1 reads 3e-5 as text.

    Raises:
        ValueError: it is of another type.
    """
    if fits(value, hint):
        return value
    if isinstance(value, str) and fits(1.5, hint):
        with contextlib.suppress(ValueError):
            return float(value)
    raise ValueError(value)


def is_list(hint: Any) -> bool:
    """Whether the hint is of a list, or of one or None."""
    return any(typing.get_origin(one) is list for one in (hint, *typing.get_args(hint)))


def fits(value: Any, hint: Any) -> bool:
    """Whether the value is of that type."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in typing.get_args(hint))
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
