"""The ranges of the fields that `StageArguments` inherits from `transformers.TrainingArguments`."""

from __future__ import annotations

from ..ranges import Range, a_path, above, at_least, below, between, one_of, only, steps_or_share

SEED = between(0, 2**32 - 1)
"""What numpy takes for a seed."""
_LOG_LEVELS = one_of(("detail", "debug", "info", "warning", "error", "critical", "passive"))

TRAINING_RANGES: dict[str, Range] = {
    "output_dir": a_path(),
    # How long, and how fast.
    "num_train_epochs": above(0, at_most=1e6),
    "max_steps": at_least(1, or_exactly=-1),
    "learning_rate": above(0, at_most=10, or_text=("auto",)),
    "warmup_steps": steps_or_share(zero=True),
    "per_device_train_batch_size": at_least(1),
    "per_device_eval_batch_size": at_least(1),
    "gradient_accumulation_steps": at_least(1),
    # The optimizer. An epsilon of 0 divides 0 by 0 wherever a gradient is 0.
    "weight_decay": at_least(0),
    "adam_beta1": below(0, 1),
    "adam_beta2": below(0, 1),
    "adam_epsilon": above(0, at_most=1),
    "max_grad_norm": at_least(0),
    # When to log, score and save. A share is one of all steps.
    "logging_steps": steps_or_share(),
    "eval_steps": steps_or_share(),
    "save_steps": steps_or_share(),
    "eval_delay": at_least(0),
    "save_total_limit": at_least(1),
    "log_level": _LOG_LEVELS,
    "log_level_replica": _LOG_LEVELS,
    # Chance, processes and memory.
    "seed": SEED,
    "data_seed": SEED,
    "dataloader_num_workers": between(0, 1024),
    "dataloader_prefetch_factor": at_least(1),
    "dataloader_multiprocessing_context": one_of(("fork", "forkserver", "spawn")),
    "torch_compile_mode": one_of(("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")),
    "torch_empty_cache_steps": at_least(1),
    "eval_accumulation_steps": at_least(1),
    "ddp_bucket_cap_mb": at_least(1),
    "ddp_timeout": between(1, 10**8),
    "ddp_backend": one_of(("nccl", "gloo", "mpi", "ccl", "hccl", "cncl", "mccl")),
    "local_rank": at_least(-1),
    # The stages compute their own losses.
    "label_smoothing_factor": only(0, "as the stages' losses do not use it"),
    "neftune_noise_alpha": only(0, "as the stages do not use it"),
}
"""A field of a number that is missing here fails `tests/test_ranges.py`."""
