"""In-batch contrastive loss that knows a translation from a negative."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.training.forward import embed


class HybridInfoNCELoss(nn.Module):
    """InfoNCE from each question to the passages of its batch, by cosine similarity (arXiv 2408.10536).

    loss = mean over rows i of -log( exp(cos(q_i, p_i) / t) / sum over candidates c of exp(cos(q_i, c) / t) )

    The candidates are the passages of the batch and all explicit negatives. A passage of another row with the same
    label answers this row's question too: it is left out.

    Args:
        model: The encoder of questions and passages.
        temperature: t, above 0. The paper gives none.
        symmetric: Average with the same loss from each passage to the questions of the batch.

    Raises:
        BeirHybridError: the temperature is not above 0.
    """

    def __init__(self, model: SentenceTransformer, temperature: float = 0.02, symmetric: bool = False) -> None:
        super().__init__()
        if not temperature > 0:
            raise BeirHybridError(f"temperature is {temperature}; it divides the similarities and must be above 0.")
        self.model, self.temperature, self.symmetric = model, temperature, symmetric

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """The loss of one batch, a scalar in float32.

        Args:
            sentence_features: Tokenised questions, passages and any number of columns of explicit negatives, each with
                `rows` rows.
            labels: Shape (rows,): the group of each row's item, as whole numbers; without them nothing is left out.
        """
        return self.from_embeddings([embed(self.model, column) for column in sentence_features], labels)

    def from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of embeddings: one tensor of shape (rows, dimensions) a column, in the order of `forward`."""
        if len(embeddings) < 2:
            raise BeirHybridError(f"the loss needs questions and passages; it was given {len(embeddings)} column.")
        # At temperature 0.02 the similarities are multiplied by 50: the 8 bits of bfloat16 do not hold that.
        with torch.autocast(embeddings[0].device.type, enabled=False):
            kind = torch.promote_types(embeddings[0].dtype, torch.float32)
            queries, passages, *negatives = (nn.functional.normalize(one.to(kind), dim=-1) for one in embeddings)
            scores = queries @ passages.T / self.temperature
            if labels is not None:
                same = labels.view(-1, 1) == labels.view(1, -1)
                same.fill_diagonal_(False)
                scores = scores.masked_fill(same, -torch.inf)
            own = torch.arange(len(scores), device=scores.device)
            candidates = scores
            if negatives:
                candidates = torch.cat([scores, queries @ torch.cat(negatives).T / self.temperature], dim=1)
            loss = nn.functional.cross_entropy(candidates, own)
            if self.symmetric:
                loss = (loss + nn.functional.cross_entropy(scores.T, own)) / 2
            return loss

    def get_config_dict(self) -> dict[str, float | bool]:
        """The settings, for the model card."""
        return {"temperature": self.temperature, "symmetric": self.symmetric}

    @property
    def citation(self) -> str:
        """BibTeX, for the model card."""
        return """
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
