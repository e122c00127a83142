"""Where the parts of a block are: which layers of each known family make heads and neurons, and which write them back.

Every block adds to a stream of hidden states twice: what its heads found, then what its neurons made of that. So each
axis of a weight is one of three spaces, and an index of a space means the same wherever the space occurs in a block:
the stream's coordinates (in all blocks), the block's heads, the block's neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Role = Literal["heads", "after_heads", "neurons", "after_neurons"]


@dataclass(frozen=True)
class Wiring:
    """The linear layers of a family's block, by the ends of their names.

    Attributes:
        heads: layers that make queries, keys and values.
        after_heads: the one that writes what the heads found to the stream.
        neurons: layers that make the inner states of the feed-forward part.
        after_neurons: the one that writes these to the stream.
        norm_last: whether the stream itself is normalised after each addition (BERT), not only what is read from it.
        fused: layers that hold several matrices side by side -> how many.
        transposed: linear layers keep their weights as (inputs, outputs).
    """

    heads: tuple[str, ...]
    after_heads: str
    neurons: tuple[str, ...]
    after_neurons: str
    norm_last: bool = False
    fused: Mapping[str, int] = field(default_factory=dict)
    transposed: bool = False

    def place(self, module: str) -> tuple[str, Role | None]:
        """(name of the block, role in it) of a module; an empty name and None for modules that have no role."""
        # In this order: `output.dense` is also the end of `attention.output.dense`.
        roles: tuple[tuple[Role, tuple[str, ...]], ...] = (
            ("after_heads", (self.after_heads,)),
            ("heads", self.heads),
            ("neurons", self.neurons),
            ("after_neurons", (self.after_neurons,)),
        )
        for role, ends in roles:
            for end in ends:
                if module.endswith(f".{end}"):
                    return module.removesuffix(f".{end}"), role
        return "", None

    def parts(self, module: str) -> int:
        """How many matrices a layer holds side by side."""
        return next((parts for end, parts in self.fused.items() if module.endswith(f".{end}")), 1)


_BERT = Wiring(
    tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention.output.dense", ("intermediate.dense",), "output.dense", norm_last=True,
)  # fmt: skip
_LLAMA = Wiring(
    tuple(f"self_attn.{name}_proj" for name in "qkv"),
    "self_attn.o_proj", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj",
)  # fmt: skip
WIRINGS = {
    "albert": Wiring(
        tuple(f"attention.{name}" for name in ("query", "key", "value")),
        "attention.dense", ("ffn",), "ffn_output", norm_last=True,
    ),
    **dict.fromkeys(("bert", "electra", "roberta", "xlm-roberta"), _BERT),
    "deberta-v2": Wiring(
        tuple(f"attention.self.{name}_proj" for name in ("query", "key", "value", "pos_query", "pos_key")),
        "attention.output.dense", ("intermediate.dense",), "output.dense", norm_last=True,
    ),
    "distilbert": Wiring(
        tuple(f"attention.{name}_lin" for name in "qkv"), "attention.out_lin", ("ffn.lin1",), "ffn.lin2", norm_last=True
    ),
    "gpt2": Wiring(
        ("attn.c_attn",), "attn.c_proj", ("mlp.c_fc",), "mlp.c_proj", fused={"attn.c_attn": 3}, transposed=True
    ),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA),
    "modernbert": Wiring(("attn.Wqkv",), "attn.Wo", ("mlp.Wi",), "mlp.Wo", fused={"attn.Wqkv": 3, "mlp.Wi": 2}),
}  # fmt: skip
"""The families whose layout of weights is known."""


@dataclass(frozen=True)
class Kept:
    """What a narrower model keeps; of each space, indices in ascending order.

    Attributes:
        stream: (d,) coordinates of the hidden states.
        heads: block -> heads; where several share one key, the numbers of such groups.
        neurons: block -> neurons.
        groups: the number of heads, or of groups of heads that share a key, before.
    """

    stream: Tensor
    heads: Mapping[str, Tensor]
    neurons: Mapping[str, Tensor]
    groups: int

    def along(self, wiring: Wiring, weight: str, axis: int, size: int) -> Tensor:
        """(kept,) the indices kept along an axis of a weight, which has `size` before."""
        module, _, kind = weight.rpartition(".")
        block, role = wiring.place(module)
        outputs = axis == (1 if wiring.transposed and kind == "weight" else 0)
        if role is None or outputs != (role in ("heads", "neurons")):
            return self.stream
        parts = wiring.parts(module) if outputs else 1
        if role in ("neurons", "after_neurons"):
            found = self.neurons[block]
        else:
            unit = size // parts // self.groups
            found = (self.heads[block][:, None] * unit + torch.arange(unit)).flatten()
        return torch.cat([found + part * (size // parts) for part in range(parts)])
