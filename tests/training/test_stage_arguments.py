"""Training arguments that cannot be used are refused in one message, before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from ted_distill import InputError, StageArguments, TrainingError
from ted_distill.training import stage_arguments
from ted_distill.training.update_counts import check_updates, refuse_untrained, updates, warmup_doubt


def made(**values: Any) -> StageArguments:
    return StageArguments("out", use_cpu=True, **values)


def refused(**values: Any) -> list[str]:
    with pytest.raises(InputError) as error:
        made(**values)
    return error.value.problems


# --- single values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("num_train_epochs", [0, -1, float("nan"), float("inf"), 1e9]),
        ("max_steps", [0, -2, 1.5]),
        ("learning_rate", [0, -1e-5, float("nan"), 1e3]),
        ("warmup_steps", [-1, 1.5, float("inf")]),
        ("per_device_train_batch_size", [0, -8, 2.5]),
        ("per_device_eval_batch_size", [0]),
        ("gradient_accumulation_steps", [0, -1]),
        ("weight_decay", [-0.1, float("nan")]),
        ("adam_beta1", [1, -0.1]),
        ("adam_beta2", [1.5]),
        ("adam_epsilon", [0, -1]),
        ("max_grad_norm", [-1, float("inf")]),
        ("logging_steps", [0, -5, 2.5]),
        ("eval_steps", [0, -1]),
        ("save_steps", [0]),
        ("save_total_limit", [0, -1]),
        ("early_stopping_patience", [0]),
        ("seed", [-1, 2**32]),
        ("data_seed", [-1]),
        ("dataloader_num_workers", [-1, 10**6]),
        ("cache_limit", [-1, float("inf")]),
        ("ddp_timeout", [0, 10**15]),
        ("lr_scheduler_type", ["lineer"]),
        ("optim", ["adam"]),
        ("log_level", ["loud"]),
        ("frozen_dtype", ["int8"]),
        ("train_sampling_strategy", ["shuffled"]),
        ("label_smoothing_factor", [0.1, -1]),
        ("neftune_noise_alpha", [5]),
        ("resume_from_checkpoint", ["runs/x/checkpoint-5"]),
        ("enable_jit_checkpoint", [True]),
        pytest.param(
            "dataloader_in_order",
            [False],
            marks=pytest.mark.skipif(not hasattr(StageArguments, "dataloader_in_order"), reason="older transformers"),
        ),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, values: list[Any]) -> None:
    for value in values:
        assert [problem.partition(": expected ")[0] for problem in refused(**{name: value})] == [name]


def test_values_that_make_sense_are_taken() -> None:
    sane: dict[str, Any] = {
        "num_train_epochs": 0.1, "max_steps": -1, "learning_rate": 3e-5, "warmup_steps": 0.06, "weight_decay": 0.1,
        "adam_beta1": 0, "max_grad_norm": 0, "seed": 0, "save_total_limit": None, "cache_limit": 0, "logging_steps": 1,
        "lr_scheduler_type": "cosine", "optim": "adafactor", "per_device_train_batch_size": 1,
    }  # fmt: skip
    for name, value in sane.items():
        assert getattr(made(**{name: value}), name) == value


def test_problems_of_every_kind_come_in_one_message() -> None:
    names = [
        problem.partition(":")[0]
        for problem in refused(
            seed=-1, fp16=True, report_to="tensorbord", optim="lion_8bit", push_to_hub=True, use_liger_kernel=True,
            lr_scheduler_kwargs={"colour": 1}, save_strategy="no",
        )
    ]  # fmt: skip
    assert sorted(names) == sorted(
        [
            "seed",
            "fp16",
            "report_to",
            "optim",
            "push_to_hub",
            "use_liger_kernel",
            "lr_scheduler_kwargs",
            "save_strategy",
        ]
    )


# --- several values beside each other -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"fp16": True}, "fp16: expected a GPU, got a CPU, which trains in bfloat16 or float32; give bf16, or neither"),
        ({"fp16": True, "bf16": True}, "fp16: expected one of fp16 and bf16, got both; leave one out"),
        ({"save_strategy": "no"}, "save_strategy: expected epoch, like eval_strategy, as the result is the best "),
        (
            {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 6},
            "save_steps: expected a multiple of eval_steps (4), as the result is the best checkpoint, got 6",
        ),
        (
            {"eval_strategy": "steps", "eval_steps": 0.1, "save_strategy": "steps", "save_steps": 0.25},
            "save_steps: expected a multiple of eval_steps (0.1)",
        ),
        (
            {"eval_strategy": "steps", "eval_steps": 0.1, "save_strategy": "steps", "save_steps": 100},
            "save_steps: expected a multiple of eval_steps (0.1)",
        ),
        ({"eval_strategy": "no", "early_stopping_patience": 2}, "early_stopping_patience: expected scores to wait for"),
        ({"eval_strategy": "no", "lr_scheduler_type": "greedy"}, "lr_scheduler_type: expected scores for greedy"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor: expected dataloader_num_workers above 0"),
        ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers: expected dataloader_num_workers"),
        ({"learning_rate": 0.1, "weight_decay": 10}, "weight_decay: expected less than 1 / learning_rate (10)"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(values: dict[str, Any], problem: str) -> None:
    (found,) = refused(**values)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "values",
    [
        {"eval_strategy": "no", "eval_steps": 7},
        {"eval_strategy": "no", "save_strategy": "no"},
        {"save_strategy": "best"},
        {"eval_strategy": "steps", "eval_steps": 0.1, "save_strategy": "steps", "save_steps": 0.3},
        {"eval_strategy": "steps", "save_strategy": "steps"},
        {"eval_strategy": "steps", "eval_steps": 3, "save_steps": 7, "load_best_model_at_end": False},
        {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1},
    ],
)
def test_arguments_that_go_together_are_taken(values: dict[str, Any]) -> None:
    assert made(**values)


# --- what is made of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {"min_lr": 0.1}),
        ("polynomial", {"power": -1}),
        ("polynomial", {"lr_end": 1}),
        ("cosine_with_min_lr", {"min_lr": 1}),
        ("cosine_with_min_lr", {"min_lr": "small"}),
        ("inverse_sqrt", {"timescale": "x"}),
    ],
)
def test_a_schedule_with_options_it_does_not_take_is_refused(kind: str, options: dict[str, Any]) -> None:
    (problem,) = refused(lr_scheduler_type=kind, lr_scheduler_kwargs=options)
    assert problem.startswith(f"lr_scheduler_kwargs: expected what schedule {kind} takes, got {options}")


@pytest.mark.parametrize("rate", [None, "auto"])
def test_a_schedule_that_ends_at_a_rate_is_refused_where_that_may_be_above_the_one_that_will_be_chosen(
    rate: str | None,
) -> None:
    kwargs = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 2e-4}}
    (problem,) = refused(learning_rate=rate, **kwargs)
    assert problem.startswith("learning_rate: expected a number with {'lr_end': 0.0002} of lr_scheduler_kwargs")
    assert made(learning_rate=1e-3, **kwargs)
    low = made(learning_rate=rate, lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr": 1e-5})
    assert low.lr_scheduler_kwargs == {"min_lr": 1e-5}


def test_a_schedule_that_needs_options_is_refused_without_them() -> None:
    (problem,) = refused(lr_scheduler_type="warmup_stable_decay")
    assert "num_decay_steps" in problem
    assert made(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs={"num_decay_steps": 100})


@pytest.mark.parametrize("kind", ["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "greedy"])
def test_schedules_are_taken_as_they_come(kind: str) -> None:
    assert made(lr_scheduler_type=kind, warmup_steps=0.1)


def test_an_optimizer_that_is_not_installed_is_refused_with_what_it_needs() -> None:
    (problem,) = refused(optim="schedule_free_adamw")
    assert problem.startswith("optim: expected an optimizer that can be made here, got schedule_free_adamw (")
    assert "schedulefree" in problem
    (problem,) = refused(optim="galore_adamw", optim_target_modules=["attention"])
    assert problem.startswith("optim: expected an optimizer that can be made here, got galore_adamw (")


def test_options_that_an_optimizer_does_not_read_are_refused() -> None:
    assert refused(optim="adamw_torch", optim_args="colour=1") == [
        "optim_args: expected none, as optimizer adamw_torch takes none from there, got 'colour=1'; leave it out"
    ]


def test_a_tracker_that_does_not_exist_is_answered_with_the_nearest_and_one_not_installed_is_named() -> None:
    assert refused(report_to="tensorbord")[0].endswith("got 'tensorbord'; did you mean tensorboard?")
    assert refused(report_to=["dvclive"]) == [
        "report_to: expected a tracker that is installed, got dvclive; install it or leave it out"
    ]
    assert refused(report_to=3)[0].endswith("got 3")
    assert made(report_to="none").report_to == []


def test_a_file_that_is_not_there_is_refused_in_python_too() -> None:
    assert refused(accelerator_config="missing.json") == [
        "accelerator_config: expected a file, got 'missing.json' (No such file or directory)"
    ]


# --- devices --------------------------------------------------------------------------------------------------


def test_one_of_several_gpus_is_used_and_the_way_to_use_all_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("sys.argv", ["/usr/bin/ted", "run", "r.yaml", "--hub_token", "x"])
    stage_arguments._say_how_to_use_all.cache_clear()
    plain = TrainingArguments("out", report_to="none")
    assert plain.n_gpu == 4  # so transformers would wrap the model in nn.DataParallel
    for _ in range(2):
        args = StageArguments("out", bf16=False)
        assert (args.n_gpu, args.train_batch_size) == (1, 16)
    assert [record.getMessage() for record in caplog.records if "torchrun" in record.getMessage()] == [
        "4 GPUs are visible; this process uses one. To use all: torchrun --nproc_per_node 4 -m ted_distill run r.yaml "
        "--hub_token '***'"
    ]


# --- updates --------------------------------------------------------------------------------------------------


def test_updates_are_counted_as_the_trainer_does() -> None:
    args = made(per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=2.5)
    assert updates(args, 41) == 15  # 11 batches, 6 updates an epoch
    assert updates(made(per_device_train_batch_size=64, num_train_epochs=0.01), 41) == 1
    assert updates(made(max_steps=7), 41) == 7


def test_a_training_without_an_update_is_refused_before_it_starts_and_never_published() -> None:
    args = made(per_device_train_batch_size=64, dataloader_drop_last=True, max_steps=5)
    assert updates(args, 63) == 0
    with pytest.raises(InputError, match=r"dataloader_drop_last: expected at least one full batch of 64 rows, got 63"):
        check_updates(args, 63)
    check_updates(args, 64)
    with pytest.raises(TrainingError, match="no update was made"):
        refuse_untrained(0)


def test_no_features_at_all_are_not_called_a_matter_of_full_batches() -> None:
    with pytest.raises(InputError, match="expected at least one feature to train on, got none"):
        check_updates(StageArguments("out", use_cpu=True), 0)


# --- accelerate launch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given", "expected"),
    [
        ("bf16", {}, "bf16"),
        ("bf16", {"bf16": True}, "bf16"),
        ("no", {"bf16": False}, "no"),
        ("no", {"bf16": True}, "bf16"),
        ("BF16", {}, "bf16"),
    ],
)
def test_the_number_type_of_the_launcher_is_the_one_that_is_said(
    asked: str, given: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    args = made(**given)
    assert (args.autocast_type, args.mixed_precision) == (expected, expected)


@pytest.mark.parametrize(
    ("variable", "asked", "given", "problem"),
    [
        ("MIXED_PRECISION", "bf16", {"bf16": False}, "bf16: expected the number type of accelerate launch"),
        ("MIXED_PRECISION", "fp16", {"bf16": True}, "fp16: expected the number type of accelerate launch"),
        ("MIXED_PRECISION", "fp8", {}, "mixed_precision: expected no, bf16 or fp16 from accelerate launch, got fp8"),
        ("DYNAMO_BACKEND", "INDUCTOR", {"torch_compile_backend": "aot_eager"}, "torch_compile_backend: expected the"),
    ],
)
def test_flags_against_the_launcher_are_refused(
    variable: str, asked: str, given: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_{variable}", asked)
    (found,) = refused(**given)
    assert found.startswith(problem)


def test_the_compiler_of_the_launcher_is_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    assert not made().torch_compile
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "reduce-overhead")
    args = made()
    assert args.torch_compile
    assert (args.torch_compile_backend, args.torch_compile_mode) == ("inductor", "reduce-overhead")


# --- warm-up --------------------------------------------------------------------------------------------------


def test_a_warm_up_as_long_as_the_training_is_a_doubt() -> None:
    assert warmup_doubt(made(warmup_steps=500), 60) == (
        "warmup_steps: expected fewer than the 60 updates, got 500; the rate never reaches its peak: lower it, or give "
        "a share such as 0.06"
    )
    assert warmup_doubt(made(warmup_steps=60), 60)
    assert not warmup_doubt(made(warmup_steps=59), 60)
    assert not warmup_doubt(made(warmup_steps=0.9), 1)
    assert not warmup_doubt(made(warmup_steps=500, lr_scheduler_type="constant"), 60)
