"""Large batches in bounded memory: the loss of a whole batch, from mini-batches that the encoder sees one at a time.

GradCache (Gao et al. 2021, arXiv 2101.06983): embed every mini-batch without a graph, take the loss of all embeddings
and its gradients with respect to them, then embed each mini-batch again, with a graph, and send its share of the
gradients through. The machinery is sentence-transformers'.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin, RandContext, _create_minibatch
from torch import Tensor

from beir_hybrid.training.forward import embed


class Replay(RandContext):
    """The random numbers and the autocast of a forward pass; entered, the pass can be run again as it was.

    Backward passes usually run outside of autocast, and the second forward pass is part of one.
    """

    def __init__(self, *tensors: Any) -> None:
        super().__init__(*tensors)
        kinds = {value.device.type for value in tensors if isinstance(value, Tensor)} - {"cpu"} or {"cpu"}
        self.device_type = kinds.pop()
        self.enabled = torch.is_autocast_enabled(self.device_type)
        self.dtype = torch.get_autocast_dtype(self.device_type)

    def __enter__(self) -> None:
        super().__enter__()
        # Weights that autocast cast in the pass without a graph, and kept, would get no gradient: no cache.
        self._autocast = torch.autocast(self.device_type, self.dtype, self.enabled, cache_enabled=False)
        self._autocast.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        self._autocast.__exit__(*error)
        super().__exit__(*error)


class CachedEmbedding(CachedLossMixin):
    """sentence-transformers' cached losses, running the encoder as the uncached loss does.

    A loss has `mini_batch_size` and `from_embeddings`, and calls `forward_cached`. Held at a time are the activations
    of one mini-batch, the embeddings of all rows twice, and the scores of the whole batch.
    """

    def from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of embeddings: one tensor of shape (rows, dimensions) a column."""
        raise NotImplementedError

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss of all mini-batches, for each column a list of shapes (mini-batch rows, dimensions).

        With `with_backward` their gradients are filled in, and the loss comes without a graph.
        """
        loss = self.from_embeddings([torch.cat(parts) for parts in reps], labels)
        if with_backward:
            # This runs where the forward pass does; under autocast it would round the gradients of the scores too.
            with torch.autocast(loss.device.type, enabled=False):
                loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        return loss

    def embed_minibatch(
        self,
        sentence_feature: dict[str, Tensor],
        begin: int,
        end: int,
        with_grad: bool,
        copy_random_state: bool,
        random_state: RandContext | None = None,
    ) -> tuple[Tensor, RandContext | None]:
        """The embeddings of the rows `begin` to `end` of a column, and what it takes to run them again."""
        features = _create_minibatch(sentence_feature, begin, end)
        if isinstance(mask := features.get("attention_mask"), Tensor):
            features["attention_mask"] = mask.clone()  # pooling may write into it: the second pass must not see that
        with random_state or contextlib.nullcontext(), contextlib.nullcontext() if with_grad else torch.no_grad():
            replay = Replay(*features.values()) if copy_random_state else None
            return embed(self.model, features), replay
