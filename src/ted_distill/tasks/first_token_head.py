"""The filter head of tasks that classify whole rows."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PretrainedConfig

from ..method.filters import draw_weights, initializer_range


class FirstTokenHead(nn.Module):
    """First token -> dropout -> dense -> GELU -> dropout -> out_proj: (B, T, F) -> (B, C)."""

    def __init__(self, filter_output_dim: int, num_labels: int, config: PretrainedConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.dense = nn.Linear(filter_output_dim, filter_output_dim)
        self.out_proj = nn.Linear(filter_output_dim, num_labels)
        draw_weights(self, initializer_range(config))

    def forward(self, states: Tensor) -> Tensor:
        """Logits (B, C) of filter states (B, T, F)."""
        hidden = nn.functional.gelu(self.dense(self.dropout(states[:, 0])))
        return self.out_proj(self.dropout(hidden))


def _classifier_dropout(config: PretrainedConfig) -> float:
    """The dropout of the model's own classifier, whatever its family calls it."""
    families = ("classifier_dropout", "cls_dropout", "classifier_dropout_prob", "seq_classif_dropout")
    found = (getattr(config, name, None) for name in (*families, "hidden_dropout_prob"))
    return next((float(dropout) for dropout in found if dropout is not None), 0.0)
