"""Frozen models in a smaller number type and in a faster form, each tried on one text before it is used.

Most families run in both. In some, a table that is no weight keeps its type and does not fit the others any more; in
some, a module reads the weights of a layer past the layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from ..fast.packed_linear import undo_packed_linear, use_packed_linear
from ..fast.precision import cast_buffers, cast_weights, resolve_dtype
from ..models.load import LoadedModel
from ..training.shard_arguments import asks_for_fsdp
from ..training.stage_arguments import StageArguments

logger = logging.getLogger(__name__)

_TEXT = "a few words"
_NEAR = 0.1
"""Share of the largest number by which packed layers may differ from others: rounding, and not another result."""


def cast_frozen(loaded: LoadedModel, args: StageArguments) -> torch.dtype:
    """Cast a model to `frozen_dtype` in place, on the stage's device.

    Returns:
        The type: float32 for a model that does not run in the other, which is said.
    """
    loaded.identity  # noqa: B018  (of the weights before they are cast: it is kept)
    model, dtype = loaded.model, resolve_dtype(args.frozen_dtype, args.device, args.fp16)
    run = trial(loaded, args) if dtype != torch.float32 else None
    if run is None:
        cast_weights(model, dtype)
        return dtype
    # Cast where they are: on the device there may be room for the smaller type alone.
    before = [(tensor, tensor.data) for tensor in (*model.parameters(), *model.buffers())]
    for cast in (cast_weights, cast_buffers):
        cast(model, dtype)
        try:
            if not run().isnan().any():
                return dtype
            reason = "its predictions are not numbers"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a family makes of a type that it does not expect
            reason = " ".join(str(error).split())[:150]
    for tensor, data in before:
        tensor.data = data
    cast_weights(model, torch.float32)
    kind = str(dtype).removeprefix("torch.")
    logger.warning(
        "frozen_dtype: expected %s to run in %s, got an error (%s); it stays in float32", loaded.name, kind, reason
    )
    return torch.float32


def pack_frozen(loaded: LoadedModel, args: StageArguments) -> None:
    """Pack the linear layers of a frozen model if that is asked for and changes nothing; see `fast.packed_linear`."""
    if not args.packed_linear or args.torch_compile or asks_for_fsdp(args):
        return
    run = trial(loaded, args)
    expected = None if run is None else run()
    if not use_packed_linear(loaded.model) or run is None or expected is None:
        return
    try:
        found = run()
        same = bool((found - expected).abs().max() <= _NEAR * (1 + expected.abs().max()))
    except Exception:  # such as a product with weights that are not where a module looks for them
        same = False
    if not same:
        undo_packed_linear(loaded.model)


def trial(loaded: LoadedModel, args: StageArguments) -> Callable[[], Tensor] | None:
    """What a frozen model says of one text, on the stage's device; None where its weights will be split over more."""
    if asks_for_fsdp(args):
        return None
    encoded = loaded.tokenizer(_TEXT, return_tensors="pt")
    inputs = {name: encoded[name].to(args.device) for name in loaded.input_names if name in encoded}
    model = loaded.model

    def run() -> Tensor:
        training = model.training
        model.to(args.device).eval()
        try:
            # As frozen models are run.
            with torch.no_grad(), torch.autocast(args.device.type, enabled=False):
                return next(iter(model(**inputs).values())).float()
        finally:
            model.train(training)

    return run
