"""The inner loop of encoding: texts are tokenised once, sorted by length, and run in batches of so many tokens.

Which precision is faster is found out by trying, on the texts that are to be encoded and on the device that is there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
CPU_TOKENS, GPU_TOKENS = 2048, 32_768
"""Tokens of a batch. A CPU gains nothing by more, and padding grows with them; a GPU wants to be filled."""
_BLOCK = 4096
"""Texts that are tokenised at once: lists of Python numbers are large."""
_SAMPLE = 4
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


class Tokenised:
    """Texts as tokens, ready to be made into batches.

    A model's `preprocess` tokenises each batch by itself, and for sorting by length all had to be tokenised before.
    Here it is done once, and batches are padded from the numbers that are kept. Whether that gives what `preprocess`
    does is tried on some of the texts, the longest among them; where it does not (a tokenizer of another kind, a
    special template), `preprocess` does each batch.
    """

    def __init__(self, model: SentenceTransformer, texts: Sequence[str], prompt: str) -> None:
        self._model, self._texts, self._prompt = model, texts, prompt or None
        self._features: dict[str, Any] = {}
        if not getattr(model.tokenizer, "is_fast", False):
            longest = model.max_seq_length or 512
            self.lengths = np.array([min(longest, len(prompt) + len(text)) for text in texts], dtype=np.int64)
            return
        self._ids, self.lengths = _tokens(model, texts, prompt)
        self._starts = np.append(0, np.cumsum(self.lengths))
        if not len(texts):
            return
        by_length = np.argsort(-self.lengths, kind="stable")
        sample = np.unique(np.concatenate([by_length[:_SAMPLE], np.arange(min(_SAMPLE, len(texts)))]))
        wanted = self._by_model(sample)
        if _equal(self._padded(sample, wanted), wanted):
            self._features = dict(wanted)

    def __len__(self) -> int:
        return len(self._texts)

    def batch(self, rows: IntArray) -> dict[str, Any]:
        """The model's features of some rows, padded to the longest of them."""
        return self._padded(rows, self._features) if self._features else self._by_model(rows)

    def batches(self, budget: int, rows: IntArray | None = None) -> Iterator[IntArray]:
        """All or some rows in batches of like length.

        The longest come first, so that memory runs out at once or never; the other batches are mixed, so that the speed
        so far is that of what is left.
        """
        rows = np.arange(len(self)) if rows is None else rows
        order = rows[np.argsort(-self.lengths[rows], kind="stable")]
        found, start = [], 0
        while start < len(order):
            size = max(1, budget // max(1, int(self.lengths[order[start]])))
            found.append(order[start : start + size])
            start += size
        yield from found[:1]
        for number in np.random.default_rng(0).permutation(max(0, len(found) - 1)).tolist():
            yield found[number + 1]

    def first(self, tokens: int) -> IntArray:
        """The first rows that have about so many tokens together; at least one."""
        return np.arange(max(1, int(np.searchsorted(np.cumsum(self.lengths), tokens, side="right"))))

    def _by_model(self, rows: IntArray) -> dict[str, Any]:
        return dict(self._model.preprocess([self._texts[row] for row in rows.tolist()], prompt=self._prompt))

    def _padded(self, rows: IntArray, like: Mapping[str, Any]) -> dict[str, Any]:
        """Features by the same names as in `like`, from the tokens that are kept."""
        import torch

        tokenizer = self._model.tokenizer
        lengths = self.lengths[rows]
        width = int(lengths.max())
        place = np.arange(width)
        mask = place < lengths[:, None]
        if tokenizer.padding_side == "left":
            mask = mask[:, ::-1]
        ids = np.full((len(rows), width), tokenizer.pad_token_id or 0, dtype=np.int64)
        ids[mask] = np.concatenate([self._ids[self._starts[row] : self._starts[row + 1]] for row in rows.tolist()])
        made = {
            "input_ids": ids,
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": np.zeros_like(ids),  # of a model that tells a first from a second text
        }
        return {name: torch.from_numpy(made[name]) if name in made else value for name, value in like.items()}


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
        for rows in batches:
            vectors[rows] = vectors_of(model, tokens.batch(rows))
            advance(len(rows))
    return vectors


@contextlib.contextmanager
def computing(model: SentenceTransformer, precision: str) -> Iterator[None]:
    """The modes in which `vectors_of` is called; with bf16, linear layers have such weights while this lasts."""
    import torch

    model.eval()
    with contextlib.ExitStack() as modes:
        modes.enter_context(torch.inference_mode())
        if precision == "bf16":
            modes.enter_context(torch.autocast(model.device.type, dtype=torch.bfloat16))
            modes.enter_context(_linear_layers_in_bf16(model))
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


def vectors_of(model: SentenceTransformer, features: dict[str, Any]) -> FloatArray:
    """The vectors of a batch, of length 1."""
    import torch
    from sentence_transformers.util import batch_to_device

    output: torch.Tensor = model(batch_to_device(features, model.device))["sentence_embedding"]
    vectors: FloatArray = torch.nn.functional.normalize(output.float(), dim=1).cpu().numpy()
    return vectors


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


def _tokens(model: SentenceTransformer, texts: Sequence[str], prompt: str) -> tuple[npt.NDArray[np.int32], IntArray]:
    """The tokens of all texts one after the other, cut at the model's maximum, and how many each has."""
    parts: list[npt.NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
    lengths = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _BLOCK):
        block = [prompt + text for text in texts[start : start + _BLOCK]]
        # Padding is said, since a tokenizer remembers what it was last told.
        found = model.tokenizer(
            block,
            padding=False,
            truncation=True,
            max_length=model.max_seq_length or 512,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        lengths[start : start + _BLOCK] = [len(ids) for ids in found]
        parts += [np.array(ids, dtype=np.int32) for ids in found]
    return np.concatenate(parts), lengths


def _equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    import torch

    tensors = [(ours[name], value) for name, value in theirs.items() if torch.is_tensor(value)]
    return "input_ids" in theirs and all(torch.equal(one, other) for one, other in tensors)
