from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.digests import model_digest, texts_digest
from beir_hybrid.encoders.shards import MANIFEST, shard_bytes, shard_name
from beir_hybrid.encoders.store import EmbeddingStore
from beir_hybrid.encoders.storing import encode_to_store, store_for
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import write_json

WORDS = ["river", "tower", "music", "engine", "garden", "winter", "letter", "market"]
TEXTS = [f"{' '.join(WORDS[: 1 + row % 7])} {row % 50}" for row in range(120)]
SHARD = 16


@pytest.fixture
def encoder(tiny_model: Path, one_thread: None) -> DenseEncoder:
    return DenseEncoder(tiny_model, precision="float32", batch_tokens=64, device="cpu", progress=False)


@pytest.fixture
def stored(encoder: DenseEncoder, tmp_path: Path) -> EmbeddingStore:
    return encode_to_store(encoder, TEXTS, "passage", tmp_path / "whole", shard_rows=SHARD)


def contents(folder: Path) -> dict[str, str]:
    """The files of a store and what is in them."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def write_store(folder: Path, vectors: np.ndarray, shard_rows: int) -> None:
    folder.mkdir()
    for number, start in enumerate(range(0, len(vectors), shard_rows)):
        data = shard_bytes(vectors[start : start + shard_rows])
        (folder / shard_name(number, hashlib.sha256(data).hexdigest())).write_bytes(data)
    about = {"rows": len(vectors), "dimension": vectors.shape[1], "dtype": str(vectors.dtype), "shard_rows": shard_rows}
    write_json(folder / MANIFEST, {"version": 1, **about})


class Counted(Sequence[str]):
    """Texts that count how often each is read."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.read, self.longest = texts, Counter[int](), 0

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, key: Any) -> Any:
        rows = range(len(self))[key] if isinstance(key, slice) else [key]
        self.read.update(rows)
        self.longest = max(self.longest, len(rows))
        return self.texts[key]


# Reading


@given(
    rows=st.integers(0, 40),
    shard_rows=st.integers(1, 12),
    half=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_rows_are_those_of_an_array(
    tmp_path_factory: pytest.TempPathFactory, rows: int, shard_rows: int, half: bool, data: st.DataObject
) -> None:
    array = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float16 if half else np.float32)
    folder = tmp_path_factory.mktemp("store") / "s"
    write_store(folder, array, shard_rows)
    np.save(folder.with_suffix(".npy"), array)
    ends = st.none() | st.integers(-50, 50)
    some = slice(data.draw(ends), data.draw(ends), data.draw(st.none() | st.integers(-3, 3).filter(bool)))
    chosen = data.draw(st.lists(st.integers(-rows, rows - 1), max_size=20) if rows else st.just([]))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), dtype=bool)
    for store in (
        EmbeddingStore.open(folder, verify=True),
        EmbeddingStore.open(folder.with_suffix(".npy")),
        EmbeddingStore.from_array(array),
    ):
        assert (len(store), store.shape, store.dimension, store.dtype) == (rows, (rows, 3), 3, array.dtype)
        for found, wanted in (
            (store[some], array[some]),
            (store[chosen], array[np.array(chosen, dtype=int)]),
            (store[np.array(chosen, dtype=np.int32)], array[np.array(chosen, dtype=int)]),
            (store[mask], array[mask]),
            (np.asarray(store), array),
        ):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, wanted.astype(np.float32))
        for start, block in store.blocks():
            np.testing.assert_array_equal(block, array[start : start + len(block)].astype(np.float32))
        assert sum(len(block) for _, block in store.blocks()) == rows
        store.verify()


def test_rows_that_are_not_there(stored: EmbeddingStore) -> None:
    for key in (len(TEXTS), [-len(TEXTS) - 1], np.ones(3, dtype=bool), [0.5]):
        with pytest.raises(IndexError):
            stored[key]
    np.testing.assert_array_equal(stored[-1], stored[len(TEXTS) - 1 :][0])


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([[object()]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "several", a=np.ones((2, 2)))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    for name in ("objects", "several", "none"):
        with pytest.raises(BeirHybridError, match=r"\.npy"):
            EmbeddingStore.open(tmp_path / f"{name}.npy")


@pytest.mark.parametrize("array", [np.ones(3), np.ones((2, 2), dtype=bool), np.array([["a"]])])
def test_what_are_no_vectors(array: np.ndarray) -> None:
    with pytest.raises(BeirHybridError, match="expected numbers, one row for each text"):
        EmbeddingStore.from_array(array)


# Writing


def test_vectors_are_those_of_the_encoder(stored: EmbeddingStore, encoder: DenseEncoder) -> None:
    np.testing.assert_allclose(stored[:], encoder.encode_corpus([{"text": text} for text in TEXTS]), atol=2e-6)
    half = encode_to_store(encoder, TEXTS, "passage", stored.folder / ".." / "half", dtype="float16", shard_rows=50)
    assert (half.dtype, half.manifest["shard_rows"]) == (np.float16, 50)
    np.testing.assert_allclose(half[:], stored[:], atol=1e-3)
    stored.verify()


def test_equal_texts_of_a_shard_tie_exactly(encoder: DenseEncoder, tmp_path: Path) -> None:
    texts = ["a river", "a tower of music", "a river", "a garden"] * 3
    vectors = encode_to_store(encoder, texts, "query", tmp_path / "s")[:]
    assert len(np.unique(vectors, axis=0)) == 3


def test_texts_are_read_once_and_a_shard_at_a_time(encoder: DenseEncoder, tmp_path: Path) -> None:
    texts = Counted(TEXTS)
    folder = store_for(encoder, texts, "passage", tmp_path, digest="known")
    encode_to_store(encoder, texts, "passage", folder, shard_rows=SHARD, digest="known")
    assert set(texts.read.values()) == {1}
    assert texts.longest == SHARD
    encode_to_store(encoder, texts, "passage", folder, digest="known")
    assert set(texts.read.values()) == {1}


def test_a_place_in_the_cache(encoder: DenseEncoder, tiny_model: Path, tmp_path: Path) -> None:
    folder = store_for(encoder, TEXTS, "passage", tmp_path)
    assert folder == store_for(encoder, TEXTS, "passage", tmp_path, digest=texts_digest(TEXTS))
    assert folder == store_for(DenseEncoder(tiny_model, precision="float32"), TEXTS, "passage", tmp_path)
    others = {
        store_for(encoder, TEXTS, "query", tmp_path),
        store_for(encoder, TEXTS[::-1], "passage", tmp_path),
        store_for(encoder, TEXTS, "passage", tmp_path, dtype="float16"),
        store_for(DenseEncoder(tiny_model, precision="bf16"), TEXTS, "passage", tmp_path),
        store_for(DenseEncoder(tiny_model, precision="float32", passage_prompt="p: "), TEXTS, "passage", tmp_path),
    }
    assert len(others - {folder}) == 5


def test_auto_takes_the_precision_in_which_a_store_was_begun(tiny_model: Path, tmp_path: Path) -> None:
    encode_to_store(DenseEncoder(tiny_model, precision="bf16"), TEXTS, "query", tmp_path / "s", digest="t")
    auto = DenseEncoder(tiny_model)
    assert encode_to_store(auto, TEXTS, "query", tmp_path / "s", digest="t").manifest["precision"] == "bf16"
    with pytest.raises(BeirHybridError, match="precision is 'bf16', not 'float32'"):
        encode_to_store(DenseEncoder(tiny_model, precision="float32"), TEXTS, "query", tmp_path / "s", digest="t")


def test_the_digest_sees_all_that_vectors_depend_on(tiny_model: Path, tmp_path: Path) -> None:
    model = DenseEncoder(tiny_model).model
    digest = model_digest(model)
    model.preprocess(["a text", "another one"])  # which sets the tokenizer's padding
    model.save(str(tmp_path / "saved"))
    shutil.copytree(tiny_model, tmp_path / "copy")
    for folder in ("saved", "copy"):
        assert model_digest(DenseEncoder(tmp_path / folder).model) == digest
    found = {digest}
    model.max_seq_length = 16
    found.add(model_digest(model))
    model[1].pooling_mode = "cls"
    found.add(model_digest(model))
    model[0].auto_model.config.num_attention_heads = 4
    found.add(model_digest(model))
    model.tokenizer.add_tokens(["zzz"])
    found.add(model_digest(model))
    next(model.parameters()).data.view(-1)[0] += 1
    found.add(model_digest(model))
    assert len(found) == 6


# What is refused


def test_another_store_is_left_alone(stored: EmbeddingStore, encoder: DenseEncoder, tiny_model: Path) -> None:
    folder = stored.folder
    assert folder is not None
    before = contents(folder)
    other = DenseEncoder(tiny_model, precision="float32")
    next(other.model.parameters()).data.view(-1)[0] += 1
    for asked, texts, side, dtype, said in (
        (other, TEXTS, "passage", "float32", "model is"),
        (encoder, TEXTS, "query", "float32", "prompt is 'passage: ', not 'query: '"),
        (encoder, TEXTS[:-1], "passage", "float32", "rows is 120, not 119; texts is"),
        (encoder, TEXTS, "passage", "float16", "dtype is 'float32', not 'float16'"),
    ):
        with pytest.raises(BeirHybridError, match=said):
            encode_to_store(asked, texts, side, folder, dtype=dtype)  # type: ignore[arg-type]
    assert contents(folder) == before


def test_a_folder_of_something_else(encoder: DenseEncoder, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BeirHybridError, match="not a store of embeddings"):
        encode_to_store(encoder, TEXTS, "query", tmp_path)
    with pytest.raises(BeirHybridError, match="no such file"):
        EmbeddingStore.open(tmp_path)
    with pytest.raises(BeirHybridError, match="unknown type of embeddings 'int8'"):
        encode_to_store(encoder, TEXTS, "query", tmp_path / "s", dtype="int8")


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 9, "rows": 1}'])
def test_a_damaged_manifest(stored: EmbeddingStore, encoder: DenseEncoder, text: str) -> None:
    assert stored.folder is not None
    (stored.folder / MANIFEST).write_text(text)
    before = contents(stored.folder)
    for call in (EmbeddingStore.open, lambda folder: encode_to_store(encoder, TEXTS, "passage", folder)):
        with pytest.raises(BeirHybridError, match=MANIFEST):
            call(stored.folder)
    assert contents(stored.folder) == before


def test_a_shard_that_is_cut_short(stored: EmbeddingStore, encoder: DenseEncoder) -> None:
    assert stored.folder is not None
    shard = sorted(stored.folder.glob("*.npy"))[3]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    for call in (EmbeddingStore.open, lambda folder: encode_to_store(encoder, TEXTS, "passage", folder)):
        with pytest.raises(BeirHybridError, match="bytes, not"):
            call(stored.folder)
    shard.unlink()
    with pytest.raises(BeirHybridError, match="7 of 8 shards"):
        EmbeddingStore.open(stored.folder)
    encode_to_store(encoder, TEXTS, "passage", stored.folder)
    assert shard.read_bytes() == whole


def test_every_flipped_bit_is_found(stored: EmbeddingStore) -> None:
    """In the header when the shard is read, or there and elsewhere by its checksum."""
    assert stored.folder is not None
    shard = sorted(stored.folder.glob("*.npy"))[0]
    whole, rows = bytearray(shard.read_bytes()), stored[:SHARD]
    for place in [*range(128), 500, len(whole) - 1]:
        damaged = whole.copy()
        damaged[place] ^= 1 << place % 8
        shard.write_bytes(damaged)
        store = EmbeddingStore.open(stored.folder)
        try:
            found = store[:SHARD]
        except BeirHybridError:
            pass
        else:
            assert place >= 128 or np.array_equal(found, rows)  # a blank of the header may be another
        for check in (store.verify, lambda: EmbeddingStore.open(stored.folder, verify=True)[0]):
            with pytest.raises(BeirHybridError, match="SHA-256"):
                check()
    shard.write_bytes(whole)
    EmbeddingStore.open(stored.folder).verify()


def test_a_vector_that_is_not_finite_is_not_stored(encoder: DenseEncoder, tmp_path: Path) -> None:
    encoder.model[0].auto_model.get_input_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(BeirHybridError, match="not finite"):
        encode_to_store(encoder, TEXTS, "query", tmp_path / "s")
    assert not list((tmp_path / "s").rglob("*.npy"))


def test_a_full_disk(encoder: DenseEncoder, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("no leave to mount a small disk")
    try:
        texts = [f"river {row}" for row in range(1000)]
        with pytest.raises(BeirHybridError, match="No space left"):
            encode_to_store(encoder, texts, "query", small / "s", shard_rows=100)
        there = sorted((small / "s").glob("*.npy"))
        assert 0 < len(there) < 10
        assert not list((small / "s").glob(".*.part"))
        shutil.copytree(small / "s", tmp_path / "moved")
        encode_to_store(encoder, texts, "query", tmp_path / "moved")
        encode_to_store(encoder, texts, "query", tmp_path / "at once", shard_rows=100)
        assert contents(tmp_path / "moved") == contents(tmp_path / "at once")
    finally:
        subprocess.run(["umount", small], check=True)


# Processes

PROGRAM = """
import logging, sys, time
import torch
torch.set_num_threads(1)
from beir_hybrid.encoders.dense import DenseEncoder
from beir_hybrid.encoders.storing import encode_to_store
from tests.encoders.test_store import SHARD, TEXTS
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
encoder = DenseEncoder(sys.argv[1], precision="float32", batch_tokens=64, device="cpu")
inner = encoder.encode
def slow(*arguments, **named):
    time.sleep(float(sys.argv[3]))
    return inner(*arguments, **named)
encoder.encode = slow
print("ready", flush=True)
encode_to_store(encoder, TEXTS, "passage", sys.argv[2], shard_rows=SHARD)
print("done", flush=True)
"""


def start(model: Path, folder: Path, pause: float, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, model, folder, str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
    )


def encoded(said: str) -> list[int]:
    return [int(line.split(": shard ")[1].split()[0]) for line in said.splitlines() if ": shard " in line]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(encoder: DenseEncoder, tiny_model: Path, tmp_path: Path) -> None:
    encode_to_store(encoder, TEXTS, "passage", tmp_path / "whole", shard_rows=SHARD)
    folder, done = tmp_path / "killed", 0
    for kill_after in (1, 3, 2):
        process = start(tiny_model, folder, 0.05)
        assert process.stdout is not None
        for line in process.stdout:
            done += ": shard " in line
            if ": shard " in line and (kill_after := kill_after - 1) == 0:
                break
        time.sleep(0.03 * done % 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        with pytest.raises(BeirHybridError, match="of 8 shards are there"):
            EmbeddingStore.open(folder)
    (folder / ".000007.x.npy.abcd.part").write_bytes(b"half")  # as a process leaves it that is killed while it writes
    last = start(tiny_model, folder, 0)
    assert set(encoded(last.communicate(timeout=300)[0])) <= {6, 7}
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_share_a_store(tiny_model: Path, tmp_path: Path) -> None:
    environments = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    processes = [start(tiny_model, tmp_path / "s", 0.3, **environment) for environment in environments]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert all("done" in one for one in said), said
    shards = [encoded(one) for one in said]
    assert sorted(shards[0] + shards[1]) == list(range(8))
    assert not list((tmp_path / "s" / ".locks").iterdir())
    EmbeddingStore.open(tmp_path / "s").verify()


@pytest.mark.slow
def test_who_waits_takes_over_from_who_dies(tiny_model: Path, tmp_path: Path) -> None:
    stuck = start(tiny_model, tmp_path / "s", 600)
    while not (tmp_path / "s" / ".locks" / "000000").exists():
        assert stuck.poll() is None
        time.sleep(0.1)
    other = start(tiny_model, tmp_path / "s", 0)
    while len(list((tmp_path / "s").glob("*.npy"))) < 7:
        assert other.poll() is None
        time.sleep(0.1)
    stuck.send_signal(signal.SIGKILL)
    stuck.communicate(timeout=60)
    assert sorted(encoded(other.communicate(timeout=300)[0])) == list(range(8))
