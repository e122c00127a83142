"""What `accelerate launch` asks for in the environment: taken where a flag says nothing, refused where one differs.

Accelerate reads these variables when it is made, after everything here has read the flags: a stage would train in
another number type than its identity and its first line say.
"""

from __future__ import annotations

import os

from transformers import TrainingArguments

from ..errors import shown

PRECISION, COMPILER = "ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND"
_COMPILER_MODE = "ACCELERATE_DYNAMO_MODE"
_OFF = ("", "no")
"""What the launcher sets where nothing was asked for."""


def take_launcher_settings(args: TrainingArguments) -> list[str]:
    """Set the number type and the compiler that the launcher asks for, if flags leave them open.

    Args:
        args: as they were given: None or false where nothing was.

    Returns:
        Where a flag and the launcher contradict each other, each a line "NAME: expected X, got Y; do Z".
    """
    return [*_take_precision(args), *_take_compiler(args)]


def _take_precision(args: TrainingArguments) -> list[str]:
    wanted = os.environ.get(PRECISION, "").lower()
    if wanted in _OFF:
        return []
    if wanted not in ("bf16", "fp16"):
        return [
            f"mixed_precision: expected no, bf16 or fp16 from accelerate launch, got {wanted}; change it in "
            "accelerate's config, or leave it out"
        ]
    other = "fp16" if wanted == "bf16" else "bf16"
    refused = getattr(args, other) or (wanted == "bf16" and args.bf16 is False)
    if refused:
        given = f"--{other} true" if getattr(args, other) else "--bf16 false"
        return [
            f"{wanted}: expected the number type of accelerate launch (--mixed_precision {wanted}), got {given}; leave "
            "one of the two out"
        ]
    setattr(args, wanted, True)
    return []


def _take_compiler(args: TrainingArguments) -> list[str]:
    wanted = os.environ.get(COMPILER, "").lower()
    if wanted in _OFF:
        return []
    given = args.torch_compile_backend
    if given not in (None, wanted):
        return [
            f"torch_compile_backend: expected the compiler of accelerate launch (--dynamo_backend {wanted}), got "
            f"{shown(given)}; leave one of the two out"
        ]
    mode = os.environ.get(_COMPILER_MODE, "")
    args.torch_compile, args.torch_compile_backend = True, wanted
    if args.torch_compile_mode is None and mode not in ("", "default"):
        args.torch_compile_mode = mode
    return []
