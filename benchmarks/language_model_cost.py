"""What a token and a pair cost when GPT-2 (12 blocks x 768) is distilled into 6 blocks: each part of a step, timed.

    OMP_NUM_THREADS=1 python benchmarks/language_model_cost.py [--length 256] [--rows 2] [--repeats 3]

Random weights and tokens, float32, on a CPU. Prints for each part the operations of its matrix products for a token,
the microseconds for a token (the best of the repeats), and what follows from both: GFLOP/s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config

from ted_distill.method import vocabulary_losses

WIDTH, VOCABULARY, TEACHER, STUDENT = 768, 50257, 12, 6
PAIRS = 6


def operations(length: int) -> dict[str, float]:
    """Operations for a token, in the matrix products of each part; a multiplication and an addition are two.

    A block has 12 D^2 weights and 4 T D for attention (all T^2 are counted); a pass back is two forward. A teacher's
    filter goes forward, a student's back too; a Stage I filter needs no gradient of its input, its head, which is
    frozen, none of its weights.
    """
    block, head, filter_ = 24 * WIDTH**2 + 4 * length * WIDTH, 2 * WIDTH * VOCABULARY, 2 * WIDTH**2
    return {
        "teacher, forward": TEACHER * block,
        "student, forward and back": 3 * STUDENT * block,
        "vocabulary: teacher's logits": head,
        "vocabulary: student's logits, losses, back": 3 * head,
        "a pair: both filters, layer loss, back": 4 * filter_,
        "Stage I, a block: filter, vocabulary, back": 2 * filter_ + 2 * head,
    }


def parts(rows: int, length: int) -> dict[str, Callable[[], object]]:
    """The same parts, to be called."""
    shape = {"n_embd": WIDTH, "n_head": 12, "vocab_size": VOCABULARY, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    teacher = AutoModelForCausalLM.from_config(GPT2Config(n_layer=TEACHER, attn_pdrop=0.0, **shape)).eval()
    student = AutoModelForCausalLM.from_config(GPT2Config(n_layer=STUDENT, attn_pdrop=0.0, **shape))
    ids = torch.randint(VOCABULARY, (rows, length))
    targets = ids.flatten()
    states = torch.randn(rows * length, WIDTH)
    ours, theirs, head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), teacher.get_output_embeddings()
    with torch.no_grad():
        logits = head(states)
    kept = torch.ones_like(targets, dtype=torch.bool)
    frozen = nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)
    count = torch.tensor(float(len(targets)))

    @torch.no_grad()
    def forward(function: Callable[[], object]) -> object:
        return function()

    def trained() -> None:
        student.transformer(ids).last_hidden_state.sum().backward()

    def vocabulary() -> None:
        own = student.get_output_embeddings()(states.clone().requires_grad_())
        loss = vocabulary_losses.token_loss(own, targets, count)
        (loss + vocabulary_losses.token_kl(own, logits, kept, 2.0, count)).backward()

    def pair() -> None:
        with torch.no_grad():
            wanted = theirs(states)
        nn.functional.mse_loss(ours(states.clone().requires_grad_()), wanted).backward()

    def stage_one() -> None:
        loss: Tensor = vocabulary_losses.vocabulary_loss(ours(states), frozen, targets, count)
        loss.backward()

    called = [
        partial(forward, partial(teacher.transformer, ids)), trained, partial(forward, partial(head, states)),
        vocabulary, pair, stage_one,
    ]  # fmt: skip
    return dict(zip(operations(length), called, strict=True))


def best(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return min(times[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    print("| part | MFLOP a token | us a token | GFLOP/s |\n|---|---:|---:|---:|")
    for name, function in parts(args.rows, args.length).items():
        seconds = best(function, args.repeats) / (args.rows * args.length)
        needed = operations(args.length)[name]
        print(f"| {name} | {needed / 1e6:.1f} | {seconds * 1e6:.0f} | {needed / seconds / 1e9:.0f} |", flush=True)


if __name__ == "__main__":
    main()
