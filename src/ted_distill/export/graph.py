"""A model written as one ONNX file, and the same file in int8."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import InputError, reason_of
from ..wording import size
from .requirements import quietly

OPSET = 20
_LARGEST = 2**31 - 2**24
"""Bytes of weights that fit into one file, whose format counts in 32 bits."""
_LOGITS = {"logits", "start_logits", "end_logits"}
_AXES = ("batch", "length")
_INTEGER = ("MatMulInteger", "DynamicQuantizeMatMul", "ConvInteger", "QGemm", "QAttention")


def require_small(model: PreTrainedModel, name: str) -> None:
    """Refuse a model whose weights do not fit into one file. Raises `InputError`."""
    held = 4 * sum(weight.numel() for weight in model.parameters())
    if held > _LARGEST:
        raise InputError(
            f"export: expected weights of less than {size(_LARGEST)}, which is all that one ONNX file holds, got "
            f"{name} with {size(held)} in float32; export a smaller student"
        )


def write_graph(model: PreTrainedModel, inputs: Mapping[str, Tensor], file: Path, name: str) -> None:
    """Write a model as ONNX, weights inside, for batches of any size and any length.

    Args:
        inputs: two rows, one of them padded: axes of size one would become constants.
        name: of the model, for messages.

    Raises:
        InputError: transformers cannot export this model.
    """
    import onnx
    from onnx_ir.serde import serialize_model
    from transformers.exporters import OnnxExporter
    from transformers.exporters.configs import OnnxConfig

    # The exporter changes modules in place, and the original is what the file is compared with.
    model = copy.deepcopy(model).eval()
    for part in {id(config): config for config in (model.config, model.config.get_text_config())}.values():
        part.use_cache = part.output_hidden_states = part.output_attentions = False
    options = OnnxConfig(dynamic=True, opset_version=OPSET)
    try:
        with quietly(), torch.no_grad():
            exported: Any = OnnxExporter().export(model, dict(inputs), options)
    # The tracer, the translation of operators and the optimiser fail in many ways, and with remote code in any.
    except Exception as error:
        raise InputError(
            f"export: expected {name} ({type(model).__name__}) to be written as ONNX by transformers' exporter, got an "
            f"error ({type(error).__name__}: {reason_of(error)}); use a model of another family, or a newer "
            "transformers"
        ) from error
    # transformers 5.17 gives what torch made, which holds the graph as `model`.
    graph = serialize_model(exported.program if hasattr(exported, "program") else exported.model)
    _tidy(graph)
    onnx.save(graph, str(file))


def _tidy(proto: Any) -> None:
    """Name the axes, leave only logits as outputs, and drop the traces, which hold paths of this machine."""
    graph = proto.graph
    wanted = [output for output in graph.output if output.name in _LOGITS]
    if wanted:
        del graph.output[:]
        graph.output.extend(wanted)
    renamed: dict[str, str] = {}
    for value in graph.input:
        for axis, dim in zip(_AXES, value.type.tensor_type.shape.dim, strict=False):
            renamed[dim.dim_param] = axis
            dim.dim_param = axis
    for value in graph.output:
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param:
                dim.dim_param = renamed.get(dim.dim_param, _AXES[min(place, 1)])
    # The names of axes inside the graph would be the old ones.
    del graph.value_info[:]
    del proto.metadata_props[:]
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""
    for function in proto.functions:
        for part in [function, *function.node]:
            del part.metadata_props[:]
            part.doc_string = ""


def write_int8(source: Path, target: Path) -> dict[str, int]:
    """Write a graph with its weights in int8; activations are quantised as they come.

    Weights of products have one scale for each channel, tables of embeddings one for the whole table.

    Returns:
        How many operators of each kind work on integers, `embeddings` among them.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = onnx.load(str(source))
    if _untie_heads(whole.graph, _LARGEST - source.stat().st_size):
        onnx.save(whole, str(target))
        source = target
    del whole
    with quietly():
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
    graph = onnx.load(str(target)).graph
    integers = {
        weight.name
        for weight in graph.initializer
        if weight.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    }
    found = Counter(node.op_type for node in graph.node if node.op_type in _INTEGER)
    tables = sum(node.op_type == "Gather" and node.input[0] in integers for node in graph.node)
    return {**found, "embeddings": tables}


def _untie_heads(graph: Any, room: int) -> bool:
    """Give a head that is tied to the embeddings weights of its own, as its product takes them.

    A product with the transposed table would stay in float32, and would make that of the int8 table at every call.

    Args:
        room: bytes that the graph may grow by.

    Returns:
        Whether the graph was changed.
    """
    from onnx import numpy_helper

    weights = {weight.name: weight for weight in graph.initializer}
    tied = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in weights]
    if sum(weights[node.input[0]].ByteSize() for node in tied) > room:
        return False
    for node in tied:
        order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
        weight = np.ascontiguousarray(numpy_helper.to_array(weights[node.input[0]]).transpose(order))
        graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
        graph.node.remove(node)
    return bool(tied)
