"""Every recipe that comes along is a document and resolves on tiny models of its family; every task runs end to end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
)

from ted_distill import InputError, Recipe, evaluate, load_task, read_recipe, run
from ted_distill.cli.main import main
from ted_distill.models.load import ModelArguments, load_model
from ted_distill.runs.planning import PlannedModel, Unknown, plan, plan_stages, show
from ted_distill.runs.planning.estimates import (
    BatchShape,
    activation_bytes,
    logits_bytes,
    trained_bytes,
    training_bytes,
)
from ted_distill.runs.recipe_files import find_recipe, recipe_files, recipe_title
from ted_distill.runs.steps import Steps
from ted_distill.tasks import TASKS, TaskArguments
from ted_distill.tasks.glue import GLUE
from ted_distill.tasks.token_classification import TAGGED
from ted_distill.training.checkpointing import moments_of
from ted_distill.training.stage_arguments import StageArguments
from tiny import DECODERS, save_tiny, tiny_config, tiny_tokenizer, write_entities, write_questions, write_text

pytestmark = pytest.mark.usefixtures("own_cache")
RECIPES = recipe_files()
LAST_WORD = ("lambada", "last_word")
QUICK = {
    "max_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "disable_tqdm": True,
    "use_cpu": True, "fp16": False, "bf16": False, "eval_strategy": "no", "save_strategy": "no", "warmup_steps": 0,
}  # fmt: skip
SECTIONS = (
    "finetune_teacher", "finetune_student", "learn_filters_teacher", "learn_filters_student", "alone", "kd", "lwd",
    "ted",
)  # fmt: skip


# --- tiny data and models -------------------------------------------------------------------------------------


def write_rows(folder: Path, task: str, rows: int = 12) -> Path:
    """A file for a task, with the columns its official data have."""
    if task in ("squad", "squad_v2", "question_answering"):
        return write_questions(folder, 2 if task == "squad" else rows)
    if task in ("causal_lm", "masked_lm", *LAST_WORD):
        return write_text(folder, 10 * rows)
    if task == "token_classification":
        return write_entities(folder, rows)
    words = ["Ada", "wrote", "a", "very", "good", "book"]
    lines: list[dict[str, Any]] = []
    for row in range(rows):
        text = " ".join(words[: 2 + row % 5])
        if task in TAGGED:
            lines.append({"tokens": text.split(), "ner_tags": [row % 3] * len(text.split())})
        elif task in GLUE:
            glue_task = GLUE[task]
            label = row % len(glue_task.label_names) if glue_task.label_names else float(row % 6)
            pair = {glue_task.text_pair: "Bo ate"} if glue_task.text_pair else {}
            lines.append({glue_task.text: text, **pair, "label": label})
        else:
            label = {"regression": float(row % 6), "multi_label_classification": [["a"], ["a", "b"]][row % 2]}
            lines.append({"text": text, "label": label.get(task, row % 2)})
    file = folder / f"{task}.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return file


def tiny_models(folder: Path, name: str) -> list[str]:
    """Overrides that put tiny models of the same family and as many blocks in the place of a recipe's own."""
    content = yaml.safe_load(RECIPES[name].read_text(encoding="utf-8"))
    if "from_scratch" in content:
        return [f"from_scratch.{key}={value}" for key, value in (("n_embd", 12), ("vocab_size", 300))]
    family = "deberta-v2" if "deberta" in name else "gpt2" if "gpt2" in name else "bert"
    changes = {"n_positions": 1024} if family == "gpt2" else {"max_position_embeddings": 512}
    auto_class = AutoModelForCausalLM if family == "gpt2" else AutoModel
    blocks = 6 if name.startswith("offline") else 12
    save_tiny(folder / "teacher", auto_class, family, blocks, **changes)
    found = [f"teacher={folder / 'teacher'}"]
    if "student" in content:
        save_tiny(folder / "student", auto_class, family, blocks, width=8, seed=1, **changes)
        found.append(f"student={folder / 'student'}")
    return found


def on_tiny_data(folder: Path, name: str, *overrides: str) -> Recipe:
    """A recipe with models and data in the place of those it would download."""
    content = yaml.safe_load(RECIPES[name].read_text(encoding="utf-8"))
    file = write_rows(folder, content["task"])
    own = [
        f"train_file={file}", f"validation_file={file}", f"output_dir={folder / 'run'}", "max_seq_length=48",
        "doc_stride=8", "validation_size=null", "dataset_name=null", "dataset_revision=null",
    ]  # fmt: skip
    if "stride" in content:
        own.append("stride=24")
    for data in content.get("score_on", {}):
        task = content["score_on"][data]["task"]
        own.append(f"score_on.{data}={{task: {task}, validation_file: {write_rows(folder, task)}}}")
    return read_recipe(name, [*own, *tiny_models(folder, name), *overrides])


# --- recipes are documents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipes_header_says_what_it_is_on_what_machine_and_by_which_command(name: str) -> None:
    text = RECIPES[name].read_text(encoding="utf-8")
    header = text.split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert re.fullmatch(r".+: .+ -> .+", recipe_title(RECIPES[name]))
    assert f"ted run recipes/{name}.yaml" in header
    if name.startswith("offline"):
        assert re.search(r"docs/(results|study)\.md", header)
    else:
        for part in ("# Reproduces: ", "# Models: ", "# Published: ", "# Hardware: ", "# Here: "):
            assert part in header, part


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("offline")])
def test_published_recipes_need_no_further_word(name: str) -> None:
    recipe = read_recipe(RECIPES[name], ["training.fp16=false", "training.bf16=false"])
    assert recipe.run.output_dir == f"runs/{name}"
    assert recipe.run.methods == ["alone", "kd", "lwd", "ted"]


PUBLISHED = {  # batch, epochs, warm-up teacher/student, LR teacher/student, kl kd/lwd/ted, mse lwd/ted
    "mnli": (64, 3, (1500, 1500), (2e-5, 7e-5), (5, 5, 5), (100, 7500)),
    "qqp": (64, 8, (5000, 5000), (2e-5, 6e-5), (20, 20, 20), (20, 1000)),
    "qnli": (32, 3, (500, 500), (1e-5, 5e-5), (20, 20, 20), (10, 100)),
    "sst2": (32, 6, (0, 0), (2e-5, 4e-5), (20, 20, 20), (20, 20)),
    "rte": (16, 6, (0, 0), (3e-5, 6e-5), (20, 20, 20), (20, 50)),
    "cola": (32, 6, (100, 0), (2e-5, 6e-5), (20, 0, 0), (5, 10)),
    "mrpc": (32, 6, (0, 0), (3e-5, 7e-5), (20, 20, 20), (5, 100)),
    "stsb": (16, 6, (100, 100), (2e-5, 1e-4), (20, 20, 20), (5, 50)),
}


@pytest.mark.parametrize("task", PUBLISHED)
def test_glue_recipes_have_the_published_hyper_parameters(task: str) -> None:
    recipe = read_recipe(f"glue/{task}/deberta-v3-base-to-xsmall", ["training.fp16=false"])
    batch, epochs, warmup, rates, kl_alphas, mse_alphas = PUBLISHED[task]
    assert recipe.task.max_seq_length == (128 if task == "stsb" else 256)
    assert recipe.run.filter_output_dim == 768
    for section in SECTIONS:
        values = recipe.stage(section)
        side = 0 if section.endswith("teacher") else 1
        assert values["per_device_train_batch_size"] == batch
        assert values["num_train_epochs"] == epochs
        assert values["warmup_steps"] == warmup[side]
        assert float(values["learning_rate"]) == rates[side]
        assert (values["seed"], values["weight_decay"], values["max_grad_norm"]) == (42, 0, 0)
    stages = [recipe.stage(method) for method in ("kd", "lwd", "ted")]
    assert tuple(values["kl_alpha"] for values in stages) == kl_alphas
    assert tuple(values["mse_alpha"] for values in stages[1:]) == mse_alphas
    assert {values["temperature"] for values in stages} == {2}


def test_cola_switches_off_the_dropout_that_the_published_code_ignored(tmp_path: Path) -> None:
    recipe = on_tiny_data(tmp_path, "glue/cola/deberta-v3-base-to-xsmall", "training.fp16=false")
    overrides = recipe.stage("finetune_student")["config_overrides"]
    save_tiny(tmp_path / "with_dropout", AutoModel, "deberta-v2", hidden_dropout_prob=0.1)
    loaded = load_model(tmp_path / "with_dropout", load_task(recipe.task), ModelArguments(overrides), new_head=True)
    assert loaded.model.dropout.p == 0
    loaded.model.save_pretrained(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert again.dropout.p == 0


# --- what a recipe would do -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_resolves_on_tiny_models_of_its_family(name: str, tmp_path: Path) -> None:
    recipe = on_tiny_data(tmp_path, name, "training.fp16=false", "training.bf16=false")
    found = plan(recipe)
    teacher, student = found.models.values()
    assert isinstance(teacher, PlannedModel)
    assert isinstance(student, PlannedModel)
    blocks = student.config.num_hidden_layers
    interval = teacher.config.num_hidden_layers // blocks
    assert found.pairs == [(interval * block, block) for block in range(1, blocks + 1)]
    stages = plan_stages(found)
    tuned = [f"finetune_{owner}" for owner in ("teacher", "student") if recipe.tunes(owner)]
    # The published recipes learn the student's filters too; a student of the teacher's blocks is not fine-tuned first.
    learnt = ["learn_filters_teacher", *(["learn_filters_student"] if name.endswith("xsmall") else [])]
    assert [stage.name for stage in stages] == [*tuned, *learnt, *recipe.run.methods]
    assert recipe.tunes("student") == name.endswith("xsmall")
    assert not any(isinstance(stage.steps, Unknown) for stage in stages)
    assert not any(isinstance(stage.memory, Unknown) for stage in stages)
    text = show(found)
    assert max(map(len, text.splitlines())) <= 120
    assert "?" not in text
    assert not (tmp_path / "run").exists()


def test_steps_that_hang_on_a_tokenizer_yet_to_be_made_are_unknown(tmp_path: Path) -> None:
    more = ["finetune_teacher.max_steps=-1", "training.bf16=false"]
    found = plan(on_tiny_data(tmp_path, "offline/wikitext-2", *more))
    assert isinstance(plan_stages(found)[0].steps, Unknown)
    assert "?: the tokenizer will be made from the text" in show(found)


def _quick(recipe: Callable[..., Recipe], folder: Path, name: str, *more: str) -> Recipe:
    tuned = [section for section in SECTIONS if section != "finetune_student"]
    quick = [f"{section}.{key}={value}" for section in tuned for key, value in QUICK.items()]
    return recipe(folder, name, *quick, *more)


def test_a_plan_is_what_the_run_then_does(tmp_path: Path) -> None:
    epochs = [
        f"{section}.{key}"
        for section in ("finetune_teacher", "alone", "lwd")
        for key in ("max_steps=-1", "num_train_epochs=2")
    ]
    cache = tmp_path / "states"
    more = [*epochs, "filter_output_dim=16", f"distill.cache_dir={cache}", "methods=[lwd]"]
    recipe = _quick(on_tiny_data, tmp_path, "offline/squad_v2_lite", *more)
    found = plan(recipe)
    stages = {stage.name: stage for stage in plan_stages(found)}
    results = run(recipe)
    for model, stage in (("teacher", "finetune_teacher"), ("alone", "alone"), ("lwd", "lwd")):
        assert stages[stage].steps == results[model]["steps"]
    for name, model in found.models.items():
        assert isinstance(model, PlannedModel)
        assert model.parameters == results[name]["parameters"]
    assert not isinstance(found.data, Unknown)
    assert found.data.features == results["lwd"]["train_features"]
    settings = json.loads((tmp_path / "run" / "lwd" / "settings.json").read_text())
    assert [tuple(pair) for pair in settings["identity"]["distill"]["pairs"]] == found.pairs
    kept = sum(file.stat().st_size for file in cache.rglob("*") if file.suffix not in (".json", ".lock"))
    disk = stages["lwd"].disk
    assert isinstance(disk, int)
    # Logits and checksums of each row are kept too; hidden states of so small a model are not much more than that.
    assert disk <= kept <= 2 * disk


def test_a_plan_names_what_is_made_of_what(tmp_path: Path) -> None:
    more = ["student_layers=null", "student_num_layers=3", "student_hidden_size=8", "training.bf16=false"]
    found = plan(on_tiny_data(tmp_path, "offline/wnut_17", *more))
    student = found.models["student"]
    assert isinstance(student, PlannedModel)
    assert student.kept_blocks == [1, 2, 3]
    assert student.config.hidden_size == 8
    text = " ".join(show(found).split())
    assert "blocks 1, 2, 3 of" in text
    assert "3 blocks x 8" in text
    assert "student filters Linear(8, 16)" in text


@pytest.mark.parametrize(
    ("encoder", "decoder", "keys", "kept"),
    [
        (4, 2, ["student_num_layers=1"], [2]),
        (4, 2, ["student_layers=[1]"], [1]),
        (2, 4, ["student_layers=[2, 4]"], [2, 4]),
    ],
)
def test_a_decoder_without_its_encoder_is_planned_and_cut_by_its_own_blocks(
    tmp_path: Path, encoder: int, decoder: int, keys: list[str], kept: list[int]
) -> None:
    config = BartConfig(
        vocab_size=40, d_model=16, encoder_layers=encoder, decoder_layers=decoder, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=70, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    whole, teacher = BartForConditionalGeneration(config), tmp_path / "whole"
    whole.save_pretrained(teacher)
    # Checkpoints of the Hub have all names of a weight.
    every = {name: weight.clone() for name, weight in whole.state_dict().items()}
    save_file(every, teacher / "model.safetensors", metadata={"format": "pt"})
    tiny_tokenizer(token_type_ids=False).save_pretrained(teacher)
    text = write_text(tmp_path)
    file = tmp_path / "recipe.yaml"
    file.write_text(f"{{task: causal_lm, train_file: {text}, validation_file: {text}, max_seq_length: 16}}")
    given = [f"teacher={teacher}", f"output_dir={tmp_path / 'run'}", "methods=[ted]", "training.max_steps=1", *keys]
    recipe = read_recipe(file, [*given, "start_from=pretrained"])
    for found in (plan(recipe), plan(read_recipe(file, given))):
        student = found.models["student"]
        assert isinstance(student, PlannedModel)
        assert student.kept_blocks == kept
        assert [last for last, _ in found.pairs][-1] == decoder
    Steps(recipe).make("student_init")
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student_init").model.decoder.layers
    assert len(made) == len(kept)
    for block, number in zip(made, kept, strict=True):
        assert torch.equal(block.fc1.weight, whole.model.decoder.layers[number - 1].fc1.weight)


@pytest.mark.parametrize(
    ("recipe", "kept"), [("wnut_17", [1, 2, 3]), ("squad_lite", [1, 2, 3]), ("stsb", [2, 4, 6]), ("sst2", [2, 4, 6])]
)
def test_so_many_blocks_are_the_first_for_tags_and_answers_and_spaced_ones_otherwise(
    tmp_path: Path, recipe: str, kept: list[int]
) -> None:
    found = plan(on_tiny_data(tmp_path, f"offline/{recipe}", "student_layers=null", "student_num_layers=3"))
    student = found.models["student"]
    assert isinstance(student, PlannedModel)
    assert student.kept_blocks == kept


def test_models_and_data_of_a_hub_that_does_not_answer_are_unknown_and_say_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", "glue/mrpc/deberta-v3-base-to-xsmall", "training.fp16=false"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "teacher unknown: model: expected microsoft/deberta-v3-base in the cache or a connection to the Hub, got" in out
    )
    assert "pairs unknown" in out
    assert "data unknown: " in out
    assert "pred_loss + 20 match_loss (temperature 2) + 100 layer_loss (mse)" in out
    assert re.search(r"\| finetune_teacher \| \? \| 32 \| 3e-05 linear \| 0 \| \? \| \|", out)


def test_a_wrong_recipe_is_refused_with_all_its_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = save_tiny(tmp_path / "teacher", AutoModel, blocks=4)
    missing = tmp_path / "none.jsonl"
    words = [f"teacher={teacher}", f"train_file={missing}", f"validation_file={missing}", "student_layers=[2,9]"]
    assert main(["show", "offline/cola", *words]) == 2
    said = capsys.readouterr().err
    assert "student_layers: expected ascending numbers from 1 to 4, got [2, 9]" in said
    assert str(missing) in said


def test_pairs_of_a_methods_own_section_are_checked(tmp_path: Path) -> None:
    found = plan(on_tiny_data(tmp_path, "offline/cola", "ted.pairs=[[6, 3]]"))
    stages = {stage.name: stage for stage in plan_stages(found)}
    assert stages["ted"].method.pairs == [(6, 3)]  # type: ignore[union-attr]
    wrong = plan(on_tiny_data(tmp_path, "offline/cola", "ted.pairs=[[7, 3]]"))
    with pytest.raises(InputError, match="7"):
        plan_stages(wrong)


# --- estimates of memory --------------------------------------------------------------------------------------


def test_estimated_activations_are_near_what_autograd_keeps() -> None:
    config = tiny_config("bert", blocks=4, width=64, intermediate_size=256, num_attention_heads=4)
    config._attn_implementation = "eager"
    model = AutoModel.from_config(config).train()
    batch = BatchShape(rows=4, tokens=64, item_bytes=4)
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(torch.randint(5, 30, (4, 64)))
    estimated = activation_bytes(config, batch, 4)
    assert 0.6 < sum(kept.values()) / estimated < 1.5
    del outputs


def test_a_trained_weight_takes_its_gradient_and_two_moments_too() -> None:
    weight = torch.nn.Parameter(torch.zeros(100))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    state = [tensor for tensor in optimizer.state[weight].values() if tensor.numel() > 1]
    assert weight.grad is not None
    measured = sum(tensor.nbytes for tensor in (weight, weight.grad, *state))
    assert trained_bytes(100, BatchShape(1, 1, 4)) == measured


@pytest.mark.parametrize(("optim", "kept"), [("sgd", 0), ("adafactor", 0), ("rmsprop", 1), ("adamw_torch", 2)])
def test_what_an_optimizer_keeps_is_known_by_its_name(optim: str, kept: int, tmp_path: Path) -> None:
    assert moments_of(StageArguments(str(tmp_path), optim=optim)) == kept
    assert trained_bytes(100, BatchShape(1, 1, 4, kept)) == 100 * (8 + 4 * kept)


def test_recomputed_activations_and_a_decoder_change_the_estimate() -> None:
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=3, num_heads=2)
    model = AutoModelForSeq2SeqLM.from_config(config)
    batch = BatchShape(8, 64, 4)
    whole, again = (training_bytes(model, batch._replace(recomputes=way)) for way in (False, True))
    one_block = activation_bytes(config, batch, 1)
    assert whole - trained_bytes(model.num_parameters(), batch) - logits_bytes(model, batch) == 5 * one_block
    assert whole - again == 4 * one_block - 5 * 8 * 64 * 16 * 4, "but for the inputs of five blocks"


# --- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["glue/cola/bert", "no-such", "recipes/none.yaml"])
def test_an_unknown_recipe_is_refused(word: str) -> None:
    with pytest.raises(
        InputError, match=rf"recipe: expected a file or a recipe of the package, got {word}; (did you mean|`ted list`)"
    ):
        find_recipe(word)


def test_recipes_are_found_by_name_by_path_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "my.yaml"
    own.write_text("task: sst2\n")
    assert find_recipe(own) == own
    monkeypatch.chdir(tmp_path)
    for word in ("offline/cola", "offline/cola.yaml", "recipes/offline/cola.yaml", "./recipes/offline/cola"):
        assert find_recipe(word) == RECIPES["offline/cola"]
    with pytest.raises(InputError, match=r"did you mean .*glue/cola/deberta-v3-base-to-xsmall or offline/cola\?"):
        find_recipe("cola")
    with pytest.raises(InputError, match=r"did you mean my.yaml\?"):
        find_recipe("mi.yaml")


def test_the_list_has_a_line_for_every_task_and_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert list(listed) == [*TASKS, *RECIPES]
    assert all(len(words) > 10 for words in listed.values())


# --- every task, end to end -----------------------------------------------------------------------------------


ALIKE = ["sst2", "cola", "stsb", "mrpc", "qqp", "qnli", "rte", "wnli", "conll2003", "wnut_17", "squad", "squad_v2"]
"""Tasks that differ from others in their columns and scores alone, which have tests of their own."""
ONE_OF_EACH = ["mrpc", "stsb", "wnut_17", "squad_v2"]


@pytest.mark.parametrize(
    "task",
    [
        *(task for task in TASKS if task not in (*ALIKE, *LAST_WORD)),
        *(pytest.param(task, marks=pytest.mark.long) for task in ONE_OF_EACH),
    ],
)
def test_every_task_runs_through_all_stages(task: str, tmp_path: Path, float32: None) -> None:
    family = {"causal_lm": "gpt2", "masked_lm": "roberta"}.get(task, "bert")
    auto_class = load_task(task).auto_model if task.endswith("_lm") else AutoModel
    teacher = save_tiny(tmp_path / "backbone", auto_class, family, blocks=4)
    file = str(write_rows(tmp_path, task))
    recipe = tmp_path / "recipe.yaml"
    content = {
        "task": task, "train_file": file, "validation_file": file, "teacher": str(teacher), "student_num_layers": 2,
        "output_dir": str(tmp_path / "run"), "max_seq_length": 32, "doc_stride": 8, "training": QUICK,
    }  # fmt: skip
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    results = run(read_recipe(recipe))
    assert list(results) == ["teacher", "student", "alone", "kd", "lwd", "ted"]
    made = load_task(TaskArguments(task, train_file=file, validation_file=file, max_seq_length=32, doc_stride=8))
    scores = evaluate(tmp_path / "run" / "ted", made)
    assert made.metric in scores
    assert results["ted"][made.metric] == pytest.approx(scores[made.metric], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("task", LAST_WORD)
@pytest.mark.parametrize("family", DECODERS)
def test_last_words_are_scored(task: str, family: str, tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", AutoModelForCausalLM, family)
    file = str(write_rows(tmp_path, task))
    scores = evaluate(model, load_task(TaskArguments(task, validation_file=file, max_seq_length=32)))
    assert 0 <= scores["accuracy"] <= 100
    assert scores["perplexity"] > 1


@pytest.mark.parametrize(
    "name", [pytest.param("gpt2/openwebtext-12-to-6", marks=pytest.mark.long), "glue/mnli/bert-base-to-6-blocks"]
)
def test_recipes_of_students_made_from_teachers_run_on_tiny_models(name: str, tmp_path: Path) -> None:
    more = ["filter_output_dim=16", "max_eval_samples=10"]
    results = run(_quick(on_tiny_data, tmp_path, name, *more))
    assert list(results) == ["teacher", "student", "alone", "kd", "lwd", "ted"]
    student = json.loads((tmp_path / "run" / "ted" / "config.json").read_text())
    assert student.get("n_layer", student.get("num_hidden_layers")) == 6
    if name.startswith("gpt2"):
        assert {"lambada_accuracy", "lambada_perplexity", "wikitext-103_perplexity"} <= set(results["ted"])
