"""What an export says on the screen."""

from __future__ import annotations

from typing import Any

from ..runs.table import aligned
from ..wording import size


def table(about: dict[str, Any]) -> str:
    """A line for each file: its size, how far it is from the checkpoint and, on rows that were given, its score."""
    parity, scores, metric = about["parity"], about["scores"], about["metric"]
    heads = ["", "size", "largest difference", "changed", *([metric] if scores else [])]
    lines = [heads]
    if scores:
        lines.append(["PyTorch", size(4 * about["parameters"]), "", "", f"{scores['pytorch'][metric]:.2f}"])
    for name, file in about["files"].items():
        of = parity[name]
        line = [
            file["file"],
            size(file["bytes"]),
            f"{of['largest_difference']:.2g}",
            f"{100 * of['changed']:.2f} %",
        ]
        lines.append([*line, *([f"{scores[name][metric]:.2f}"] if scores else [])])
    rows = ["  ".join(line).rstrip() for line in aligned(lines)]
    shortest, longest = parity["tokens"]
    rows += [f"Compared on {parity['on']}, {shortest} to {longest} tokens."]
    if not scores:
        rows.append("No data were given, so nothing is known of the score: --test RECIPE or --test FILE compares it.")
    return "\n".join(rows)
