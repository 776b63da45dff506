"""What is known of a collection before it is read: a declaration, and the reader to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from beir_hybrid.collections.collection import CollectionInfo, Kind, MultilingualCollection, Setting
from beir_hybrid.collections.names import SENTENCE, Part, parse_name
from beir_hybrid.collections.storage.fetch import RemoteFile
from beir_hybrid.errors import BeirHybridError


@dataclass(frozen=True)
class Request:
    """What a reader is asked for.

    Attributes:
        name: What the collection is to be called.
        languages: Which of the spec's languages, in its order.
        folder: Where the user has the files; None for the cache, or wherever the reader gets them.
        text_mode: One of the spec's.
        partial: Leave out judged passages that the corpus lacks, rather than refuse.
    """

    name: str
    languages: tuple[str, ...]
    folder: Path | None = None
    text_mode: str = SENTENCE
    partial: bool = False


Reader = Callable[[Request], MultilingualCollection]


@dataclass(frozen=True)
class CollectionSpec:
    """A collection by name. Other packages add theirs in the entry point group `beir_hybrid.collections`.

    Attributes:
        name: Letters, digits, `-` and `_`.
        read: Makes the collection.
        questions, passages: How many there are in all languages; None where nobody has counted.
        kinds: The kinds of setting that it has. With `mono` alone, a setting is read without the other languages.
        text_modes: The first is the default.
        may_lack_passages: Whether its judgements name passages that the corpus may not have.
        judged: Whether its judgements are published; a test set may keep them back.
        folder: The name of its folder in the user's data folder, if it is not the collection's.
        layout: What has to be in that folder, in words.
        files: The publisher's files, where they are fixed.
        download: Bytes to download; None if unknown, 0 for what is bundled.
        is_here: Whether it can be read without the network, when the user names no folder.
    """

    name: str
    title: str
    languages: tuple[str, ...]
    info: CollectionInfo
    read: Reader
    questions: int | None = None
    passages: int | None = None
    kinds: tuple[Kind, ...] = ("mono", "cross", "multi")
    text_modes: tuple[str, ...] = (SENTENCE,)
    may_lack_passages: bool = False
    judged: bool = True
    folder: str = ""
    layout: str = "its files"
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    download: int | None = None
    is_here: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        part, setting = parse_name(self.name)
        if str(part) != part.base or setting:
            raise BeirHybridError(f"{self.name!r} cannot be a collection's name: letters, digits, '-' and '_' only.")

    @property
    def bundled(self) -> bool:
        """Whether it ships with its package."""
        return self.download == 0

    def settings(self, part: Part | None = None) -> tuple[Setting, ...]:
        """The settings of a part, or of all, as far as the languages tell; blends are not among them."""
        name, codes = str(part or self.name), (part and part.languages) or self.languages
        found = {
            "mono": [Setting(name, "mono", a) for a in codes],
            "cross": [Setting(name, "cross", a, b) for a in codes for b in codes if a != b],
            "multi": [Setting(name, "multi", a) for a in codes if len(codes) > 1],
        }
        return tuple(setting for kind in self.kinds for setting in found.get(kind, ()))
