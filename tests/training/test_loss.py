from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.cached_loss import Replay
from beir_hybrid.training.forward import embed
from beir_hybrid.training.loss import EXPLICIT_ONLY, IN_BATCH, HybridInfoNCELoss
from beir_hybrid.training.trainer import HybridTrainer, HybridTrainingArguments

pytestmark = pytest.mark.usefixtures("one_thread")


def reference(
    columns: list[np.ndarray],
    temperature: float,
    labels: list[int] | None = None,
    symmetric: bool = False,
    groups: list[list[int]] | None = None,
    negatives: str = IN_BATCH,
) -> float:
    """The definition, a row at a time, in float64. `groups` has a list for each row, one of each explicit negative."""
    queries, passages, *more = (c / np.linalg.norm(c, axis=1, keepdims=True) for c in columns)
    labels = list(range(len(queries))) if labels is None else labels
    groups = [[-1] * len(more)] * len(queries) if groups is None else groups
    total = 0.0
    for ask, find, texts in [(queries, passages, more), (passages, queries, [])][: 1 + symmetric]:
        for i, vector in enumerate(ask):
            rows = range(len(find)) if negatives == IN_BATCH else [i]
            others = [find[j] for j in rows if j == i or labels[j] != labels[i]]
            others += [text[j] for k, text in enumerate(texts) for j in rows if groups[j][k] not in (labels[i], -2)]
            scores = np.array([vector @ other for other in others]) / temperature
            total += np.log(np.exp(scores - scores.max()).sum()) + scores.max() - vector @ find[i] / temperature
    return total / len(queries) / (1 + symmetric)


def columns(count: int, seed: int = 0, rows: int = 7) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    base = random.normal(size=(rows, 5))
    return [base + random.normal(size=(rows, 5)) for _ in range(count)]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("labels", [None, [0, 1, 0, 2, 3, 1, 0]])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_equals_the_reference(temperature: float, count: int, labels: list[int] | None, symmetric: bool) -> None:
    data = columns(count)
    loss = HybridInfoNCELoss(torch.nn.Identity(), temperature, symmetric)
    groups = None if labels is None else torch.tensor(labels)
    wanted = reference(data, temperature, labels, symmetric)
    exact = loss.from_embeddings([torch.tensor(column) for column in data], groups)
    assert exact.item() == pytest.approx(wanted, abs=1e-6)
    single = loss.from_embeddings([torch.tensor(column, dtype=torch.float32) for column in data], groups)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(wanted, rel=1e-5)


class _Model(torch.nn.Module):
    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": features["x"]}


@pytest.mark.parametrize("symmetric", [False, True])
def test_equals_multiple_negatives_ranking(symmetric: bool) -> None:
    # Theirs, symmetric, counts explicit negatives in one of the two directions too.
    found = []
    directions = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    theirs = MultipleNegativesRankingLoss(_Model(), scale=1 / 0.05, **(directions if symmetric else {}))
    for loss in (theirs, HybridInfoNCELoss(_Model(), 0.05, symmetric)):
        data = [torch.tensor(column, requires_grad=True) for column in columns(3)]
        value = loss([{"x": column} for column in data], torch.arange(7))
        value.backward()
        found.append((value.item(), [column.grad for column in data]))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-9)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-9, rtol=1e-9)


def test_explicit_negatives_only() -> None:
    data = columns(4)
    loss = HybridInfoNCELoss(_Model(), 0.1, negatives=EXPLICIT_ONLY)
    queries, passages, *negatives = (c / np.linalg.norm(c, axis=1, keepdims=True) for c in data)
    wanted = 0.0
    for i, query in enumerate(queries):
        scores = np.exp([query @ candidate[i] / 0.1 for candidate in (passages, *negatives)])
        wanted -= math.log(scores[0] / scores.sum()) / len(queries)
    # Labels are of no consequence: no other row's passage is a candidate.
    for labels in (None, torch.zeros(7, dtype=torch.long)):
        assert loss([{"x": torch.tensor(c)} for c in data], labels).item() == pytest.approx(wanted, abs=1e-9)
    for one in (loss, HybridInfoNCELoss(_Model(), 0.1, negatives=EXPLICIT_ONLY, mini_batch_size=2)):
        with pytest.raises(BeirHybridError, match="no column of explicit negatives"):
            one([{"x": torch.tensor(c)} for c in data[:2]])


LABELS = [0, 1, 0, 2, 3, 1, 0]
# Nobody's, fillers, the row's own group, another row's, and one that no row has.
GROUPS = [[-1, 0], [-2, -2], [3, -1], [2, 2], [0, 9], [1, 1], [-1, -1]]


@pytest.mark.parametrize("mini_batch_size", [None, 3])
@pytest.mark.parametrize(("symmetric", "negatives"), [(False, IN_BATCH), (True, IN_BATCH), (False, EXPLICIT_ONLY)])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_negatives_whose_truth_is_known(
    temperature: float, symmetric: bool, negatives: str, mini_batch_size: int | None
) -> None:
    data = columns(4)
    loss = HybridInfoNCELoss(_Model(), temperature, symmetric, negatives, mini_batch_size)
    table = torch.tensor([[label, *groups] for label, groups in zip(LABELS, GROUPS, strict=True)])
    found = loss([{"x": torch.tensor(column)} for column in data], table)
    wanted = reference(data, temperature, LABELS, symmetric, GROUPS, negatives)
    assert found.item() == pytest.approx(wanted, abs=1e-6)
    # Where nobody is answered, as with the rows' groups alone.
    table[:, 1:] = -1
    plain = [loss([{"x": torch.tensor(c)} for c in data], labels) for labels in (table, torch.tensor(LABELS))]
    assert plain[0].item() == plain[1].item() != found.item()


def test_a_row_without_negatives_has_no_loss() -> None:
    data = [torch.tensor(column, requires_grad=True) for column in columns(4)]
    table = torch.tensor([[0, 0, -2], [1, -1, -1], [2, -2, -2], [3, -1, 3], [4, 4, 4], [5, 0, -1], [6, -1, -1]])
    loss = HybridInfoNCELoss(_Model(), 0.1, negatives=EXPLICIT_ONLY)
    loss.from_embeddings(data, table).backward()
    none_left = torch.tensor([0, 2, 4])
    for column in data:
        assert torch.count_nonzero(column.grad[none_left]) == 0
        assert bool(column.grad[[1, 6]].any())
    assert loss.from_embeddings([one[none_left] for one in data], table[none_left]).item() == 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 4), st.integers(-2, 4)), min_size=2, max_size=6),
    st.booleans(), st.sampled_from([IN_BATCH, EXPLICIT_ONLY]), st.integers(0, 99),
)  # fmt: skip
def test_what_is_left_out_is_of_no_consequence(
    rows: list[tuple[int, int, int]], symmetric: bool, negatives: str, seed: int
) -> None:
    symmetric = symmetric and negatives == IN_BATCH
    table, data, generator = torch.tensor(rows), columns(4, seed, len(rows)), torch.Generator().manual_seed(seed)
    loss = HybridInfoNCELoss(_Model(), 0.1, symmetric, negatives)
    found = []
    for _ in range(2):
        # The texts of fillers are drawn anew; all else stays.
        texts = [torch.tensor(column) for column in data]
        for place, text in enumerate(texts[2:], 1):
            filler = table[:, place] == -2
            text[filler] = torch.randn(int(filler.sum()), 5, generator=generator).double()
        texts = [text.requires_grad_() for text in texts]
        value = loss.from_embeddings(texts, table)
        value.backward()
        for place, text in enumerate(texts[2:], 1):
            assert torch.count_nonzero(text.grad[table[:, place] == -2]) == 0
        found.append((value.item(), [text.grad for text in texts]))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-12, rtol=0)
    groups = [list(row[1:]) for row in rows]
    wanted = reference(data, 0.1, [row[0] for row in rows], symmetric, groups, negatives)
    assert found[0][0] == pytest.approx(wanted, abs=1e-6)


def test_labels_of_another_shape() -> None:
    data = [torch.tensor(column) for column in columns(3)]
    for shape in ((7, 3), (7, 1), (6,), (7, 2, 1)):
        with pytest.raises(BeirHybridError, match=r"expected \(7,\).*\(7, 2\)"):
            HybridInfoNCELoss(_Model()).from_embeddings(data, torch.zeros(shape, dtype=torch.long))


def test_citations() -> None:
    plain, cached = (HybridInfoNCELoss(_Model(), mini_batch_size=size).citation for size in (None, 8))
    assert "2408.10536" in plain
    assert "2101.06983" not in plain
    assert "2408.10536" in cached
    assert "2101.06983" in cached


def test_float32_under_autocast() -> None:
    data = [torch.tensor(column, dtype=torch.float32) for column in columns(2)]
    loss = HybridInfoNCELoss(_Model())
    plain = loss.from_embeddings(data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss.from_embeddings(data)
    assert cast.dtype == torch.float32
    assert cast.item() == plain.item()
    half = [one.bfloat16() for one in data]
    assert loss.from_embeddings(half).dtype == torch.float32


def test_a_translation_pulls_no_gradient() -> None:
    queries, passages = (torch.tensor(column, requires_grad=True) for column in columns(2, rows=2))
    loss = HybridInfoNCELoss(_Model(), 0.1).from_embeddings([queries, passages], torch.tensor([4, 4]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.count_nonzero(passages.grad) == 0


@pytest.fixture
def encoder(tiny_model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model), device="cpu").train()


def batch(model: SentenceTransformer, count: int, rows: int = 21) -> list[dict[str, Any]]:
    """Columns of texts of many lengths; the rows are no multiple of a mini-batch."""
    random = np.random.default_rng(5)
    words = [code + stem for code in ("en", "de") for stem in ("river", "tower", "music", "engine", "garden")]
    texts = [[" ".join(random.choice(words, random.integers(1, 9))) for _ in range(rows)] for _ in range(count)]
    return [model.preprocess(column) for column in texts]


def set_dropout(model: SentenceTransformer, share: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share


def step(
    loss: HybridInfoNCELoss, count: int, labels: torch.Tensor | None, bf16: bool = False, inside: bool = False
) -> tuple[float, dict[str, torch.Tensor]]:
    """Value and gradients of one batch; `inside`: the backward pass under autocast too."""
    loss.model.zero_grad()
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        value = loss(batch(loss.model, count), labels)
        if inside:
            value.backward()
    if not inside:
        value.backward()
    return value.item(), {n: p.grad.clone() for n, p in loss.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{"count": 2}, {"count": 2, "symmetric": True, "masked": True}, {"count": 4, "masked": True},
     {"count": 4, "negatives": EXPLICIT_ONLY}],
)  # fmt: skip
def test_mini_batches_change_nothing(
    encoder: SentenceTransformer, settings: dict[str, Any], bf16: bool, inside: bool
) -> None:
    settings = dict(settings)
    count, labels = settings.pop("count"), torch.arange(21) // 2 if settings.pop("masked", False) else None
    set_dropout(encoder, 0.0)
    wanted, gradients = step(HybridInfoNCELoss(encoder, 0.1, **settings), count, labels, bf16, inside)
    assert len(gradients) > 20
    for size in (1, 9, 100):
        cached = HybridInfoNCELoss(encoder, 0.1, mini_batch_size=size, **settings)
        found, others = step(cached, count, labels, bf16, inside)
        assert others.keys() == gradients.keys()
        error = max(float((others[name] - gradients[name]).norm()) for name in gradients)
        scale = max(float(one.norm()) for one in gradients.values())
        # bfloat16 rounds sums by their order: chunks of other lengths round otherwise.
        assert found == pytest.approx(wanted, abs=2e-2 if bf16 else 1e-5)
        # A backward pass under autocast rounds the gradients of the scores, which the cached one keeps exact.
        assert error < (scale * (2e-2 if inside else 5e-3) if bf16 else 1e-5)
        with torch.no_grad():  # as in evaluation
            assert cached(batch(encoder, count), labels).requires_grad is False


@pytest.mark.parametrize("bf16", [False, True])
def test_dropout_is_replayed(encoder: SentenceTransformer, bf16: bool) -> None:
    set_dropout(encoder, 0.3)
    loss = HybridInfoNCELoss(encoder, 0.1, mini_batch_size=8)
    found, gradients = step(loss, 2, None, bf16)

    # The same mini-batches in the same order, so the same draws, all with their graphs.
    encoder.zero_grad()
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        embeddings = []
        for column in batch(encoder, 2):
            parts = [
                loss.embed_minibatch(column, begin, begin + 8, with_grad=True, copy_random_state=False)[0]
                for begin in (0, 8, 16)
            ]
            embeddings.append(torch.cat(parts))
        wanted = loss.from_embeddings(embeddings)
    wanted.backward()
    assert found == pytest.approx(wanted.item(), abs=1e-6)
    for name, parameter in encoder.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=2e-2 if bf16 else 1e-5, rtol=1e-2)
    assert step(loss, 2, None, bf16)[0] == found


def test_a_pass_can_be_run_again(encoder: SentenceTransformer) -> None:
    set_dropout(encoder, 0.5)
    column = batch(encoder, 1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        replay = Replay(*column.values())
        first = embed(encoder, dict(column))
    torch.rand(5)
    before = torch.get_rng_state()
    with replay:
        assert torch.equal(embed(encoder, dict(column)), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(embed(encoder, dict(column)), first)


def test_mini_batches_in_the_trainer(tiny_model: Path, tmp_path: Path, toy_collection: MultilingualCollection) -> None:
    found = []
    for size in (None, 4):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        # Plain gradient descent: Adam turns the rounding of gradients near 0 into steps of full size.
        args = HybridTrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=16, mini_batch_size=size, max_steps=4, dropout=0.0,
            learning_rate=1e-2, optim="sgd", temperature=0.1, save_strategy="no", use_cpu=True, disable_tqdm=True,
            gradient_accumulation_steps=2, max_grad_norm=1.0,
        )  # fmt: skip
        trainer = HybridTrainer(model, args, toy_collection)
        assert trainer.loss.mini_batch_size == size
        trainer.train()
        found.append(model.state_dict())
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
    start = SentenceTransformer(str(tiny_model), device="cpu").state_dict()
    assert max(float((start[name] - found[0][name]).abs().max()) for name in start) > 1e-3


SCRIPT = """
import json, sys
import torch
torch.set_num_threads(1)
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from beir_hybrid.training.loss import HybridInfoNCELoss

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(5, 3).double()
    def forward(self, features):
        return {"sentence_embedding": self.linear(features["x"])}

def step(model, settings, columns, labels):
    model.zero_grad()
    loss = HybridInfoNCELoss(model, 0.1, **settings)([{"x": column} for column in columns], labels)
    loss.backward()
    return loss.detach(), torch.cat([value.grad.flatten() for value in model.parameters()])

dist.init_process_group("gloo")
rank, generator, done = dist.get_rank(), torch.Generator().manual_seed(1), []
every = torch.randn(4, 10, 5, generator=generator).double()
mine = slice(5 * rank, 5 * rank + 5)
groups = torch.tensor([0, 1, 2, 3, 3, 1, 1, 4, 0, 5])
truth = torch.tensor([[-1, 9], [0, 1], [-2, 4], [3, 3], [4, -1], [-2, -2], [1, 0], [-1, 5], [0, -1], [2, -2]])
for known in (None, groups, torch.cat([groups[:, None], truth], dim=1)):
    for count in (2, 4):
        labels = known if known is None or known.ndim == 1 or count == 4 else known[:, :1]
        for symmetric in (False, True):
            for size in (None, 2):
                settings = {"symmetric": symmetric, "mini_batch_size": size}
                whole, wanted = step(Model(), {"symmetric": symmetric}, every[:count], labels)
                gathered = {**settings, "gather_across_devices": True}
                own = None if labels is None else labels[mine]
                value, gradient = step(DistributedDataParallel(Model()), gathered, every[:count, mine], own)
                with torch.no_grad():
                    again = HybridInfoNCELoss(Model(), 0.1, **gathered)(
                        [{"x": column} for column in every[:count, mine]], own)
                assert abs(again - value) < 1e-9
                alone, _ = step(Model(), settings, every[:count, mine], own)
                dist.all_reduce(value)
                error = (gradient - wanted).abs().max()
                done.append([value.item() / 2, whole.item(), error.item(), alone.item()])
if rank == 0:
    with open(sys.argv[1], "w") as stream:
        json.dump(done, stream)
dist.destroy_process_group()
"""


def test_two_processes_are_one_batch(tmp_path: Path) -> None:
    script, result = tmp_path / "gather.py", tmp_path / "result.json"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(result)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(result.read_text())
    assert len(found) == 24
    for value, whole, error, alone in found:
        assert value == pytest.approx(whole, abs=1e-9)
        assert error < 1e-9
        assert abs(alone - whole) > 0.05  # the batches of one process are others


def test_gathering_needs_no_other_process() -> None:
    data = [torch.tensor(column) for column in columns(3)]
    plain, gathered = (HybridInfoNCELoss(_Model(), 0.1, True, gather_across_devices=on) for on in (False, True))
    assert gathered.from_embeddings(data).item() == plain.from_embeddings(data).item()


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"negatives": "explicit"}, "Did you mean 'explicit-only'"), ({"mini_batch_size": 0}, "mini_batch_size is 0"),
     ({"negatives": EXPLICIT_ONLY, "symmetric": True}, "symmetric takes candidates"),
     ({"negatives": EXPLICIT_ONLY, "gather_across_devices": True}, "gather_across_devices takes")],
)  # fmt: skip
def test_bad_settings(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BeirHybridError, match=says):
        HybridInfoNCELoss(_Model(), **settings)
    with pytest.raises(BeirHybridError, match=says):
        HybridTrainingArguments(output_dir=str(tmp_path), hard_negatives=1, use_cpu=True, **settings)


def test_static_embeddings_are_not_split() -> None:
    tokenizer = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")
    with pytest.raises(BeirHybridError, match="static embeddings"):
        HybridInfoNCELoss(model, mini_batch_size=2)


def test_errors_and_card() -> None:
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(BeirHybridError, match="temperature"):
            HybridInfoNCELoss(_Model(), temperature)
    loss = HybridInfoNCELoss(_Model(), 0.1, True)
    with pytest.raises(BeirHybridError, match="1 column"):
        loss.from_embeddings([torch.ones(2, 2)])
    assert loss.get_config_dict() == {
        "temperature": 0.1, "symmetric": True, "negatives": "in-batch", "mini_batch_size": None,
        "gather_across_devices": False,
    }  # fmt: skip
    assert "2408.10536" in loss.citation
