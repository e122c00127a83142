"""RUN/best, what is kept of a run, and what is required of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSequenceClassification

from small_runs import write_recipe
from ted_distill import Recipe, read_recipe
from ted_distill.benching.candidates import of_run
from ted_distill.benching.cards import with_section
from ted_distill.cli.main import main
from ted_distill.errors import GateError, InputError
from ted_distill.identity import changes
from ted_distill.output import locked, publication, read_sealed, write_sealed
from ted_distill.output.cards import replace_card
from ted_distill.output.manifests import sums
from ted_distill.runs.best_model import best_method, publish_best
from ted_distill.runs.compare.comparison import compare
from ted_distill.runs.dropped_models import kept_results, run_identity
from ted_distill.runs.run import make_step, run
from ted_distill.runs.run_folder import RunFolder
from ted_distill.tasks import load_task
from ted_distill.training.stage_arguments import StageArguments

SHORT = ["methods=[kd]", "training.num_train_epochs=1", "training.eval_strategy=epoch", "training.save_strategy=epoch"]


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), "sequence_classification")


def _recipe(file: Path, folder: Path, *changes: str) -> Recipe:
    return read_recipe(file, [*SHORT, f"output_dir={folder}", *changes])


def test_the_best_student_has_the_best_score_to_choose_by_and_not_on_test_rows(tmp_path: Path) -> None:
    task = load_task("sequence_classification")
    args = StageArguments(str(tmp_path))
    results = {
        "teacher": {task.metric: 99.0},
        "alone": {task.metric: 80.0, f"test_{task.metric}": 90.0},
        "kd": {task.metric: 82.0, f"test_{task.metric}": 70.0},
        "ted": {task.metric: 82.0},
    }
    two, three = dict.fromkeys(["alone", "kd"], args), dict.fromkeys(["alone", "kd", "ted"], args)
    assert best_method(results, two, task) == "kd"
    assert best_method(results, three, task) == "ted"
    results["kd"][f"last_{task.metric}"], results["ted"][f"last_{task.metric}"] = 81.0, 80.0
    assert best_method(results, three, task) == "kd", "its last evaluation was better"
    perplexity = load_task("causal_lm")
    last = dict.fromkeys(["kd", "ted"], args)
    assert best_method({"kd": {"perplexity": 9.0}, "ted": {"perplexity": 11.0}}, last, perplexity) == "kd"


def test_the_best_student_is_chosen_by_the_score_that_chose_its_weights(tmp_path: Path) -> None:
    task = load_task("sequence_classification")
    results = {"alone": {"accuracy": 90.0, "f1_macro": 10.0}, "kd": {"accuracy": 89.0, "f1_macro": 80.0}}
    usual = StageArguments(str(tmp_path))
    named = StageArguments(str(tmp_path), metric_for_best_model="eval_f1_macro")
    assert best_method(results, dict.fromkeys(results, usual), task) == "alone"
    assert best_method(results, dict.fromkeys(results, named), task) == "kd"
    assert best_method(results, {"alone": usual, "kd": named}, task) == "alone", "they disagree: the task's own"


@pytest.mark.parametrize("wanted", ["keep=best", "student_trim=train", "require=['best.accuracy >= 1']"])
@pytest.mark.parametrize("without", ["validation_file", "methods"])
def test_what_needs_a_best_student_is_refused_where_none_can_be_chosen(
    recipe_file: Path, tmp_path: Path, wanted: str, without: str
) -> None:
    rows = read_recipe(recipe_file).task.validation_file
    change = "methods=[]" if without == "methods" else "validation_file=null"
    more = [] if without == "methods" else [f"test_file={rows}"]
    recipe = _recipe(recipe_file, tmp_path / "run", change, *more, "training.eval_strategy=no", wanted)
    with pytest.raises(InputError) as refused:
        run(recipe)
    missing = "at least one method" if without == "methods" else "validation rows"
    assert any(f"{wanted.partition('=')[0]}" in one and missing in one for one in refused.value.problems)
    assert not (tmp_path / "run").exists()


def _train_again(stage: Path) -> Path:
    """Other weights in the folder of a stage, and a manifest that knows them; returns the file."""
    weights = stage / "model.safetensors"
    weights.write_bytes(b"trained again")
    manifest = read_sealed(stage / "stage.json") or {}
    write_sealed(stage / "stage.json", {**manifest, "files": {**manifest["files"], **sums(stage, [weights.name])}})
    return weights


def test_a_finished_run_has_its_best_student_and_only_that_if_so_asked(recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    results = run(_recipe(recipe_file, folder))
    best = next(name for name, of in results.items() if of.get("best"))
    assert AutoModelForSequenceClassification.from_pretrained(folder / "best").num_parameters() > 0
    same = (folder / "best" / "model.safetensors").read_bytes() == (folder / best / "model.safetensors").read_bytes()
    assert same
    assert f"{best}, best" in (folder / "results.md").read_text(encoding="utf-8")
    written = (folder / "best" / "stage.json").stat().st_mtime_ns
    run(_recipe(recipe_file, folder))
    assert (folder / "best" / "stage.json").stat().st_mtime_ns == written, "what is there is not copied again"
    (folder / "best" / "model.safetensors").write_bytes(b"damaged")
    (folder / "best" / "README.md").write_text("My card.", encoding="utf-8")
    run(_recipe(recipe_file, folder))
    assert (folder / "best" / "model.safetensors").read_bytes() == (folder / best / "model.safetensors").read_bytes()
    assert (folder / "best" / "README.md").read_text(encoding="utf-8") == "My card.", "which is not ours to replace"

    theirs = folder / "kd" / "adapter.bin"
    theirs.write_bytes(b"of somebody else")
    seen: list[bool] = []
    run(
        _recipe(recipe_file, folder, "keep=best"),
        before_dropping=lambda of: seen.append((of / "kd" / "model.safetensors").is_file()),
    )
    assert seen == [True]
    assert theirs.is_file(), "nothing is deleted that this run did not write"
    assert [file.parent.name for file in sorted(folder.rglob("*.safetensors"))] == ["best"]
    again = run(_recipe(recipe_file, folder, "keep=best"))
    assert {name: of["accuracy"] for name, of in again.items()} == {
        name: of["accuracy"] for name, of in results.items()
    }

    assert make_step(_recipe(recipe_file, folder, "keep=best"), "kd") == {}
    assert not (folder / "kd" / "model.safetensors").exists(), "a step of it has nothing to do"
    shutil.copyfile(folder / "best" / "model.safetensors", folder / best / "model.safetensors")
    (worse,) = {"alone", "kd"} - {best}
    anew = _train_again(folder / worse)
    run(_recipe(recipe_file, folder, "keep=best"))
    assert not (folder / best / "model.safetensors").exists(), "a kill had left it"
    assert anew.is_file(), "it is not what this run has dropped"
    anew.unlink()

    notes: list[str] = []
    _, left = of_run(str(folder), notes)
    assert [(one.place, one.is_teacher) for one in left] == [(str(folder / "best"), False)]
    assert len(notes) == 1
    assert notes[0].startswith("keep: best has deleted these models: teacher")

    with pytest.raises(InputError, match="expected a new folder, or one whose models are there"):
        compare(_recipe(recipe_file, folder), seeds=1)
    with pytest.raises(InputError, match=r"models, all but the best, were dropped.*keep"):
        run(_recipe(recipe_file, folder))
    with pytest.raises(InputError, match=r"were dropped.*kl_alpha"):
        run(_recipe(recipe_file, folder, "keep=best", "kd.kl_alpha=2"))
    for other in ("some/other-model", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match=r"were dropped.*teacher"):
            kept_results(
                folder,
                changed := _recipe(recipe_file, folder, "keep=best", f"teacher={other}"),
                load_task(changed.task),
                {},
            )
    (folder / "best" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"best as it was written, got model.safetensors \(changed\)"):
        run(_recipe(recipe_file, folder, "keep=best"))
    shutil.rmtree(folder / "best")
    with pytest.raises(InputError, match=r"expected the best model of a finished run in .*best, got none"):
        run(_recipe(recipe_file, folder, "keep=best"))


def test_models_that_the_user_gave_are_not_dropped_wherever_they_are(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    given = _recipe(recipe_file, folder, f"teacher={folder / 'mine'}", "finetune_teacher=false")
    made = {model.name for model in RunFolder(given).made}
    assert "kd" in made
    assert not {"mine", "teacher"} & made
    # A name of the Hub is no folder of the run, though it looks like one where the run's folder is this one.
    monkeypatch.chdir(tmp_path)
    here = RunFolder(_recipe(recipe_file, Path(), "teacher=bert-base-uncased", "finetune_teacher=false"))
    assert not here.makes("bert-base-uncased")
    assert here.makes("kd")


@pytest.mark.parametrize("start", [run, lambda recipe: compare(recipe, seeds=1)])
def test_the_folder_of_a_given_model_is_refused(recipe_file: Path, tmp_path: Path, start: Any) -> None:
    teacher = Path(str(read_recipe(recipe_file).run.teacher))
    files = sorted(file.name for file in teacher.iterdir())
    with pytest.raises(InputError, match="output_dir: expected another folder than that of the model"):
        start(_recipe(recipe_file, teacher))
    assert sorted(file.name for file in teacher.iterdir()) == files


def test_what_a_comparison_in_the_same_folder_needs_is_not_dropped(recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recipe = _recipe(recipe_file, folder, "methods=[kd,ted]")
    alone = {model.name for model in RunFolder(recipe).dropped}
    assert {"teacher", "teacher_filters", "kd", "ted"} <= alone
    (folder / "compare").mkdir(parents=True)
    assert {model.name for model in RunFolder(recipe).dropped} == {"alone", "kd", "ted"} & alone


def test_a_run_and_a_comparison_do_not_work_in_one_folder_at_once(recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder), pytest.raises(InputError, match="another process"):
        compare(_recipe(recipe_file, folder), seeds=1)


def test_results_that_were_kept_are_of_all_rows_that_a_run_scores_on(recipe_file: Path, tmp_path: Path) -> None:
    recipe = _recipe(recipe_file, tmp_path / "run")
    task, further = load_task(recipe.task), {"more": load_task(recipe.task)}
    before = run_identity(recipe, task, further)
    assert run_identity(recipe, task, {"more": load_task(recipe.task)}) == before
    rows = further["more"].rows
    fewer = {"more": further["more"].with_rows({**rows, "validation": rows["validation"].select(range(3))})}
    assert changes(before, run_identity(recipe, task, fewer))


def test_results_that_were_kept_are_of_these_models_and_rows_wherever_they_lie(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Path(str(read_recipe(recipe_file).task.train_file))
    shutil.copytree(str(read_recipe(recipe_file).run.teacher), tmp_path / "teacher")
    shutil.copyfile(rows, tmp_path / f"again{rows.suffix}")

    def identity(*changes: str) -> Any:
        recipe = _recipe(recipe_file, tmp_path / "run", f"teacher={tmp_path / 'teacher'}", *changes)
        return run_identity(recipe, load_task(recipe.task), {})

    before = identity()
    assert identity(f"train_file={tmp_path / f'again{rows.suffix}'}") == before
    (tmp_path / "teacher" / "README.md").write_text("A card.", encoding="utf-8")
    assert identity() == before
    shutil.move(tmp_path / "teacher", tmp_path / "moved")
    assert identity(f"teacher={tmp_path / 'moved'}") == before
    weights = tmp_path / "moved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    (difference,) = changes(before, identity(f"teacher={tmp_path / 'moved'}"))
    assert "teacher" in difference


@pytest.mark.long
def test_what_is_required_is_checked_at_the_end_with_exit_code_4(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = ["run", str(recipe_file), *SHORT, f"output_dir={folder}"]
    assert main([*words, "--require", "kd.accuracy >= 0", "--require", "kd.accuracy >= 101"]) == 4
    said = capsys.readouterr()
    assert "require: does not hold: kd.accuracy >= 101" in said.err
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["kd"]["accuracy"] >= 0
    assert main([*words, "--require", "kd.accuracy >= 0"]) == 0
    with pytest.raises(GateError, match="does not hold"):
        run(_recipe(recipe_file, folder, "require=[kd.accuracy > 100]"))
    recorded = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    assert recorded["require"] == ["kd.accuracy > 100"]


def test_a_requirement_on_a_model_that_the_run_does_not_have_is_refused_at_once(
    recipe_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected one of teacher, student, alone, kd, best, got ted"):
        _recipe(recipe_file, tmp_path / "run", "require=[ted.accuracy >= 1]")


def test_a_requirement_on_a_score_that_the_task_does_not_have_is_refused_at_once(
    recipe_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InputError, match=r"require: expected one of accuracy.*, got acuracy in .*did you mean"):
        run(_recipe(recipe_file, folder, "require=[best.acuracy >= 1]"))
    with pytest.raises(InputError) as refused:
        compare(_recipe(recipe_file, folder, "require=[best.f1 >= 1]"), seeds=1)
    assert "got best in" in str(refused.value)
    assert "got f1 in" in str(refused.value)
    assert not folder.exists()


def test_a_file_in_the_way_of_the_best_student_is_never_overwritten(recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"notes\.txt"):
        run(_recipe(recipe_file, folder))
    assert (folder / "best" / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert not (folder / "teacher").exists(), "it is refused before anything is trained"


def _students(folder: Path) -> Path:
    """Two finished students, whose files are not the same ones, and the first of them as RUN/best."""
    for method, own in (("kd", "added_tokens.json"), ("ted", "merges.txt")):
        with publication(folder / method, {"stage": method}) as partial:
            (partial / "model.safetensors").write_text(method)
            (partial / own).write_text(method)
            (partial / "README.md").write_text(f"The card of {method}.")
    return publish_best(folder, "kd")


def _held(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_what_others_put_beside_the_best_student_stays_when_another_one_is_the_best(tmp_path: Path) -> None:
    best = _students(tmp_path)
    (best / "onnx").mkdir()
    for name in ("handler.py", "onnx/model.onnx"):
        (best / name).write_text("mine")
    (best / "README.md").write_text("My card.")
    publish_best(tmp_path, "ted")
    model = {"model.safetensors", "merges.txt", "README.md", "stage.json"}
    assert _held(best) == {*model, "handler.py", "onnx/model.onnx"}
    assert (best / "model.safetensors").read_text() == "ted"
    assert (best / "README.md").read_text() == "My card."
    publish_best(tmp_path, "kd")
    assert (best / "README.md").read_text() == "My card.", "it is theirs for good"


def test_the_card_of_the_best_student_follows_that_of_the_student_unless_it_was_edited(tmp_path: Path) -> None:
    best = _students(tmp_path)
    replace_card(tmp_path / "kd", "The card of kd, tested on other rows.")
    publish_best(tmp_path, "kd")
    assert (best / "README.md").read_text() == "The card of kd, tested on other rows."
    (best / "README.md").write_text("My card.")
    replace_card(tmp_path / "kd", "The card of kd, tested once more.")
    publish_best(tmp_path, "kd")
    assert (best / "README.md").read_text() == "My card."


def test_a_best_student_that_cannot_be_replaced_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = _students(tmp_path)
    (best / "README.md").write_text("My card.")
    before = {name: (best / name).read_bytes() for name in _held(best)}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ted_distill.output.publishing.settle", full)
    with pytest.raises(OSError, match="No space"):
        publish_best(tmp_path, "ted")
    assert {name: (best / name).read_bytes() for name in _held(best)} == before


def test_a_best_student_whose_manifest_is_damaged_is_left_to_its_owner(tmp_path: Path) -> None:
    best = _students(tmp_path)
    manifest = (best / "stage.json").read_text()
    (best / "stage.json").write_text(manifest.replace('"kd"', '"KD"'))
    before = _held(best)
    with pytest.raises(InputError, match=r"best as it was written, got a damaged stage\.json; delete the folder"):
        publish_best(tmp_path, "ted")
    assert _held(best) == before


def test_figures_in_a_card_are_no_other_student(tmp_path: Path) -> None:
    best = _students(tmp_path)
    written = (best / "model.safetensors").stat().st_ino
    card = (tmp_path / "kd" / "README.md").read_text()
    replace_card(tmp_path / "kd", with_section(card, "<!-- ted bench: begin -->\nfast\n<!-- ted bench: end -->"))
    publish_best(tmp_path, "kd")
    assert (best / "model.safetensors").stat().st_ino == written, "it is not copied again"


def test_results_that_were_kept_do_not_depend_on_what_is_shown_or_how_many_work(
    recipe_file: Path, tmp_path: Path
) -> None:
    def identity(*changes: str) -> Any:
        recipe = _recipe(recipe_file, tmp_path / "run", *changes)
        return run_identity(recipe, load_task(recipe.task), {})

    shown = ("training.disable_tqdm=false", "training.logging_steps=7", "kd.log_level=info")
    assert identity(*shown, "preprocessing_num_workers=2") == identity()
    assert changes(identity(), identity("training.seed=7")) == ["recipe training seed was none, now 7"]
