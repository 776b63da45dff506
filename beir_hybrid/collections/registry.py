"""Names -> collections."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from beir_hybrid.collections.collection import CollectionInfo, MultilingualCollection
from beir_hybrid.collections.fetch import RemoteFile, fetch
from beir_hybrid.collections.lareqa import read_lareqa
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import cache_root

_LAREQA = "https://raw.githubusercontent.com/google-research-datasets/lareqa"
_LAREQA_CITATION = "Roy, Constant, Al-Rfou, Barua, Phillips, Yang 2020: LAReQA, arXiv 2004.05484"


@dataclass(frozen=True)
class CollectionSpec:
    """What is known of a collection before it is loaded.

    Attributes:
        files: Where each language's file is published; empty for what ships with the package.
        folder: Where it lies, for what ships with the package.
    """

    name: str
    title: str
    languages: tuple[str, ...]
    questions: int
    passages: int
    info: CollectionInfo
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def cache(self) -> Path:
        """Where downloaded files are kept."""
        return self.folder or cache_root() / "collections" / self.name

    @property
    def cached(self) -> bool:
        """Whether every file is on this machine already."""
        return all((self.cache / f"{language}.json").is_file() for language in self.languages)


def available() -> dict[str, CollectionSpec]:
    """The collections by name."""
    return dict(_SPECS)


def load(
    name: str, *, data_dir: str | Path | None = None, languages: Sequence[str] | None = None
) -> MultilingualCollection:
    """Load the collection called `name`.

    It is read from `data_dir/{name}`; without `data_dir`, from that place in the folder that `BEIR_HYBRID_DATA` names
    if it is there; else from the cache, where missing files are downloaded to and verified.

    Args:
        name: One of `available()`.
        data_dir: A folder with a folder of the collection's name in it, with one `{language}.json` a language.
        languages: Only these. The collection's name then says so (`xquad-r@de+en`), since figures on fewer languages
            are not comparable with those on all.

    Raises:
        BeirHybridError: unknown names; files that are missing, damaged, or cannot be fetched.
    """
    spec = _SPECS.get(name)
    if spec is None:
        raise unknown("collection", name, _SPECS)
    wanted = spec.languages
    if languages is not None:
        for code in languages:
            if code not in spec.languages:
                raise unknown(f"language in {name}:", code, spec.languages)
        wanted = tuple(code for code in spec.languages if code in set(languages))
        if not wanted:
            raise BeirHybridError(f"no language of {name} was asked for. Known: {', '.join(spec.languages)}.")
    folder = _folder(spec, data_dir, wanted)
    full_name = name if wanted == spec.languages else f"{name}@{'+'.join(wanted)}"
    return read_lareqa(folder, full_name, wanted, spec.info)


def _folder(spec: CollectionSpec, data_dir: str | Path | None, languages: Sequence[str]) -> Path:
    if spec.folder is not None:
        return spec.folder
    if data_dir is not None:
        folder = Path(data_dir) / spec.name
        if not folder.is_dir():
            raise BeirHybridError(
                f"{folder}: no such folder; expected {spec.languages[0]}.json and its kin there. "
                f"--data-dir names the folder that holds {spec.name}/."
            )
        return folder
    if (own := os.environ.get("BEIR_HYBRID_DATA")) and (Path(own) / spec.name).is_dir():
        return Path(own) / spec.name
    for language in languages:
        fetch(spec.files[language], spec.cache / f"{language}.json")
    return spec.cache


def _lareqa_files(base: str, table: str) -> dict[str, RemoteFile]:
    rows = (line.split() for line in table.strip().splitlines())
    return {code: RemoteFile(f"{base}/{code}.json", digest, int(size)) for code, size, digest in rows}


_XQUAD_R = _lareqa_files(
    f"{_LAREQA}/master/xquad-r",
    """
    ar 2234875 c52922d3b8ac1ae03ed5ac38647ad59870dca3dda2beefe18ecdc30729acb69d
    de 732156 16fb0f4bf4916154b585a20c24c66074591c9718a1affe764ff4697572328949
    el 2810127 163fd43ee785a30eb534ae2061e9eaa766a7ee4e8ffce5e4b422480c150f64b6
    en 628651 7b0954f39297c27a31fef610f0883337dd2907fa8699151dc922afdd0fa12ffe
    es 746335 f8e836b2d91009c4363e04315f7ede363eedbbb49c67dda60de6c4aa782f58de
    hi 2408404 ea45ba8ae4513d1533b222bebdc02a90bc319c055d3aeea68584a053d2e92872
    ru 2764904 7f4dff853538b9a5fcc28c070b8bb983a5c5d190ac747b8e005a1ada9cab18f1
    th 2618544 c3a041864c3a9fb0b4dd91cfdf99cf36b411b3e704c58a303c97bc6dc786cfe4
    tr 827827 f3e8c13002bbce154a4578f535f7533cb70f3da08840e6b62735935baec7bd94
    vi 1132303 e35926bf5cc6fc6ecbdfca49467aabeb454f08d152d7818143a906bd31dde995
    zh 959291 80c2cde7b9c2fb134c303cbb52f2ba396ead9eb0014aec43993543d2ba9e93ed
    """,
)
# Removed upstream after this commit.
_MLQA_R = _lareqa_files(
    f"{_LAREQA}/354d67d1cd066854cdfbf5ad0e6105528976141d/mlqa-r",
    """
    ar 3329081 2132fbc03208535c0fe01f2e2c5121d06f9c2aa799af93b0a719dbc105bdf137
    de 887185 ce9454dc5aa6f2d85c23cd6e49cb367fbb7c4c6e62d7f71e355c6b5dae4d0886
    en 2251129 fedd9a5cc0848dda80caf84aa36f482adaae230526a3f6e9e86926a93ef3b1e4
    es 819818 70ecba276b8c96a692b120693a595d076ce94ad21d4b28311538a9fcbfe0f9d7
    hi 3179023 4dd0fb3c06f737a5481d705bc1dcac7876712a5815c9265908fbb3a0696cb654
    vi 1807239 9d3baff6ba03e6793b25594217265ea59a136b9733833dca8a9582a84a78ff85
    zh 1360698 57f01d2fff50cf3392805635b01445339f225ad5bf28ba8443b12f8dbd1e69dc
    """,
)

_SAMPLE_INFO = CollectionInfo(
    licence="Apache-2.0",
    citation="Written for beir-hybrid.",
    origin="bundled with beir-hybrid",
)
_SAMPLE = Path(__file__).parent / "sample"

_SPECS: dict[str, CollectionSpec] = {
    spec.name: spec
    for spec in (
        CollectionSpec(
            name="xquad-r",
            title="XQuAD-R (LAReQA): parallel questions on Wikipedia in 11 languages",
            languages=tuple(_XQUAD_R),
            questions=13_090,
            passages=13_014,
            info=CollectionInfo("CC BY-SA 4.0", _LAREQA_CITATION, f"{_LAREQA}/master/xquad-r"),
            files=_XQUAD_R,
        ),
        CollectionSpec(
            name="mlqa-r",
            title="MLQA-R (LAReQA): partly parallel questions on Wikipedia in 7 languages",
            languages=tuple(_MLQA_R),
            questions=4_199,
            passages=20_534,
            info=CollectionInfo("CC BY-NC 4.0 (non-commercial)", _LAREQA_CITATION, f"{_LAREQA} at 354d67d, mlqa-r"),
            files=_MLQA_R,
        ),
        CollectionSpec(
            name="sample-train",
            title="The bundled sample: 24 paragraphs to train on, in 11 languages",
            languages=tuple(_XQUAD_R),
            questions=792,
            passages=1_089,
            info=_SAMPLE_INFO,
            folder=_SAMPLE / "train",
        ),
        CollectionSpec(
            name="sample-test",
            title="The bundled sample: 12 other paragraphs to test on, in 11 languages",
            languages=tuple(_XQUAD_R),
            questions=396,
            passages=539,
            info=_SAMPLE_INFO,
            folder=_SAMPLE / "test",
        ),
    )
}
