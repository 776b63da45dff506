"""Hindi-BEIR (arXiv 2408.09437): 15 Hindi collections, hosted as separate datasets of the Hugging Face hub.

12 are in BEIR's layout; the other three are the Hindi part of datasets that MTEB hosts, in its layout. A copy of a
repository is read from its folder in the user's data folder; else it is downloaded into the hub's own cache, and of it
only the tables that are needed.

CC News is the cross-lingual one: its questions are taken to be English and its passages Hindi. Where the files
themselves say the language of their rows (`metadata.language`), that holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.spec import CollectionSpec, Request
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import offline

CITATION = "Acharya, Murthy, Kumar, Sen 2024: Hindi-BEIR: A Large Scale Retrieval Benchmark in Hindi, arXiv 2408.09437"
HUB = "https://huggingface.co/datasets"
_LICENCE = "cc (no version given by its card)"
_SPLITS = ("test", "dev")  # what is read of a repository in BEIR's layout: the first that it has
_CONFIG = "hi"  # of the repositories in MTEB's layout


@dataclass(frozen=True)
class _Home:
    """A repository on the hub.

    Attributes:
        revision: A commit of it; None for its newest state. With one, it is in MTEB's layout.
    """

    repository: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """Its name within its organisation; also that of a copy of it."""
        return self.repository.partition("/")[2]

    @property
    def folder(self) -> str:
        """Where a copy is looked for in the data folder."""
        return f"hindi-beir/{self.name}"

    @property
    def tables(self) -> tuple[tuple[str, ...], ...]:
        """For each table the patterns of its files; one of them is enough."""
        if self.revision:
            return tuple((f"{_CONFIG}-{table}/test-*.parquet",) for table in ("corpus", "queries", "qrels"))
        plain = [(f"{table}.jsonl", f"{table}.jsonl.gz") for table in ("corpus", "queries")]
        return (*plain, tuple(f"qrels/{split}.{ending}" for split in _SPLITS for ending in ("tsv", "jsonl")))

    def complete(self, folder: Path) -> bool:
        """Whether every table is in the folder."""
        return all(any(one.is_file() for pattern in table for one in folder.glob(pattern)) for table in self.tables)

    def cached(self) -> Path | None:
        """The snapshot in the hub's cache, if every table is in it."""
        from huggingface_hub.constants import HF_HUB_CACHE

        home = Path(HF_HUB_CACHE) / f"datasets--{self.repository.replace('/', '--')}"
        try:
            revision = self.revision or (home / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        folder = home / "snapshots" / revision
        return folder if self.complete(folder) else None

    def fetched(self) -> Path:
        """The snapshot in the hub's cache, downloaded if it is not there.

        Raises:
            BeirHybridError: offline, or the hub does not give it.
        """
        by_hand = f"Or put a copy of {HUB}/{self.repository} at {self.folder} in a folder, and name that (--data-dir)."
        if offline():
            if folder := self.cached():
                return folder
            raise BeirHybridError(f"offline, and {self.repository} is not in the hub's cache. {by_hand}")
        from huggingface_hub import snapshot_download

        wanted = ["README.md", *(pattern for table in self.tables for pattern in table)]
        try:
            found = snapshot_download(
                self.repository, repo_type="dataset", revision=self.revision, allow_patterns=wanted
            )
        except Exception as error:  # of whichever HTTP client the hub's library has
            fault = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise BeirHybridError(f"{self.repository} cannot be had from the hub ({fault}). {by_hand}") from error
        return Path(str(found))


def read_home(
    folder: Path, name: str, info: CollectionInfo, query_language: str = "hi", *, allow_missing: bool = False
) -> MultilingualCollection:
    """Read a copy of one of the repositories: JSON lines in BEIR's layout, or else Parquet in that of the hub.

    Args:
        query_language: Of questions that do not say theirs.

    Raises:
        BeirHybridError: as `read_beir` and `read_hub_folder`.
    """
    from beir_hybrid.collections.readers.beir_folder import hub_configs, read_beir, read_hub_folder, splits

    if any((folder / file).is_file() for file in ("corpus.jsonl", "corpus.jsonl.gz")):
        found = splits(folder)
        split = next((one for one in _SPLITS if one in found), None)
        if split is None:
            raise unknown(f"split of {folder}:", _SPLITS[0], found)
        return read_beir(
            folder,
            name,
            info,
            split=split,
            language="hi",
            query_language=query_language,
            allow_missing=allow_missing,
        )
    return read_hub_folder(
        folder,
        name,
        info,
        config=_CONFIG if f"{_CONFIG}-corpus" in hub_configs(folder) else None,
        language="hi",
        query_language=query_language,
        allow_missing=allow_missing,
    )


def _spec(
    name: str,
    about: str,
    home: _Home,
    *,
    licence: str = _LICENCE,
    asked_in: str = "hi",
    counts: tuple[int | None, int | None] = (None, None),
    download: int | None = None,
) -> CollectionSpec:
    languages = tuple(dict.fromkeys((asked_in, "hi")))
    info = CollectionInfo(licence, CITATION, f"{HUB}/{home.repository}")

    def read(request: Request) -> MultilingualCollection:
        if request.languages != languages:
            raise BeirHybridError(
                f"hindi-beir-{name}: the questions are in {asked_in!r}, the passages in 'hi'; ask for both languages."
            )
        folder, origin = request.folder, info.origin
        if folder is None:
            folder = home.fetched()
            origin += f" at {folder.name}"
        return read_home(folder, request.name, replace(info, origin=origin), asked_in, allow_missing=request.partial)

    return CollectionSpec(
        name=f"hindi-beir-{name}",
        title=f"Hindi-BEIR, {about}",
        languages=languages,
        info=info,
        read=read,
        questions=counts[0],
        passages=counts[1],
        kinds=("mono",) if asked_in == "hi" else ("cross",),
        folder=home.folder,
        may_lack_passages=True,
        layout=f"a copy of the hub's dataset {home.repository}: {', '.join(table[0] for table in home.tables)}",
        download=download,
        is_here=lambda: home.cached() is not None,
    )


def _own(repository: str) -> _Home:
    return _Home(f"AIhnIndicRag/{repository}")


# Bytes as the hub shows them, to three digits; counts as MTEB publishes them.
SPECS: tuple[CollectionSpec, ...] = (
    _spec("arguana", "ArguAna: the counter-argument", _own("Hindi_Arguana"), download=35_400_000),
    _spec("fiqa", "FiQA: questions on finance", _own("Hindi_Fiqa")),
    _spec("trec-covid", "TREC-COVID: biomedical articles", _own("Hindi_Trec_Covid"), download=327_000_000),
    _spec("scidocs", "SCIDOCS: the cited article", _own("Hindi_Scidocs")),
    _spec("scifact", "SciFact: evidence for scientific claims", _own("Hindi_Scifact")),
    _spec("touche", "Touché: arguments", _own("Hindi_Touche"), download=3_120_000_000),
    _spec("nq", "Natural Questions", _own("Hindi_NQ")),
    _spec("fever", "FEVER: evidence for claims", _own("Hindi_Fever")),
    _spec(
        "climate-fever", "Climate-FEVER: evidence on the climate", _own("Hindi_Climate_Fever"), download=13_100_000_000
    ),
    _spec(
        "cc-news",
        "CC News, cross-lingual: English questions, Hindi articles unless the files say otherwise",
        _own("Hindi_cc_news"),
        asked_in="en",
    ),
    _spec("mmarco", "mMARCO: questions to a search engine", _own("mmarco_hindi")),
    _spec("miracl", "the Hindi part of MIRACL", _own("Hindi_Miracl"), licence="Apache-2.0"),
    _spec(
        "mldr",
        "MLDR: long documents",
        _Home("mteb/MultiLongDocRetrieval", "837028901907a7d419b4ab906f28e011ce1cc824"),
        licence="MIT",
        counts=(200, 3_806),
    ),
    _spec(
        "indicqa",
        "IndicQA: paragraphs of Wikipedia",
        _Home("mteb/IndicQARetrieval", "51e8b328988795d658f6f34acd34044e9346e2ee"),
        licence="CC0-1.0",
        counts=(1_544, 261),
    ),
    _spec(
        "wikipedia",
        "WikipediaRetrieval: synthetic questions on Wikipedia",
        _Home("mteb/WikipediaRetrievalMultilingual", "5f6c91d21f2f5b9afb663858d19848fbd223c775"),
        licence="CC BY-SA 3.0 (according to MTEB)",
        counts=(1_500, 13_500),
    ),
)
