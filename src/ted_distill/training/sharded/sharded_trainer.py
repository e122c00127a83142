"""The part of the stages' trainer that knows of weights that are split over processes."""

from __future__ import annotations

import logging
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint import load as load_shards
from torch.distributed.checkpoint import save as save_shards
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from transformers import PreTrainedModel, Trainer

from ...fast.states_cache import StatesCache
from ...method.filters import FilteredModel
from ...output import on_main
from ...output.checkpoints import DEEPSPEED_OPTIMIZER, OPTIMIZER, SHARDED_OPTIMIZER
from ..checkpointing import plain_errors, readable
from .shard_arguments import asks_for_fsdp, say_not_sharded, settle_deepspeed
from .sharding import agreed, block_classes, deal_out, empty, gather, materialise, shard_frozen, twin_of

logger = logging.getLogger(__name__)


class ShardedTrainer(Trainer):
    """A Trainer that saves and reads the same plain checkpoints whether or not its weights are sharded."""

    task: Any
    model: Any
    model_wrapped: Any
    _whole: Any = None
    saves_trained_alone = False
    """Whether checkpoints lack the weights that are not trained."""

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """Read what a stage has saved into `whole`."""

    @property
    def is_sharded(self) -> bool:
        """Whether the weights are, or will be, split over processes."""
        return bool(self.accelerator.is_fsdp2)

    @property
    def optimizer_file(self) -> str:
        """The file of a checkpoint that holds the optimizer's state, or says where in it that is."""
        if self.is_deepspeed_enabled:
            return DEEPSPEED_OPTIMIZER
        return f"{SHARDED_OPTIMIZER}/.metadata" if self.is_sharded else OPTIMIZER

    @property
    def whole(self) -> Any:
        """The module whose weights are saved and read: the trained one, or the twin of a sharded one."""
        return self.model if self._whole is None else self._whole

    def frozen_models(self) -> list[FilteredModel]:
        """The frozen models that take part in training, inside the trained module or beside it."""
        return []

    def caches_of_frozen(self) -> list[StatesCache]:
        """Where their outputs are kept."""
        return [model.cache for model in self.frozen_models() if isinstance(model.cache, StatesCache)]

    # --- before training ------------------------------------------------------------------------------------------

    def create_accelerator_and_postprocess(self) -> None:
        """See `transformers.Trainer`; accelerate's mark that a plugin was given is not left to later stages."""
        name = "ACCELERATE_USE_FSDP"
        asked, before = asks_for_fsdp(self.args), os.environ.get(name)
        super().create_accelerator_and_postprocess()
        if before is None:
            os.environ.pop(name, None)
        if self.is_deepspeed_enabled:
            settle_deepspeed(self.accelerator.state.deepspeed_plugin, bool(self.args.bf16))
        if not self.is_sharded:
            if asked:
                say_not_sharded(self.accelerator)
            return
        plugin = self.accelerator.state.fsdp_plugin
        plugin.cpu_ram_efficient_loading = False
        if plugin.mixed_precision_policy is not None:
            # Gradients are shares of a sum, which bfloat16 would round; states are matched as they are.
            plugin.mixed_precision_policy = replace(
                plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None
            )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """See `transformers.Trainer`."""
        with warnings.catch_warnings():
            # No loss changes what a model returns in place, which is what this is about.
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
            return super().train(*args, **kwargs)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_sharded and self._whole is None:
            self._whole = self.model
            self.model = self.model_wrapped = twin_of(self.model, [self.task])
            self._plan_shards()
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self._whole is not None:
            empty(self._whole)
        return prepared

    def _plan_shards(self) -> None:
        """Shard frozen models, and tell accelerate how to shard what is trained: block by block."""
        frozen = [filtered.model.to(self.args.device) for filtered in self.frozen_models()]
        plugin, parts = self.accelerator.state.fsdp_plugin, list(self.model.modules())
        inside = {part for model in frozen for part in model.modules()}
        trained = [part for part in parts if isinstance(part, PreTrainedModel) and part not in inside]
        plugin.auto_wrap_policy = transformer_auto_wrap_policy
        plugin.transformer_cls_names_to_wrap = sorted({name for model in trained for name in block_classes(model)})
        plugin.ignored_modules = [model for model in frozen if model in parts] or None
        for model in frozen:
            shard_frozen(model)
        for cache in self.caches_of_frozen():
            cache.agree = agreed(self.args.device)

    # --- the whole weights ----------------------------------------------------------------------------------------

    def gather_weights(self) -> None:
        """Give the main process the whole weights, for good."""
        if self._whole is not None:
            gather(self._whole, self.model, self.accelerator.is_main_process)

    @contextmanager
    def _whole_weights(self) -> Iterator[None]:
        """Within this context, the main process has the whole weights that a checkpoint holds."""
        if self._whole is not None:
            gather(self._whole, self.model, self.accelerator.is_main_process, trained=self.saves_trained_alone)
        try:
            yield
        finally:
            if self._whole is not None:
                empty(self._whole)

    def read_weights_of(self, folder: Path) -> None:
        """Read a checkpoint's weights: the main process alone, if they are dealt out."""
        if self._whole is None:
            with readable(str(folder)):
                self.load_weights(folder)
            return
        on_main(partial(self._read_whole, folder))
        deal_out(self._whole, self.model, self.accelerator.is_main_process)
        empty(self._whole)

    def _read_whole(self, folder: Path) -> None:
        materialise(self.whole)
        with readable(str(folder)):
            self.load_weights(folder)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """See `transformers.Trainer`; plain files, whatever the weights are split into."""
        if self._whole is None:
            super().save_model(output_dir, _internal_call)
            return
        with self._whole_weights():
            on_main(partial(self._save, output_dir))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._whole is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = {"optimizer": get_optimizer_state_dict(self.model, self.optimizer)}
        with plain_errors():
            save_shards(state, storage_writer=FileSystemWriter(Path(output_dir) / SHARDED_OPTIMIZER))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._whole is None or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = {"optimizer": get_optimizer_state_dict(self.model, self.optimizer)}
        with plain_errors():
            load_shards(state, storage_reader=FileSystemReader(Path(checkpoint) / SHARDED_OPTIMIZER))
        set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"])
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True))
