"""The inner loop of encoding: texts of like length are run in batches of so many tokens.

Which precision is faster is found out by trying, on the texts that are to be encoded and on the device that is there.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from beir_hybrid.encoders.attention import attention_in_bf16
from beir_hybrid.encoders.tokenised import IntArray, Tokenised

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

FloatArray = npt.NDArray[np.float32]
CPU_TOKENS, GPU_TOKENS = 1024, 32_768
"""Tokens of a batch. A CPU gains nothing by more, and padding grows with them; a GPU wants to be filled."""
_AHEAD = 2
"""Batches that are made for each thread before its first comes back."""
_KNOWN = ("torch", "transformers", "sentence_transformers", "beir_hybrid")
"""Packages whose layers do not change when they are run."""
WORTH_PROBING, PROBE_TOKENS = 8192, 1024
"""Tokens of work below which a probe does not pay, and tokens that a probe encodes in each round."""
PROBE_SECONDS, PROBE_ROUNDS, PROBE_COSINE = 1.0, 3, 0.999
SENTENCES = (
    "The university was founded in 1386 and is the oldest one in the country.",
    "Der Fluss entspringt in den Alpen und mündet nach 850 Kilometern in das Schwarze Meer.",
    "¿Cuántas personas vivían en la ciudad antes de la guerra?",
    "В 1957 году был запущен первый искусственный спутник Земли.",
    "光合作用是植物利用光能把二氧化碳和水转化为有机物的过程。",
    "यह मंदिर बारहवीं शताब्दी में बनाया गया था और आज भी वहाँ पूजा होती है।",
    "تقع المدينة على الساحل الشرقي ويبلغ عدد سكانها مليوني نسمة.",
    "Nhà văn này nhận giải thưởng cho cuốn tiểu thuyết đầu tay của mình.",
) * 6
"""What is encoded to choose a precision where that is asked for before there are texts."""


def encode(
    model: SentenceTransformer,
    tokens: Tokenised,
    precision: str,
    batches: Iterable[IntArray],
    advance: Callable[[int], object] = lambda done: None,
) -> FloatArray:
    """Vectors of length 1, by row, of the texts in `batches`. `advance` is told how many texts each batch had."""
    vectors = np.empty((len(tokens), model.get_embedding_dimension() or 0), dtype=np.float32)
    with computing(model, precision):
        for rows, found in _run(model, tokens, precision, list(batches)):
            vectors[rows] = found
            advance(len(rows))
    return vectors


@contextlib.contextmanager
def computing(model: SentenceTransformer, precision: str) -> Iterator[None]:
    """How the model is while `vectors_of` is called; with bf16, linear layers have such weights while this lasts."""
    model.eval()
    with contextlib.ExitStack() as changes:
        if precision == "bf16":
            changes.enter_context(_linear_layers_in_bf16(model))
            if model.device.type == "cpu":
                changes.enter_context(attention_in_bf16(model))
        yield


@contextlib.contextmanager
def _linear_layers_in_bf16(model: SentenceTransformer) -> Iterator[None]:
    """What autocast makes of the weights of linear layers, made once: without gradients it would do so for each batch.

    The model's own parameters are put back at the end, whatever happens.
    """
    import torch

    held: list[tuple[torch.nn.Module, str, torch.nn.Parameter]] = []
    made: dict[int, torch.nn.Parameter] = {}  # layers may share a weight
    try:
        for module in model.modules():
            if type(module) is not torch.nn.Linear:
                continue
            for name, value in list(module.named_parameters(recurse=False)):
                if value.dtype == torch.float32:
                    held.append((module, name, value))
                    if id(value) not in made:
                        made[id(value)] = torch.nn.Parameter(value.to(torch.bfloat16), requires_grad=False)
                    module.register_parameter(name, made[id(value)])
        yield
    finally:
        for module, name, value in held:
            module.register_parameter(name, value)


def vectors_of(model: SentenceTransformer, features: dict[str, Any], precision: str) -> FloatArray:
    """The vectors of a batch, of length 1."""
    import torch
    from sentence_transformers.util import batch_to_device

    with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
        output: torch.Tensor = model(batch_to_device(features, model.device))["sentence_embedding"]
    vectors: FloatArray = torch.nn.functional.normalize(output.float(), dim=1).cpu().numpy()
    return vectors


def _run(
    model: SentenceTransformer, tokens: Tokenised, precision: str, batches: Sequence[IntArray]
) -> Iterator[tuple[IntArray, FloatArray]]:
    """The rows of each batch, and their vectors, in the order of the batches."""
    import torch

    threads = torch.get_num_threads()
    at_once = min(threads, len(batches)) if threads_may_share(model) else 1
    if at_once < 2:
        for rows in batches:
            yield rows, vectors_of(model, tokens.batch(rows), precision)
        return
    # Threads that each run a batch seldom wait for one another; those that share every layer of one do so all the time.
    begin = partial(torch.set_num_threads, threads // at_once)
    with ThreadPoolExecutor(at_once, thread_name_prefix="encode", initializer=begin) as pool:
        under_way: deque[tuple[IntArray, Future[FloatArray]]] = deque()
        try:
            for rows in batches:
                # Here, not there: a tokenizer does not bear several threads.
                under_way.append((rows, pool.submit(vectors_of, model, tokens.batch(rows), precision)))
                if len(under_way) > _AHEAD * at_once:
                    done, found = under_way.popleft()
                    yield done, found.result()
            while under_way:
                done, found = under_way.popleft()
                yield done, found.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # some of what the threads were told holds for all


def threads_may_share(model: SentenceTransformer) -> bool:
    """Whether several threads may run the model at once: on a CPU, where running it changes nothing in it.

    That holds for the layers of the libraries, but not for hooks and layers of one's own, of which we know nothing, nor
    for position embeddings that grow with the longest text so far.
    """
    if model.device.type != "cpu":
        return False
    for module in model.modules():
        if type(module).__module__.partition(".")[0] not in _KNOWN or hasattr(module, "_hf_hook"):
            return False
        if module._forward_hooks or module._forward_pre_hooks:
            return False
    config = getattr(model.transformers_model, "config", None)
    positions = str([getattr(config, name, None) for name in ("rope_parameters", "rope_scaling")])
    return "dynamic" not in positions and "longrope" not in positions


@dataclass(frozen=True)
class Probe:
    """What bf16 did on some texts, beside float32.

    Attributes:
        bf16_speedup: How many times as fast it was.
        min_cosine: Of the two vectors of a text, for the text where they differ most.
    """

    bf16_speedup: float
    min_cosine: float

    @property
    def precision(self) -> str:
        """The faster one; float32 where bf16 gives other vectors."""
        return "bf16" if self.bf16_speedup > 1 and self.min_cosine >= PROBE_COSINE else "float32"


def probe(model: SentenceTransformer, tokens: Tokenised, budget: int) -> Probe:
    """Encode the first texts in both precisions, in turn, and compare: a second or two.

    The fastest round of each counts, for what else runs on the machine can only slow a round down.
    """
    rows = tokens.first(PROBE_TOKENS)
    fastest: dict[str, float] = {}
    vectors: dict[str, FloatArray] = {}
    started = time.perf_counter()
    for number in range(PROBE_ROUNDS + 1):
        for precision in ("float32", "bf16"):
            begun = time.perf_counter()
            vectors[precision] = encode(model, tokens, precision, tokens.batches(budget, rows))[rows]
            taken = time.perf_counter() - begun
            # The round that warms up counts only where there is no time for another.
            fastest[precision] = min(taken, fastest[precision]) if number > 1 else taken
        if time.perf_counter() - started > PROBE_SECONDS:
            break
    cosines = (vectors["float32"] * vectors["bf16"]).sum(axis=1)
    least = float(cosines.min()) if np.isfinite(cosines).all() else 0.0
    return Probe(round(fastest["float32"] / fastest["bf16"], 3), round(least, 6))


def has_bf16_units(device: str) -> bool:
    """Whether the processor has units for bf16: elsewhere it is emulated, and much slower than float32."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return any(getattr(torch.cpu, f"_is_{unit}_supported", lambda: False)() for unit in ("avx512_bf16", "amx_tile"))
    return False
