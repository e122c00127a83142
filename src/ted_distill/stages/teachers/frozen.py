"""Frozen models in a smaller number type and in a faster form, each tried on one text before it is used.

Most families run in both. In some, a table that is no weight keeps its type and does not fit the others any more; in
some, a module reads the weights of a layer past the layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import reason_of
from ...fast.packed_linear import undo_packed_linear, use_packed_linear
from ...fast.precision import cast_buffers, cast_weights, resolve_dtype
from ...models.load import LoadedModel
from ...training.sharded.shard_arguments import asks_for_fsdp
from ...training.stage_arguments import StageArguments

logger = logging.getLogger(__name__)

_TEXT = "a few words"
_TRIED = 4 * 10**9
"""Bytes of float32 weights up to which a model is tried in its new type first; larger ones are cast untried."""
_NEAR = 0.1
"""Tolerance for outputs of packed layers, as a share of the largest one: so much may be rounding."""


def cast_frozen(loaded: LoadedModel, args: StageArguments) -> torch.dtype:
    """Cast a model to `frozen_dtype` in place, on the stage's device.

    Returns:
        The type: float32 for a model that does not run in the other, which is said.
    """
    loaded.identity  # noqa: B018  (of the weights before they are cast: it is kept)
    model, dtype = loaded.model, resolve_dtype(args.frozen_dtype, args.device, args.fp16)
    run = trial(loaded, args) if dtype != torch.float32 else None
    if run is None or 4 * model.num_parameters() > _TRIED:
        cast_weights(model, dtype)
        return dtype
    # Cast where they are: on the device there may be room for the smaller type alone.
    weights = [(weight, weight.data) for weight in model.parameters()]
    tables = [
        (part, name, table.clone()) for part in model.modules() for name, table in part.named_buffers(recurse=False)
    ]
    for cast in (cast_weights, cast_buffers):
        cast(model, dtype)
        try:
            if not run().isnan().any():
                return dtype
            reason = "its predictions are not numbers"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a family makes of a type that it does not expect
            reason = reason_of(error, whole=True)
    for weight, data in weights:
        weight.data = data
    for part, name, table in tables:
        part._buffers[name] = table
    cast_weights(model, torch.float32)
    kind = str(dtype).removeprefix("torch.")
    logger.warning(
        "frozen_dtype: expected %s to run in %s, got an error (%s); it stays in float32", loaded.name, kind, reason
    )
    return torch.float32


def pack_frozen(loaded: LoadedModel, args: StageArguments, filters: nn.Module | None = None) -> None:
    """Pack the linear layers of a frozen model if that is asked for and changes nothing; see `fast.packed_linear`."""
    if not args.packed_linear or args.torch_compile or asks_for_fsdp(args) or args.device.type != "cpu":
        return
    if filters is not None:
        use_packed_linear(filters)
    run = trial(loaded, args) if loaded.model.dtype == torch.bfloat16 else None
    if run is None:
        return
    try:
        expected = run()
        use_packed_linear(loaded.model)
        found = run()
        same = bool((found - expected).abs().max() <= _NEAR * (1 + expected.abs().max()))
    except Exception:  # such as a product with weights that are not where a module looks for them
        same = False
    if not same:
        undo_packed_linear(loaded.model)


def trial(loaded: LoadedModel, args: StageArguments) -> Callable[[], Tensor] | None:
    """Returns a function that gives a frozen model's output for one text; None where its weights will be split."""
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
                return next(iter(model(**inputs, return_dict=True).values())).float()
        finally:
            model.train(training)

    return run
