from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from beir_hybrid.collections.fetch import RemoteFile, fetch
from beir_hybrid.collections.registry import available, load
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import sha256_file
from tests.data import LAREQA, needs_lareqa

BODY = b'{"data": []}' * 1000


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {"/good": BODY, "/short": BODY[:-7], "/long": BODY + b"x", "/html": b"<html>" * 2000}.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE", "BEIR_HYBRID_DATA"):
        monkeypatch.delenv(name, raising=False)


def remote(url: str) -> RemoteFile:
    return RemoteFile(url, hashlib.sha256(BODY).hexdigest(), len(BODY))


def test_a_download_is_verified(server: str, tmp_path: Path) -> None:
    path = fetch(remote(f"{server}/good"), tmp_path / "a.json")
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("page", ["short", "long", "html", "missing"])
def test_a_wrong_download_leaves_nothing(server: str, tmp_path: Path, page: str) -> None:
    with pytest.raises(BeirHybridError, match=r"not the published file|cannot fetch"):
        fetch(remote(f"{server}/{page}"), tmp_path / "a.json")
    assert not list(tmp_path.glob("*a.json*"))


def test_offline_says_which_file_and_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BeirHybridError, match=r"offline, and ar\.json .* put it at .*xquad-r/ar\.json"):
        load("xquad-r")


def test_unknown_names() -> None:
    with pytest.raises(BeirHybridError, match="Did you mean 'xquad-r'"):
        load("xquad")
    with pytest.raises(BeirHybridError, match="unknown language in sample-test: 'xx'"):
        load("sample-test", languages=["en", "xx"])
    with pytest.raises(BeirHybridError, match="no language"):
        load("sample-test", languages=[])


def test_a_data_folder_without_the_collection(tmp_path: Path) -> None:
    with pytest.raises(BeirHybridError, match=r"xquad-r: no such folder"):
        load("xquad-r", data_dir=tmp_path)


def test_fewer_languages_have_another_name() -> None:
    collection = load("sample-test", languages=["es", "de"])
    assert collection.name == "sample-test@de+es"
    assert str(collection.settings[0]) == "sample-test@de+es/mono/de"


@pytest.mark.parametrize("name", [name for name, spec in available().items() if spec.folder])
def test_bundled_counts(name: str) -> None:
    spec, collection = available()[name], load(name)
    assert (len(collection.queries), len(collection.passages)) == (spec.questions, spec.passages)


@needs_lareqa
@pytest.mark.parametrize("name", ["xquad-r", "mlqa-r"])
def test_the_table_of_files_is_that_of_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = available()[name]
    for language, file in spec.files.items():
        path = LAREQA / name / f"{language}.json"
        assert (path.stat().st_size, sha256_file(path)) == (file.size, file.sha256)
        assert file.url.startswith("https://")
    monkeypatch.setenv("BEIR_HYBRID_DATA", str(LAREQA))
    collection = load(name)
    assert (len(collection.queries), len(collection.passages)) == (spec.questions, spec.passages)
