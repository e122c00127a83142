"""Which of our functions one optimizer step of Stage II runs through, and in which files.

    python benchmarks/step_walk.py [--method ted|lwd|kd] [--family bert|deberta-v2] [--no-cache]

A tiny teacher and student are distilled for two steps with the settings a user gets. During the second step, from the
batch that comes out of the loader to the end of `training_step` (forward, losses, backward), every call of a function
of the package is noted; comprehensions and lambdas do not count. The list is in the order of the first calls.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast, set_seed

import ted_distill
from ted_distill import DistillArguments, DistillTrainer, StageArguments, TaskArguments, distill, load_task

PACKAGE = Path(ted_distill.__file__).parent
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "film", "was", "good", "bad"]


def save_model(folder: Path, family: str, blocks: int) -> None:
    """A random classifier of two classes, and a tokenizer of whole words."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_max_length=32,
    ).save_pretrained(folder)  # fmt: skip
    set_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=blocks, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40, relative_attention=True, pos_att_type=["p2c", "c2p"],
        id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


class Walk:
    """The functions of the package that run while it is on: (file, qualified name), in the order of first calls."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """A profile function, see `sys.setprofile`."""
        file, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if event == "call" and PACKAGE in file.parents and not frame.f_code.co_name.startswith("<"):
            self.seen[file.relative_to(PACKAGE).as_posix(), name.replace(".<locals>", "")] = None


def walk_of(method: str, family: str, cache: bool) -> Walk:
    """Distil for two steps and watch the second."""
    walk = Walk()

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(trainer: DistillTrainer, *args: Any, **kwargs: Any) -> Any:
            sys.setprofile(walk if trainer.state.global_step == 1 else None)
            try:
                return function(trainer, *args, **kwargs)
            finally:
                sys.setprofile(None)

        return run

    names = ("get_batch_samples", "training_step")
    for name in names:
        setattr(DistillTrainer, name, watched(getattr(DistillTrainer, name)))
    try:
        _distill_twice(method, family, cache)
    finally:
        for name in names:
            delattr(DistillTrainer, name)
    return walk


def _distill_twice(method: str, family: str, cache: bool) -> None:
    """Two steps of Stage II on sixteen rows, with what comes before them."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        rows = [{"text": f"the film was {word}", "label": word} for word in ("good", "bad") * 8]
        (where / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        names = {"train_file": str(where / "rows.jsonl"), "max_seq_length": 16}
        task = load_task(TaskArguments("sequence_classification", **names))
        save_model(where / "teacher", family, 4)
        save_model(where / "student", family, 2)
        common = {"max_steps": 2, "eval_strategy": "no", "save_strategy": "no", "report_to": "none"}
        common |= {"disable_tqdm": True, "use_cpu": True, "cache_limit": 20 if cache else 0}
        teacher, student = where / "teacher", where / "student"
        if method == "ted":
            for owner, interval in (("teacher", 2), ("student", 1)):
                arguments = ted_distill.LearnFiltersArguments(filter_interval=interval)
                ted_distill.learn_filters(
                    where / owner, task, StageArguments(str(where / f"{owner}_filters"), **common), arguments
                )
            teacher, student = where / "teacher_filters", where / "student_filters"
        distill(teacher, student, task, StageArguments(str(where / "out"), **common), DistillArguments(method))


def main() -> int:
    """Print the walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["ted", "lwd", "kd"], default="ted")
    parser.add_argument("--family", choices=["bert", "deberta-v2"], default="bert")
    parser.add_argument("--no-cache", action="store_true", help="the teacher is run, and nothing read from disk")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    seen = walk_of(arguments.method, arguments.family, not arguments.no_cache).seen
    for file, name in seen:
        print(f"{file:<40} {name}")
    print(f"{len(seen)} functions in {len({file for file, _ in seen})} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
