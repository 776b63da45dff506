"""Fully sharded data parallelism: each process keeps a part of every weight, its gradient and its optimiser state.

The machinery is accelerate's for torch's `fully_shard` (FSDP 2). What is here makes it work for sentence-transformers'
models, which it does not know, and on CPUs, where it would train with copies of the whole model without a word.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState  # type: ignore[import-untyped]
from accelerate.utils import (  # type: ignore[import-untyped]
    DistributedType,
    broadcast_object_list,
    fsdp2_canonicalize_names,
)
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy
from transformers import Trainer
from transformers.trainer import FSDP_MODEL_NAME, OPTIMIZER_NAME_BIN, SCHEDULER_NAME

from beir_hybrid.errors import BeirHybridError

_Model = TypeVar("_Model", bound=SentenceTransformer)


def check_config(config: Mapping[str, Any]) -> None:
    """Whether a training can be sharded as `fsdp_config` says.

    Raises:
        BeirHybridError: it cannot.
    """
    only = {
        "version": 2,
        "state_dict_type": "FULL_STATE_DICT",
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_ram_efficient_loading": False,
        "xla": False,
    }
    for name, wanted in only.items():
        if str(given := config.get(name, wanted)).lower() != str(wanted).lower():
            raise BeirHybridError(
                f"fsdp_config: {name} is {given}; a SentenceTransformer is sharded with {wanted}, the default: leave "
                f"{name} out."
            )


@contextlib.contextmanager
def cpus_count() -> Iterator[None]:
    """An Accelerator made in here shards on CPUs too: it does so where there are several GPUs, and asks nothing else.

    Raises:
        BeirHybridError: torch would put the parts on a GPU.
    """
    state = PartialState()
    if state.distributed_type == DistributedType.MULTI_CPU:
        if torch.accelerator.is_available():
            raise BeirHybridError("fsdp on CPUs, while torch sees a GPU: hide it (CUDA_VISIBLE_DEVICES='').")
        state.distributed_type = DistributedType.MULTI_GPU
    yield


def adopt_plugin(accelerator: Accelerator) -> None:
    """Check that the accelerator shards, and have it compute as it does without sharding.

    Raises:
        BeirHybridError: it does not, or in another way than `fully_shard`'s.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        raise BeirHybridError(
            f"fsdp shares the model among processes that train together; here is {accelerator.num_processes} "
            f"(accelerate's {accelerator.distributed_type.value}): start them by torchrun, or leave fsdp out."
        )
    plugin = accelerator.state.fsdp_plugin
    check_config({"version": plugin.fsdp_version, "state_dict_type": plugin.state_dict_type.name})
    if accelerator.device.type == "cpu" and isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise BeirHybridError("fsdp_config: cpu_offload is for GPUs, and this training runs on CPUs: leave it out.")
    if (policy := plugin.mixed_precision_policy) is not None:
        # accelerate's own rounds the summed gradients and the embeddings too: 8 bits are too few for a loss that
        # divides cosines by 0.02.
        plugin.mixed_precision_policy = MixedPrecisionPolicy(policy.param_dtype, reduce_dtype=torch.float32)


class ShardedModel:
    """A model about to be sharded, and a twin of it that is not, without weights until they are asked for.

    Args:
        model: Made ready for `Accelerator.prepare`: every process gets the first one's weights, as with DDP.
        accelerator: That of a run with FSDP.

    Raises:
        BeirHybridError: the model was sharded before.
    """

    def __init__(self, model: SentenceTransformer, accelerator: Accelerator) -> None:
        if isinstance(model, FSDPModule):
            raise BeirHybridError("the model has been sharded by another trainer: save it there, and load it anew.")
        self.model, self.accelerator = model, accelerator
        self.twin = _without_weights(model)
        for value in (*model.parameters(), *model.buffers()):
            sent = value.data.to(accelerator.device).contiguous()
            distributed.broadcast(sent, src=0)
            value.data.copy_(sent)
        plugin, inside = accelerator.state.fsdp_plugin, model.transformers_model
        # A sentence-transformers model does not say which layers are units, nor where its last norm is: accelerate
        # would take its Normalize, which cannot be sharded.
        model.base_model_prefix = "transformers_model"  # type: ignore[assignment]
        if plugin.transformer_cls_names_to_wrap is None:
            layers = set(getattr(inside, "_no_split_modules", None) or ())
            plugin.transformer_cls_names_to_wrap = sorted(layers & {type(one).__name__ for one in model.modules()})

    def load_optimizer(self, optimizer: torch.optim.Optimizer, path: Path) -> None:
        """Give each process its part of the state that accelerate has saved in `path`.

        accelerate's own loading refuses the state of a parameter that never had a gradient, as those of a pooler.
        """
        saved = torch.load(path, weights_only=True) if self.accelerator.is_main_process else None
        groups, names = broadcast_object_list([saved and saved["param_groups"], saved and set(saved["state"])])
        if names:
            options = StateDictOptions(full_state_dict=True, cpu_offload=True, broadcast_from_rank0=True, strict=False)
            set_optimizer_state_dict(self.model, optimizer, saved or {}, options=options)
        else:  # an optimiser without state, like plain gradient descent
            for group, kept in zip(optimizer.param_groups, groups, strict=True):
                group.update({name: value for name, value in kept.items() if name != "params"})
        for name, value in fsdp2_canonicalize_names(dict(self.model.named_parameters())).items():
            if name not in names:
                optimizer.state.pop(value, None)  # begun above

    @contextlib.contextmanager
    def whole(self, weights: dict[str, Tensor] | None = None) -> Iterator[SentenceTransformer | None]:
        """The model with all of its weights, in the first process; None in the others, which have to ask for it too.

        They are the weights of now, unless they are given, and stay only as long as the context.
        """
        model, twin = self.model, self.twin
        state = self.accelerator.get_state_dict(model) if weights is None else weights
        if not self.accelerator.is_main_process:
            yield None
            return
        twin.load_state_dict(state, assign=True)
        twin.to(model.device)
        del state
        twin.prompts = model.prompts
        if twin.max_seq_length != model.max_seq_length:  # word vectors have none, and cannot be given one
            twin.max_seq_length = model.max_seq_length
        twin.train(model.training)
        card = model.model_card_data
        card.register_model(twin)
        try:
            yield twin
        finally:
            card.register_model(model)
            for module in twin.modules():
                for name, value in module._parameters.items():
                    if value is not None:
                        module._parameters[name] = _empty(value)


class ShardingTrainer(SentenceTransformerTrainer):
    """A SentenceTransformerTrainer to which `fsdp=True` means what it says. All processes do all of it together."""

    _sharded: ShardedModel | None = None  # from the first `train()` on

    def create_accelerator_and_postprocess(self) -> None:
        with cpus_count() if self.args.fsdp else contextlib.nullcontext():
            super().create_accelerator_and_postprocess()
        if self.args.fsdp or self.is_fsdp_enabled:
            adopt_plugin(self.accelerator)

    def call_model_init(self, trial: Any = None) -> Any:
        self._sharded = None  # another model
        return super().call_model_init(trial)

    def create_optimizer(self, model: Any = None) -> Any:
        if not self.is_fsdp_enabled:
            return super().create_optimizer(model)
        if self._sharded is None:  # the next step shards the model
            self._sharded = ShardedModel(self.model, self.accelerator)
        else:  # accelerate would wrap the layers once more
            self.accelerator.state.fsdp_plugin.activation_checkpointing = False
        optimizer = super().create_optimizer(model)
        if not type(optimizer).__module__.startswith(("torch.", "torchao.", "accelerate.")):
            raise BeirHybridError(
                f"{type(optimizer).__name__} cannot train a sharded model: use one of torch's optimisers, such as "
                "optim='adamw_torch', or leave fsdp out."
            )
        return optimizer

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_fsdp_enabled and self._sharded is None:
            raise BeirHybridError("with fsdp a model can be evaluated once its training has begun: call train() first.")
        if self._sharded is None or (evaluator := self.evaluator) is None:
            return super().evaluation_loop(*args, **kwargs)

        def evaluate(model: Any, **when: Any) -> Any:
            with self.whole_model() as whole:
                return {} if whole is None else evaluator(whole, **when)

        self.evaluator = cast(Any, evaluate)
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self.evaluator = evaluator

    @contextlib.contextmanager
    def whole_model(self, weights: dict[str, Tensor] | None = None) -> Iterator[SentenceTransformer | None]:
        """The model; with fsdp, put together in the first process for as long as the context lasts.

        With fsdp every process must enter it, and in the others it is None. `weights` are the model's, if the first
        process has them all already.
        """
        if self._sharded is None:
            yield self.model
        else:
            with self._sharded.whole(weights) as model:
                yield model

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # The parent's writes in every process that calls it, and transformers' save_model calls it in all of them.
        with self.whole_model(state_dict) as whole:
            if whole is not None and self.args.should_save:
                self.write_model(whole, output_dir)

    def write_model(self, model: SentenceTransformer, folder: str | None = None) -> None:
        """Write `model`, which has all of its weights, and what belongs to it into `folder`."""
        here, self.model = self.model, model
        try:
            super()._save(folder)
        finally:
            self.model = here

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._sharded is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        self._sharded.load_optimizer(cast(Any, self.optimizer), Path(checkpoint) / OPTIMIZER_NAME_BIN)
        cast(Any, self.lr_scheduler).load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        is_sharded = (Path(checkpoint_path) / f"{FSDP_MODEL_NAME}.bin").is_file()
        if self.is_in_train and is_sharded != self.is_fsdp_enabled:
            raise BeirHybridError(
                f"{checkpoint_path} was written {'with' if is_sharded else 'without'} fsdp, and this training is "
                f"{'without' if is_sharded else 'with'} it: resume it as it was begun."
            )
        if self._sharded is None:
            super()._load_from_checkpoint(checkpoint_path)
        else:  # not sentence-transformers', which loads whole models alone
            Trainer._load_from_checkpoint(self, checkpoint_path, model)


def _without_weights(model: _Model) -> _Model:
    """A copy without the parameters' values, which shares the tokenizer and the card."""
    shared: list[Any] = [model.tokenizer, model.model_card_data]
    memo: dict[int, Any] = {id(one): one for one in shared}
    memo |= {id(value): _empty(value) for value in model.parameters()}
    return copy.deepcopy(model, memo)


def _empty(value: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
