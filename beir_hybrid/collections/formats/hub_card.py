"""`README.md` of a hub dataset: a header for machines, and what people must know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

CARD = "README.md"
# The hub's own names of licences; a card with another one says `other`.
_HUB_LICENCES = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}


def hub_card(
    title: str,
    about: Mapping[str, Any],
    configs: Mapping[str, Sequence[tuple[str, str]]],
    *,
    more: Mapping[str, Any] | None = None,
    body: str = "",
) -> str:
    """The text of the card.

    Args:
        about: `licence`, `languages`, `origin` and `citation` of the texts.
        configs: Config -> its splits, each with the file or the pattern of its files.
        more: What else stands in the header.
        body: What is said below the licence and the origin.
    """
    import yaml

    licence = about["licence"]
    code = re.sub(r" *\(.*\)", "", licence).lower().replace(" ", "-")
    header: dict[str, Any] = {"license": code if code in _HUB_LICENCES else "other"}
    if code not in _HUB_LICENCES:
        header["license_name"] = licence
    header["language"] = sorted({part.split("~")[0] for one in about["languages"] for part in one.split("+")})
    header |= more or {}
    header["configs"] = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits]}
        for name, splits in configs.items()
    ]
    said = [("Licence", licence), ("From", about["origin"]), ("Cite", about["citation"])]
    lines = [f"# {title}", *(f"{key}: {value}" for key, value in said if value), *([body] if body else [])]
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n" + "\n\n".join(lines) + "\n"
