"""Students made from teachers: which blocks they keep, how narrow ones are cut, and what `ted student` refuses."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPTNeoConfig,
    PreTrainedModel,
    SmolLM3Config,
)

from ted_distill import (
    DistillArguments,
    InputError,
    LearnFiltersArguments,
    StageArguments,
    Task,
    TaskArguments,
    distill,
    finetune,
    learn_filters,
    load_model,
    load_task,
)
from ted_distill.cli.main import main
from ted_distill.models.blocks import resolve_blocks, student_from_teacher
from ted_distill.models.narrowing.narrow import narrow_config, narrow_model
from ted_distill.models.students import has_teachers_embeddings, made_of, make_student
from tiny import CLASSES, DECODERS, FAMILIES, save_tiny, tiny_config, usual_first, write_reviews

ALL = [*FAMILIES, *DECODERS]


def head_of(family: str) -> type:
    """The Auto class whose head has the output embedding tied, where the family has one."""
    return AutoModelForCausalLM if family in DECODERS else AutoModelForMaskedLM


def teacher(family: str, blocks: int = 4, width: int = 16) -> PreTrainedModel:
    torch.manual_seed(0)
    # ModernBERT's first block alone lacks a norm; the others take turns in how far they attend.
    return head_of(family).from_config(tiny_config(family, blocks, width)).eval()


def run_model(model: PreTrainedModel) -> tuple[Tensor, tuple[Tensor, ...]]:
    ids = torch.tensor([[1, 5, 9, 13, 2], [1, 7, 8, 30, 2]])
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    return outputs.logits, outputs.hidden_states


@pytest.mark.parametrize("family", usual_first(ALL))
def test_a_student_of_all_blocks_is_its_teacher(family: str) -> None:
    model = teacher(family)
    logits, _ = run_model(model)
    assert torch.equal(run_model(student_from_teacher(model, [1, 2, 3, 4]))[0], logits)


@pytest.mark.parametrize("family", usual_first(ALL))
def test_a_students_first_block_says_what_its_teachers_says(family: str) -> None:
    model = teacher(family)
    student = student_from_teacher(model, [1, 3])
    (_, of_teacher), (_, of_student) = run_model(model), run_model(student)
    assert len(of_student) == 3
    assert student.config.num_hidden_layers == 2
    assert torch.equal(of_student[0], of_teacher[0])
    assert torch.equal(of_student[1], of_teacher[1])


@pytest.mark.parametrize("family", [family for family in ALL if family not in ("albert", "modernbert")])
def test_a_students_weights_are_those_of_the_blocks_it_keeps(family: str) -> None:
    model = teacher(family)
    student = student_from_teacher(model, [2, 4])
    (name, blocks), *_ = [
        (name, module) for name, module in student.named_modules() if isinstance(module, torch.nn.ModuleList)
    ]
    for number, kept in enumerate((2, 4)):
        theirs = model.get_submodule(name)[kept - 1].state_dict()
        assert all(torch.equal(weight, theirs[key]) for key, weight in blocks[number].state_dict().items())


@pytest.mark.parametrize("family", ["bert", "gpt2", "qwen3"])
def test_tied_embeddings_stay_tied(family: str) -> None:
    changes = {"tie_word_embeddings": True, **({"num_key_value_heads": 2} if family == "qwen3" else {})}
    model = head_of(family).from_config(tiny_config(family, 4, 16, **changes))
    for student in (student_from_teacher(model, [2, 4]), narrow_model(model, 8)):
        assert student.get_output_embeddings().weight is student.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("total", "number", "expected"),
    [(12, 6, [2, 4, 6, 8, 10, 12]), (12, 3, [4, 8, 12]), (6, 4, [1, 3, 4, 6]), (5, 1, [5]), (3, 3, [1, 2, 3])],
)
def test_so_many_blocks_are_evenly_spaced_and_end_with_the_last(total: int, number: int, expected: list[int]) -> None:
    assert resolve_blocks(total, None, number) == expected
    assert resolve_blocks(total, None, number, first=True) == list(range(1, number + 1))


# --- narrower -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", usual_first(ALL))
def test_a_narrow_student_has_fewer_heads_of_the_same_width(family: str) -> None:
    config = tiny_config(family, 2, 16)
    narrow = narrow_config(config, 8) if family in FAMILIES else None
    if narrow is None:  # two heads share one key: half a group cannot be kept
        if family == "gpt2":
            narrow = narrow_config(config, 8)
        else:
            with pytest.raises(InputError, match=r"expected a multiple of 16 up to 16, .*, got 8; the nearest is 16"):
                narrow_config(config, 8)
            return
    assert (narrow.hidden_size, narrow.num_attention_heads) == (8, 1)
    assert narrow.num_hidden_layers == config.num_hidden_layers
    student = narrow_model(teacher(family, 2), 8)
    assert run_model(student)[1][1].shape == (2, 5, 8)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_heads_that_share_their_keys_stay_together(family: str) -> None:
    config = tiny_config(family, 2, 32, num_attention_heads=4, num_key_value_heads=2)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    student = narrow_model(model, 16)
    assert (student.config.num_attention_heads, student.config.num_key_value_heads) == (2, 1)
    theirs, own = (each.model.layers[1].self_attn for each in (model, student))
    head = 8
    assert torch.equal(own.q_proj.weight, theirs.q_proj.weight[: 2 * head, :16])
    assert torch.equal(own.k_proj.weight, theirs.k_proj.weight[:head, :16])
    assert torch.equal(own.o_proj.weight, theirs.o_proj.weight[:16, : 2 * head])


def test_each_of_gpt2s_fused_matrices_is_cut_by_itself() -> None:
    model = teacher("gpt2", 2)
    student = narrow_model(model, 8)
    theirs, own = (each.transformer.h[1].attn.c_attn for each in (model, student))
    for part in range(3):  # query, key, value, each 16 columns wide in the teacher and 8 in the student
        assert torch.equal(own.weight[:, 8 * part : 8 * part + 8], theirs.weight[:8, 16 * part : 16 * part + 8])
        assert torch.equal(own.bias[8 * part : 8 * part + 8], theirs.bias[16 * part : 16 * part + 8])


def test_each_of_modernberts_fused_matrices_is_cut_by_itself() -> None:
    model = teacher("modernbert", 2)
    student = narrow_model(model, 8)
    theirs, own = (each.model.layers[1] for each in (model, student))
    for part in range(3):
        rows = own.attn.Wqkv.weight[8 * part : 8 * part + 8]
        assert torch.equal(rows, theirs.attn.Wqkv.weight[16 * part : 16 * part + 8, :8])
    inner, narrow = model.config.intermediate_size, student.config.intermediate_size
    for part in range(2):
        rows = own.mlp.Wi.weight[narrow * part : narrow * (part + 1)]
        assert torch.equal(rows, theirs.mlp.Wi.weight[inner * part : inner * part + narrow, :8])


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "modernbert"] + ["gpt2"])
def test_a_teacher_that_is_zero_behind_the_cut_says_the_same_as_its_narrow_student(family: str) -> None:
    """Heads apart: what is cut off must have had no part in the first head's queries, keys and values."""
    model = teacher(family, 2)
    student = narrow_model(model, 8)
    for name, weight in student.state_dict().items():
        fused = name.endswith(("c_attn.weight", "c_attn.bias"))
        theirs = model.state_dict()[name]
        parts = theirs.chunk(3, -1) if fused else [theirs]
        cut = torch.cat([part[tuple(slice(0, n // (3 if fused and axis == part.dim() - 1 else 1))
                                    for axis, n in enumerate(weight.shape))] for part in parts], -1)  # fmt: skip
        assert torch.equal(weight, cut), name


def test_random_weights_are_the_seeds_alone() -> None:
    model = teacher("bert", 2)
    first, again, other = (narrow_model(model, 8, "random", seed) for seed in (1, 1, 2))
    name = "bert.encoder.layer.0.attention.self.query.weight"
    weights = [each.state_dict()[name] for each in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], model.state_dict()[name][:8, :8])


def test_a_narrow_student_generates_as_its_teacher_was_set_to() -> None:
    """Its tokens to stop at are no part of the config."""
    model = teacher("gpt2", 2)
    model.generation_config.eos_token_id, model.generation_config.temperature = [1, 2], 0.5
    student = narrow_model(student_from_teacher(model, [2]), 8)
    assert student.generation_config.eos_token_id == [1, 2]
    assert student.generation_config.temperature == 0.5


# --- files and the command -------------------------------------------------------------------------------------


def test_the_command_writes_a_plain_checkpoint_and_says_what_it_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4, num_labels=3)
    assert main(["student", str(source), str(tmp_path / "out"), "--num_layers", "2"]) == 0
    out = capsys.readouterr().out
    assert "4 -> 2 blocks (2, 4), " in out
    student, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert student.config.num_labels == 3
    big = AutoModelForSequenceClassification.from_pretrained(source)
    assert torch.equal(student.classifier.weight, big.classifier.weight)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == (source / "tokenizer.json").read_text()
    assert made_of(tmp_path / "out", str(source)) == [2, 4]


def test_a_narrow_student_says_where_its_weights_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_tiny(tmp_path / "big", AutoModelForCausalLM, "gpt2", blocks=2)
    command = ["student", str(source), str(tmp_path / "out"), "--hidden_size", "8", "--narrow", "random"]
    assert main(command) == 0
    assert "width 16 -> 8; weights: random" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "student.json").read_text())["weights"] == "random"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.n_embd == 8


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "layers: expected what the student keeps, got nothing"),
        (["--layers", "2,4", "--num_layers", "2"], "layers: expected either layers or num_layers, got both"),
        (["--layers", "4,2"], "student_layers: expected ascending numbers from 1 to 4, got ["),
        (["--layers", "2,5"], "student_layers: expected ascending numbers from 1 to 4, got ["),
        (["--layers", "two"], "layers: expected numbers separated by commas, such as 2,4,6, got two"),
        (["--num_layers", "5"], "num_layers: expected 1 to 4 (the teacher's blocks), got 5"),
        (["--hidden_size", "9"], "hidden_size: expected a multiple of 8 up to 16, which keeps whole heads, got 9"),
        (
            ["--num_layers", "2", "--narrow", "short"],
            "narrow: expected one of truncated, random, important, got 'short'",
        ),
        (["--layer", "2"], "unknown flag --layer; did you mean --layers?"),
    ],
)
def test_what_makes_no_student_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    source = save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4)
    assert main(["student", str(source), str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_all_problems_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert main(["student", str(source), str(tmp_path / "out"), "--num_layers", "9", "--hidden_size", "5"]) == 2
    said = capsys.readouterr().err
    assert all(
        problem in said
        for problem in ("holds something", "num_layers: expected 1 to 4", "hidden_size: expected a multiple")
    )
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("more", [[], ["--hidden_size", "8"], ["--hidden_size", "8", "--narrow", "random"]])
def test_the_same_command_again_finds_the_student_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    source = save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4)
    out = tmp_path / "out"
    assert main(["student", str(source), str(out), "--num_layers", "2", *more]) == 0
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    moved = source.rename(tmp_path / "moved")
    capsys.readouterr()
    assert main(["student", str(moved), str(out), "--layers", "2,4", *more]) == 0
    assert f"{out} holds this student already, skipped" in capsys.readouterr().out
    for other in (["--layers", "1,4", *more], ["--layers", "2,4", "--hidden_size", "16" if more else "8"]):
        assert main(["student", str(moved), str(out), *other]) == 2
        assert "which holds something else; give another one" in capsys.readouterr().err
    other_teacher = save_tiny(tmp_path / "other", AutoModelForSequenceClassification, blocks=4, seed=9)
    assert main(["student", str(other_teacher), str(out), "--layers", "2,4", *more]) == 2
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_a_student_whose_weights_were_changed_is_not_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4), tmp_path / "out"
    command = ["student", str(source), str(out), "--num_layers", "2"]
    assert main(command) == 0
    weights = (out / "model.safetensors").read_bytes()
    for damaged in (weights[:-4] + b"\0\0\0\1", weights[:100]):
        (out / "model.safetensors").write_bytes(damaged)
        assert main(command) == 2
        assert "which holds something else" in capsys.readouterr().err


def test_a_missing_teacher_or_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["student", "/no/such/folder", str(tmp_path / "out"), "--num_layers", "2"]) == 2
    assert "got the folder /no/such/folder, which does not exist" in capsys.readouterr().err
    assert main(["student", "only-one", "--num_layers", "2"]) == 2
    assert "expected a teacher and a new folder before the flags, got only-one" in capsys.readouterr().err


def test_a_run_can_make_its_student_by_number_and_width(tmp_path: Path) -> None:
    recipe = {
        "task": "sequence_classification",
        "train_file": str(write_reviews(tmp_path, 24, "train")),
        "validation_file": str(write_reviews(tmp_path, 12, "validation")),
        "output_dir": str(tmp_path / "run"),
        "teacher": str(save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4)),
        "student_num_layers": 2,
        "student_hidden_size": 8,
        "training": {"max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True},
        "methods": ["lwd", "ted"],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(tmp_path / "recipe.yaml"), "report=false"]) == 0
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "ted")
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (2, 8)
    settings = json.loads((tmp_path / "run" / "lwd" / "settings.json").read_text())
    assert settings["identity"]["distill"]["pairs"] == [[2, 1], [4, 2]]
    # Which blocks it was made of goes with it from stage to stage.
    assert made_of(tmp_path / "run" / "ted", str(tmp_path / "run" / "teacher")) == [2, 4]


def test_make_student_gives_the_parameters_of_both(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4)
    before, after = make_student(source, [2, 4], tmp_path / "out")
    models = [AutoModelForSequenceClassification.from_pretrained(folder) for folder in (source, tmp_path / "out")]
    assert [before, after] == [sum(p.numel() for p in model.parameters()) for model in models]


# --- which teacher a student was made of ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = str(write_reviews(tmp_path_factory.mktemp("data"), 12))
    return load_task(TaskArguments("sequence_classification", train_file=file, validation_file=file))


def classifier(folder: Path, seed: int = 0) -> Path:
    return save_tiny(folder, AutoModelForSequenceClassification, blocks=4, seed=seed, **CLASSES)


def one_step(folder: Path) -> StageArguments:
    quick = {"max_steps": 1, "learning_rate": 0.1, "eval_strategy": "no", "save_strategy": "no"}
    return StageArguments(str(folder), disable_tqdm=True, use_cpu=True, **quick)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, reviews: Task) -> Path:
    """A teacher, a student made of its blocks 1 and 3, both fine-tuned, the teacher's filters, and a stranger."""
    root = tmp_path_factory.mktemp("family")
    make_student(classifier(root / "teacher"), [1, 4], root / "student")
    for name in ("teacher", "student"):
        finetune(root / name, reviews, one_step(root / f"{name}_tuned"))
    learn_filters(root / "teacher_tuned", reviews, one_step(root / "teacher_filters"), LearnFiltersArguments(1))
    classifier(root / "stranger", seed=9)
    return root


@pytest.mark.parametrize("student", ["student", "student_tuned"])
@pytest.mark.parametrize("name", ["teacher", "teacher_tuned", "teacher_filters"])
def test_a_student_knows_its_teacher_whatever_was_trained_since(
    student: str, name: str, family: Path, reviews: Task, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_model(family / name, reviews)
    before = load_model(family / "teacher", reviews)
    assert (loaded.identity["backbone"] == before.identity["backbone"]) == (name == "teacher")
    assert loaded.ancestry[-1] == before.identity["backbone"]
    with caplog.at_level(logging.WARNING, "ted_distill"):
        assert made_of(family / student, loaded) == [1, 4]
        assert made_of(family / student, str(family / name)) == [1, 4]
    assert caplog.records == []


def test_a_teacher_that_was_moved_is_the_same_teacher(family: Path, reviews: Task, tmp_path: Path) -> None:
    shutil.copytree(family / "teacher_tuned", tmp_path / "elsewhere")
    assert made_of(family / "student", load_model(tmp_path / "elsewhere", reviews)) == [1, 4]
    assert made_of(family / "student", str(tmp_path / "elsewhere")) == [1, 4]


def test_another_model_is_not_the_teacher_and_there_is_a_warning(
    family: Path, reviews: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # One that a student was made of after its training is a descendant of the teacher, and not the teacher.
    make_student(family / "teacher_tuned", [1, 4], tmp_path / "late")
    for student, name in ((family / "student", "stranger"), (tmp_path / "late", "teacher")):
        for teacher in (load_model(family / name, reviews), str(family / name)):
            caplog.clear()
            with caplog.at_level(logging.WARNING, "ted_distill"):
                assert made_of(student, teacher) is None
            (record,) = [record for record in caplog.records if record.name.startswith("ted_distill")]
            assert f"expected student {student} to be made of this teacher's blocks" in record.getMessage()
            assert "made of blocks 1, 4 of another model (or one not known to be the same)" in record.getMessage()


def test_embeddings_of_another_model_are_not_taken_for_the_teachers(family: Path, tmp_path: Path) -> None:
    """They are trained: only what the fine-tuned teacher made of its words is worth keeping."""
    reviews = load_task(TaskArguments("sequence_classification", train_file=str(write_reviews(tmp_path))))
    for seed, name in enumerate(("teacher", "other")):
        save_tiny(tmp_path / name, AutoModelForSequenceClassification, blocks=4, seed=seed, **CLASSES)
    make_student(tmp_path / "teacher", [2, 4], tmp_path / "student")
    student, own, other = (load_model(tmp_path / name, reviews) for name in ("student", "teacher", "other"))
    assert has_teachers_embeddings(student, own)
    assert has_teachers_embeddings(student, None)
    assert not has_teachers_embeddings(student, other)


def test_a_student_of_its_own_was_made_of_nothing(
    family: Path, reviews: Task, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ted_distill"):
        assert made_of(family / "stranger", load_model(family / "teacher", reviews)) is None
        assert made_of("a/name-of-the-hub", str(family / "teacher")) is None
    assert caplog.records == []


@pytest.mark.parametrize(("teacher", "pairs"), [("stranger", [[2, 1], [4, 2]]), ("teacher_tuned", [[1, 1], [4, 2]])])
def test_the_stage_pairs_by_intervals_unless_it_has_the_students_teacher(
    teacher: str, pairs: list[list[int]], family: Path, reviews: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ted_distill"):
        distill(
            family / teacher, family / "student_tuned", reviews, one_step(tmp_path / "out"), DistillArguments("lwd")
        )
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["identity"]["distill"]["pairs"] == pairs
    assert ("pairing by intervals instead" in caplog.text) == (teacher == "stranger")


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (SmolLM3Config(vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=8, num_attention_heads=2,
                       num_key_value_heads=1, pad_token_id=0, bos_token_id=1, eos_token_id=2), "use_rope"),
        (GPTNeoConfig(vocab_size=40, hidden_size=16, num_layers=8, num_heads=2, window_size=4,
                      attention_types=[[["global", "local"], 4]], bos_token_id=1, eos_token_id=2), "attention_type"),
    ],
)  # fmt: skip
def test_a_block_keeps_its_kind_of_attention_at_its_new_place(config: Any, kind: str, tmp_path: Path) -> None:
    teacher = AutoModel.from_config(config)
    student_from_teacher(teacher, [2, 4, 6, 8]).save_pretrained(tmp_path)

    def kinds(model: Any) -> list[Any]:
        blocks = next(module for module in model.children() if isinstance(module, torch.nn.ModuleList))
        return [next(getattr(part, kind) for part in block.modules() if hasattr(part, kind)) for block in blocks]

    assert kinds(AutoModel.from_pretrained(tmp_path)) == kinds(teacher)[1::2]
    assert len(set(kinds(teacher)[1::2])) == (2 if kind == "use_rope" else 1)


def test_blocks_that_work_otherwise_at_another_place_are_refused() -> None:
    config = GPT2Config(vocab_size=40, n_embd=16, n_layer=4, n_head=2, scale_attn_by_inverse_layer_idx=True,
                        bos_token_id=1, eos_token_id=2)  # fmt: skip
    teacher = AutoModel.from_config(config)
    student_from_teacher(teacher, [1, 2])
    with pytest.raises(InputError, match=r"expected blocks that work at any place, got \[2, 4\] .* where scaling"):
        student_from_teacher(teacher, [2, 4])
