"""In-batch contrastive loss that knows a translation from a negative."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import has_static_embedding_input
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank, get_world_size
from torch import Tensor, nn

from beir_hybrid.errors import BeirHybridError, unknown
from beir_hybrid.training.cached_loss import CachedEmbedding
from beir_hybrid.training.forward import embed

NOBODY, FILLER = -1, -2
"""Instead of a negative's group: a text that answers nobody; a text that stands where a row has no such negative."""
IN_BATCH, EXPLICIT_ONLY = "in-batch", "explicit-only"
NEGATIVES = (IN_BATCH, EXPLICIT_ONLY)


class HybridInfoNCELoss(CachedEmbedding, nn.Module):
    """InfoNCE from each question to the passages of its batch, by cosine similarity (arXiv 2408.10536).

    loss = mean over rows i of -log( exp(cos(q_i, p_i) / t) / sum over candidates c of exp(cos(q_i, c) / t) )

    The candidates are the passages of the batch and all explicit negatives. A passage of another row with the same
    label answers this row's question too: it is left out. So is an explicit negative whose own label says that it
    answers the question after all, and a text that only fills a row with fewer negatives than others.

    Args:
        model: The encoder of questions and passages.
        temperature: t, above 0. The paper gives none.
        symmetric: Average with the same loss from each passage to the questions of the batch.
        negatives: `in-batch`; or `explicit-only`, the paper's formula read literally: the candidates of a row are its
            own passage and its own row's explicit negatives. A row that has none left has the loss 0.
        mini_batch_size: Run the encoder on so many rows at a time, so that a large batch fits into memory, for the time
            of a second forward pass. The loss and its gradients stay the same (GradCache, Gao et al. 2021, arXiv
            2101.06983); with dropout, other draws of it. None: all rows at once.
        gather_across_devices: The passages, explicit negatives and labels (with `symmetric` also the questions) of all
            processes are the batch: the mean of the processes' losses is the loss of their rows together. Every
            process must have the same numbers of rows and columns. With one process it changes nothing.

    Raises:
        BeirHybridError: a setting out of its range, or two that exclude each other.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.02,
        symmetric: bool = False,
        negatives: str = IN_BATCH,
        mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__()
        check_settings(temperature, symmetric, negatives, mini_batch_size, gather_across_devices)
        self.model, self.temperature, self.symmetric, self.negatives = model, temperature, symmetric, negatives
        self.mini_batch_size = mini_batch_size  # type: ignore[assignment]  # unread when None
        self.gather_across_devices = gather_across_devices
        # What sentence-transformers' own modifiers of losses ask.
        self.uses_gradient_cache = mini_batch_size is not None
        if mini_batch_size and isinstance(model, SentenceTransformer) and has_static_embedding_input(model):
            raise BeirHybridError(
                "mini_batch_size is of no use to a model of static embeddings, whose batches cannot be split: leave it "
                "out."
            )

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """The loss of one batch, a scalar in float32.

        Args:
            sentence_features: Tokenised questions, passages and any number of columns of explicit negatives, each with
                `rows` rows.
            labels: Shape (rows,): the group of each row's item, as whole numbers; without them nothing is left out. Or
                (rows, 1 + columns of negatives), that group first, then each negative's: the group of the items that
                the text answers, NOBODY (-1) or FILLER (-2). Groups are compared across all rows.

        Raises:
            BeirHybridError: a column is missing, or `labels` has another shape.
        """
        columns = list(sentence_features)
        self._check_columns(len(columns))
        if self.mini_batch_size is not None:
            return self.forward_cached(columns, labels)
        return self.from_embeddings([embed(self.model, column) for column in columns], labels)

    def from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of embeddings: one tensor of shape (rows, dimensions) a column, in the order of `forward`.

        Raises:
            BeirHybridError: a column is missing, or `labels` has another shape.
        """
        self._check_columns(len(embeddings))
        if labels is not None:
            labels = _table(labels, rows=len(embeddings[0]), negatives=len(embeddings) - 2)
        # At temperature 0.02 the similarities are multiplied by 50: the 8 bits of bfloat16 do not hold that.
        with torch.autocast(embeddings[0].device.type, enabled=False):
            kind = torch.promote_types(embeddings[0].dtype, torch.float32)
            columns = [nn.functional.normalize(one.to(kind), dim=-1) for one in embeddings]
            if self.negatives == EXPLICIT_ONLY:
                return self._explicit_only(columns, labels)
            return self._in_batch(columns, labels)

    def _explicit_only(self, columns: list[Tensor], labels: Tensor | None) -> Tensor:
        queries, *candidates = columns
        scores = torch.stack([(queries * one).sum(dim=1) for one in candidates], dim=1) / self.temperature
        if labels is not None:
            own, groups = labels[:, :1], labels[:, 1:]
            positive = torch.zeros_like(own, dtype=torch.bool)
            scores = scores.masked_fill(torch.cat([positive, _no_negative(own, groups)], dim=1), -torch.inf)
        return nn.functional.cross_entropy(scores, torch.zeros(len(queries), dtype=torch.long, device=queries.device))

    def _in_batch(self, columns: list[Tensor], labels: Tensor | None) -> Tensor:
        queries, passages = columns[:2]
        (all_queries, all_passages, *negatives), all_labels, first = self._gather(columns, labels)
        own = torch.arange(first, first + len(queries), device=queries.device)
        same = answers = None
        if labels is not None and all_labels is not None:
            mine = labels[:, :1]
            same = (mine == all_labels[:, 0]).scatter(1, own.view(-1, 1), False)
            answers = _no_negative(mine, all_labels[:, 1:].T.reshape(1, -1))  # a column after the other, as the texts
        candidates = scores = self._scores(queries, all_passages, same)
        if negatives:
            candidates = torch.cat([scores, self._scores(queries, torch.cat(negatives), answers)], dim=1)
        loss = nn.functional.cross_entropy(candidates, own)
        if self.symmetric:
            back = scores.T if all_queries is queries else self._scores(passages, all_queries, same)
            loss = (loss + nn.functional.cross_entropy(back, own)) / 2
        return loss

    def _scores(self, ask: Tensor, find: Tensor, leave_out: Tensor | None = None) -> Tensor:
        scores = ask @ find.T / self.temperature
        return scores if leave_out is None else scores.masked_fill(leave_out, -torch.inf)

    def _gather(self, columns: list[Tensor], labels: Tensor | None) -> tuple[list[Tensor], Tensor | None, int]:
        """Columns and labels of all processes, and where the rows of this one begin."""
        if not self.gather_across_devices or get_world_size() == 1:
            return columns, labels, 0
        # One-directional, nobody asks for the others' questions.
        sent = columns if self.symmetric else columns[1:]
        gathered = all_gather_with_grad(torch.stack(sent, dim=1)).unbind(dim=1)
        every = [*columns[: len(columns) - len(sent)], *gathered]
        return every, None if labels is None else all_gather(labels.contiguous()), get_rank() * len(columns[0])

    def _check_columns(self, count: int) -> None:
        if count < 2:
            raise BeirHybridError(f"the loss needs questions and passages; it was given {count} column.")
        if self.negatives == EXPLICIT_ONLY and count < 3:
            raise BeirHybridError(
                f"negatives is {EXPLICIT_ONLY!r}, and the batch has no column of explicit negatives after the "
                f"passages: add one, or use {IN_BATCH!r}."
            )

    def get_config_dict(self) -> dict[str, float | bool | str | None]:
        """The settings, for the model card."""
        return {
            "temperature": self.temperature,
            "symmetric": self.symmetric,
            "negatives": self.negatives,
            "mini_batch_size": self.mini_batch_size,
            "gather_across_devices": self.gather_across_devices,
        }

    @property
    def citation(self) -> str:
        """BibTeX, for the model card."""
        return _PAPER if self.mini_batch_size is None else _PAPER + _GRADCACHE


_PAPER = """
@misc{elmahdy2024synergistic,
    title = "Synergistic Approach for Simultaneous Optimization of Monolingual, Cross-lingual, and Multilingual
        Information Retrieval",
    author = "Elmahdy, Adel and Lin, Sheng-Chieh and Ahmad, Amin",
    year = "2024",
    eprint = "2408.10536",
    archivePrefix = "arXiv",
    url = "https://arxiv.org/abs/2408.10536",
}
"""
_GRADCACHE = """
@misc{gao2021scaling,
    title = "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
    author = "Gao, Luyu and Zhang, Yunyi and Han, Jiawei and Callan, Jamie",
    year = "2021",
    eprint = "2101.06983",
    archivePrefix = "arXiv",
    url = "https://arxiv.org/abs/2101.06983",
}
"""


def _table(labels: Tensor, rows: int, negatives: int) -> Tensor:
    """Labels with a column for each column of explicit negatives; without one of their own, nobody is answered.

    Raises:
        BeirHybridError: the labels have another shape.
    """
    if labels.shape == (rows,):
        return nn.functional.pad(labels.view(-1, 1), (0, negatives), value=NOBODY)
    if labels.shape != (rows, 1 + negatives):
        raise BeirHybridError(
            f"labels has shape {tuple(labels.shape)}; expected ({rows},), the group of each row's item, or "
            f"({rows}, {1 + negatives}), with the group of each of its explicit negatives after it."
        )
    return labels


def _no_negative(own: Tensor, groups: Tensor) -> Tensor:
    """Where a text with one of `groups` is no negative of a row whose item has the group `own`."""
    return ((own == groups) & (groups >= 0)) | (groups == FILLER)


def check_settings(
    temperature: float, symmetric: bool, negatives: str, mini_batch_size: int | None, gather_across_devices: bool
) -> None:
    """Whether HybridInfoNCELoss can have these settings.

    Raises:
        BeirHybridError: one is out of its range, or two exclude each other.
    """
    if not temperature > 0:
        raise BeirHybridError(f"temperature is {temperature}; it divides the similarities and must be above 0.")
    if negatives not in NEGATIVES:
        raise unknown("negatives", negatives, NEGATIVES)
    if mini_batch_size is not None and mini_batch_size < 1:
        raise BeirHybridError(f"mini_batch_size is {mini_batch_size}; it must be at least 1, or None for none.")
    for name, value in (("symmetric", symmetric), ("gather_across_devices", gather_across_devices)):
        if value and negatives == EXPLICIT_ONLY:
            raise BeirHybridError(
                f"{name} takes candidates from other rows, and negatives is {EXPLICIT_ONLY!r}: use one of the two."
            )
