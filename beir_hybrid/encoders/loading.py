"""Loading an encoder: the bundled one, a folder or a hub id, sentence-transformers' or a bare transformer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from beir_hybrid.encoders.bundled import BUNDLED, bundled_encoder
from beir_hybrid.encoders.presets import POOLER, preset_for
from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.files import offline

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn

POOLINGS = ("mean", "cls")


def load_model(name: str | Path, device: str | None = None, pooling: str | None = None) -> SentenceTransformer:
    """Load the encoder called `name`: bundled, a folder, or a hub id. Code that comes with a model is never run.

    Args:
        name: What to load.
        device: As in torch; by default the best there is.
        pooling: `mean` or `cls`, for a bare transformer; by default that of its family (see `presets`).

    Raises:
        BeirHybridError: there is no such model, or it is not to be had, or it pools otherwise than asked.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    text = str(name)
    if text.startswith("bundled:"):
        if text != BUNDLED:
            raise unknown("bundled model", text, [BUNDLED])
        path = str(bundled_encoder())
    else:
        path = text
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    try:
        with quiet():
            cached = not Path(path).exists() and _from_cache(path)
            if _is_bare(path, cached):
                modules = _bare_modules(path, pooling or preset_for(text).pooling, cached)
                model = SentenceTransformer(modules=modules, device=device)
            else:
                model = SentenceTransformer(path, device=device, trust_remote_code=False, local_files_only=cached)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BeirHybridError(
            f"the model {text!r} cannot be loaded: {reason} Expected {BUNDLED!r}, a folder with a "
            "sentence-transformers or transformers model, or the id of one on the hub (which must be reachable)."
        ) from error
    check_pooling(model, pooling)
    return model


def check_pooling(model: SentenceTransformer, pooling: str | None) -> None:
    """Whether a model pools as asked; None asks for nothing.

    Raises:
        BeirHybridError: there is no such pooling, or the model has another or none.
    """
    if pooling is None:
        return
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    own = next((module.pooling_mode for module in model if hasattr(module, "pooling_mode")), None)
    if own != pooling:
        said = f"pools by {own!r}" if own else "says nothing of pooling"
        raise BeirHybridError(
            f"pooling {pooling!r} is asked for, and the model itself {said}: leave pooling out, or name the bare "
            "transformer that the model was made from."
        )


def _is_bare(path: str, cached: bool) -> bool:
    """Whether these are the files of a transformer alone, without sentence-transformers' list of modules."""
    from sentence_transformers.util import is_sentence_transformer_model

    local = Path(path)
    if not local.exists():
        return not is_sentence_transformer_model(path, local_files_only=cached)
    return (local / "config.json").is_file() and not (local / "modules.json").is_file()


def _bare_modules(path: str, pooling: str, cached: bool) -> list[nn.Module]:
    """A transformer and its pooling; where that is the pooler's, also the pooler as a module, and normalisation."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    head = _pooler(path, cached) if pooling == POOLER else None
    files = {"local_files_only": cached}
    transformer = Transformer(path, model_kwargs=files, processor_kwargs=files, config_kwargs=files)
    pool = Pooling(transformer.get_embedding_dimension(), "cls" if pooling == POOLER else pooling)
    return [transformer, pool, *([head, Normalize()] if head else [])]


def _pooler(path: str, cached: bool) -> nn.Module | None:
    """BERT's pooler (dense, then tanh, of the first token) as a module; none where its weights were not saved."""
    from sentence_transformers.sentence_transformer.modules import Dense
    from transformers import AutoModel

    # The Transformer module keeps to itself which weights it had to make up.
    model, loaded = AutoModel.from_pretrained(path, local_files_only=cached, output_loading_info=True)
    dense = getattr(getattr(model, "pooler", None), "dense", None)
    if dense is None or any("pooler." in name for name in loaded["missing_keys"]):
        return None
    weight, bias = dense.weight.detach().clone(), dense.bias.detach().clone()
    return Dense(dense.in_features, dense.out_features, init_weight=weight, init_bias=bias)


def _from_cache(name: str) -> bool:
    """Whether the hub is out of reach or forbidden: then only what it sent before will do.

    Asked once beforehand, since each of a model's files would be tried for half a minute.

    Raises:
        OSError: the hub has no such model.
    """
    if offline():
        return True
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=10)
    except RepositoryNotFoundError:
        raise
    except Exception:  # of whichever HTTP client the hub's library has; loading says what is wrong, if anything is
        return True
    return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Loading without transformers' bar and report; its warnings come back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
