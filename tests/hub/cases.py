"""Cases for `test_hub.py`, which runs them with the address of this server in the environment."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from fake_hub import FakeHub, Fault
from ted_distill import InputError, TaskArguments, load_task
from ted_distill.cli.main import main
from ted_distill.identity import file_of_model, pinning
from ted_distill.models.load import ModelArguments, load_config, load_model
from ted_distill.stages.lifecycle import OpenStage
from tiny import save_tiny, write_reviews

TUNE = ["finetune", "--task", "sequence_classification", "--use_cpu", "true", "--max_steps", "2"]
DATA = ["--dataset_name", "me/data"]


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub(int(os.environ["HF_ENDPOINT"].rpartition(":")[2])) as hub:
        yield hub


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Files of models: two classifiers, one whose labels have another order, and one without a head."""
    folder, names = tmp_path_factory.mktemp("models"), {"id2label": {0: "bad", 1: "good"}}
    swapped = {"id2label": {0: "good", 1: "bad"}}
    made = {
        "one": save_tiny(folder / "one", AutoModelForSequenceClassification, blocks=4, **names),
        "two": save_tiny(folder / "two", AutoModelForSequenceClassification, blocks=4, seed=5, **names),
        "swapped": save_tiny(folder / "swapped", AutoModelForSequenceClassification, blocks=4, seed=5, **swapped),
        "raw": save_tiny(folder / "raw", AutoModelForMaskedLM, blocks=4),
    }
    return {name: {file.name: file.read_bytes() for file in folder.iterdir()} for name, folder in made.items()}


@pytest.fixture(autouse=True)
def first(hub: FakeHub, models: dict[str, dict[str, bytes]], tmp_path: Path) -> str:
    """The commit of me/teacher, beside me/other, me/raw and me/data."""
    hub.faults.clear()
    hub.repositories.clear()
    hub.commit("me/data", data(tmp_path), "datasets")
    hub.commit("me/other", models["two"])
    hub.commit("me/raw", models["raw"])
    return hub.commit("me/teacher", {**models["one"], "README.md": b"---\nlicense: mit\n---\n"})


def table(folder: Path, rows: int, kind: str) -> bytes:
    lines = write_reviews(folder, rows, "rows").read_text(encoding="utf-8").splitlines()
    frame, place = pd.DataFrame([json.loads(line) for line in lines]), io.BytesIO()
    if kind == "parquet":
        frame.to_parquet(place)
    else:
        frame.to_csv(place, index=False, sep="\t" if kind == "tsv" else ",")
    return place.getvalue()


def data(folder: Path, rows: int = 40, kind: str = "parquet") -> dict[str, bytes]:
    return {f"train.{kind}": table(folder, rows, kind), f"validation.{kind}": table(folder, 16, kind)}


def recipe(**keys: Any) -> str:
    """A recipe of a run in the folder `run`."""
    found = {
        "task": "sequence_classification", "dataset_name": "me/data", "teacher": "me/teacher", "student_layers": [2, 4],
        "methods": ["alone", "kd"], "finetune_teacher": False, "check": False, "report": False, "output_dir": "run",
        "training": {"use_cpu": True, "max_steps": 2, "per_device_train_batch_size": 8, "disable_tqdm": True}, **keys,
    }  # fmt: skip
    Path("recipe.yaml").write_text(yaml.safe_dump({key: value for key, value in found.items() if value is not None}))
    return "recipe.yaml"


def identity(folder: str) -> dict[str, Any]:
    return json.loads(Path(folder, "settings.json").read_text(encoding="utf-8"))["identity"]


def error(caught: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that is refused."""
    assert main(list(words)) == 2
    return caught.readouterr().err


@pytest.fixture
def after_each_stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something whenever a stage has ended."""

    def register(what: Callable[[], object]) -> None:
        result = OpenStage.result

        def ended(self: OpenStage) -> Any:
            found = result(self)
            what()
            return found

        monkeypatch.setattr(OpenStage, "result", ended)

    return register


# --- models that move on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [(), ("--seeds", "2")])
def test_a_run_or_comparison_is_of_one_commit_though_its_teacher_moves_on(
    hub: FakeHub, models: Any, first: str, after_each_stage: Any, seeds: tuple[str, ...]
) -> None:
    after_each_stage(lambda: hub.commit("me/teacher", models["two"]))
    assert main(["compare" if seeds else "run", recipe(), *seeds]) == 0
    assert hub.repositories["models", "me/teacher"].refs["main"] != first
    runs = [f"run/compare/seed-{seed}" for seed in (1, 2)] if seeds else ["run"]
    (student,) = {json.loads(Path("run/student_init/student.json").read_text())["teacher_backbone"]}
    assert {identity(f"{folder}/kd")["teacher"]["backbone"] for folder in runs} == {student}
    assert json.loads(Path("run/hub.json").read_text())["me/teacher@main"] == first
    places = json.loads(Path(f"{runs[-1]}/kd/settings.json").read_text())["places"]
    assert places["teacher"] == f"me/teacher@{first}"


def test_a_run_is_resumed_and_repeated_with_the_commits_that_it_began_with(
    hub: FakeHub, models: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", recipe(methods=["alone"])]) == 0
    hub.commit("me/teacher", models["two"])
    assert main(["run", recipe(methods=["alone", "kd"])]) == 0
    assert main(["reproduce", "run"]) == 0
    assert "changed" not in capsys.readouterr().out


def test_steps_in_processes_of_their_own_agree_on_commits(hub: FakeHub, models: Any, tmp_path: Path) -> None:
    recipe(methods=["kd"])
    for step in ("score_teacher", "student_init", "score_student"):
        assert main(["run", "recipe.yaml", "--only", step]) == 0
        if step == "score_teacher":
            hub.commit("me/data", data(tmp_path, rows=24), "datasets")
    assert {*json.loads(Path("run/hub.json").read_text())} == {"me/teacher@main", "datasets/me/data@main"}
    hub.commit("me/teacher", models["two"])
    assert main(["run", "recipe.yaml", "--only", "kd"]) == 0
    assert main(["run", "recipe.yaml"]) == 0


def test_a_run_in_the_folder_of_another_one_has_commits_of_its_own(hub: FakeHub, models: Any) -> None:
    assert main(["run", recipe(methods=["alone"])]) == 0
    second = hub.commit("me/teacher", models["two"])
    assert main(["run", recipe(methods=["alone"], output_dir="run/again")]) == 0
    assert json.loads(Path("run/again/hub.json").read_text())["me/teacher@main"] == second


def test_a_folder_that_hides_a_model_of_the_hub_is_refused(
    hub: FakeHub, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = error(capsys, "run", recipe(output_dir="me/teacher/run"))
    assert "output_dir: expected a folder that hides no model of the Hub, got me/teacher/run" in said
    assert not Path("me").exists()
    Path("me/teacher").mkdir(parents=True)
    said = error(capsys, *TUNE, *DATA, "--model_name_or_path", f"me/teacher@{first}", "--output_dir", "out")
    assert "got a folder me/teacher, which would be read in its place" in said


def test_a_card_that_cannot_be_had_is_not_waited_for_twice(hub: FakeHub, models: Any) -> None:
    hub.commit("me/teacher", {**models["one"], "README.md": b"one that no cache has"})
    with pinning():
        load_config("me/teacher", ModelArguments())
        hub.faults.append(Fault("README.md", status=400))
        assert file_of_model("me/teacher", "README.md") is None
        asked = len(hub.requests)
        assert file_of_model("me/teacher", "README.md") is None
        assert len(hub.requests) == asked


def test_workers_reports_and_repetitions_of_a_seed_read_the_same_commits(
    hub: FakeHub, models: Any, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seeds", "1", "--grid", "kl_alpha=1,2", "workers=2"]
    assert main(["run", recipe(methods=["kd"]), "--only", "student_init"]) == 0
    hub.commit("me/teacher", models["two"])
    assert main(["compare", "recipe.yaml", *words]) == 0
    settings = [json.loads(file.read_text()) for file in Path("run/compare").rglob("kd/settings.json")]
    assert {found["places"]["teacher"] for found in settings} == {f"me/teacher@{first}"}
    (student,) = {json.loads(Path("run/student_init/student.json").read_text())["teacher_backbone"]}
    assert {found["identity"]["teacher"]["backbone"] for found in settings} == {student}
    asked = len(hub.requests)
    assert main(["report", "run"]) == 0
    assert main(["reproduce", "run/compare/seed-1"]) == 0
    assert not [path for _, path, _ in hub.requests[asked:] if "/me/teacher/resolve/main/" in path]


def test_config_weights_and_tokenizer_of_a_model_are_of_one_commit(
    hub: FakeHub, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, former = hub.fault, hub.commit("me/moving", models["one"])

    def moving(request: str) -> Fault | None:
        if "me/moving" in request and "tokenizer.json" in request:
            hub.commit("me/moving", models["swapped"])
        return fault(request)

    monkeypatch.setattr(hub, "fault", moving)
    task = load_task(TaskArguments("sequence_classification", dataset_name="me/data"))
    before, after = load_model("me/moving", task), load_model("me/moving", task)
    assert before.commit == former
    assert after.commit not in (None, former)
    assert (before.label_order, after.label_order) == (None, [1, 0])
    assert before.identity["backbone"] != after.identity["backbone"]


def test_each_model_may_have_a_revision_in_its_name(hub: FakeHub, models: Any, first: str) -> None:
    other = hub.repositories["models", "me/other"].refs["main"]
    hub.commit("me/teacher", models["two"])
    hub.commit("me/other", models["swapped"])
    names = {"teacher": f"me/teacher@{first}", "student": f"me/other@{other}", "finetune_student": False}
    assert main(["run", recipe(**names, student_layers=None)]) == 0
    places = json.loads(Path("run/kd/settings.json").read_text())["places"]
    assert (places["teacher"], places["student"]) == tuple(list(names.values())[:2])
    card = yaml.safe_load(Path("run/kd/README.md").read_text().split("---")[1])
    assert card["base_model"] == ["me/other"]


def test_a_model_of_the_hub_is_asked_for_once_in_a_run(hub: FakeHub) -> None:
    hub.requests.clear()
    assert main(["run", recipe()]) == 0
    asked = [path for method, path, _ in hub.requests if "/me/teacher/resolve/main/" in path]
    assert len(asked) == 1


# --- what else belongs to a model ------------------------------------------------------------------------------------


def test_the_licence_of_a_card_is_that_of_the_revision(hub: FakeHub, models: Any) -> None:
    hub.commit("me/teacher", {**models["one"], "README.md": b"---\nlicense: cc-by-4.0\n---\n"}, branch="v1")
    for revision, licence in {"v1": "cc-by-4.0", "main": "mit"}.items():
        words = ["--model_name_or_path", "me/teacher", "--model_revision", revision, "--output_dir", revision]
        assert main([*TUNE, *DATA, *words]) == 0
        assert f"license: {licence}\n" in Path(revision, "README.md").read_text()


def test_filters_are_read_from_the_hub_beside_their_model(hub: FakeHub) -> None:
    more = [*TUNE[1:], *DATA]
    assert main(["learn-filters", *more, "--model_name_or_path", "me/teacher", "--output_dir", "filters"]) == 0
    hub.commit("me/filters", "filters")
    names = ["--teacher_name_or_path", "me/filters", "--student_name_or_path", "me/other", "--method", "ted"]
    assert main(["distill", *more, *names, "--output_dir", "ted"]) == 0


def test_a_student_of_a_model_without_a_head_is_refused_before_the_teacher_is_trained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = {"student": "me/raw", "start_from": "pretrained", "finetune_student": False, "finetune_teacher": None}
    said = error(capsys, "run", recipe(**keys))
    assert "expected a trained head for this task in me/raw" in said
    assert not Path("run").exists()


# --- data ------------------------------------------------------------------------------------------------------------


def test_rows_of_another_commit_are_refused_where_the_hub_does_not_answer(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    old = hub.repositories["datasets", "me/data"].refs["main"]
    new = hub.commit("me/data", data(tmp_path, 30), "datasets")

    def rows(revision: str) -> Any:
        return load_task(TaskArguments("sequence_classification", **read, dataset_revision=revision)).rows["train"]

    read = {"dataset_name": "me/data"}
    assert len(rows(old)) == 40
    hub.faults.append(Fault("datasets/me/data", 500))
    assert len(rows(old)) == 40
    with pytest.raises(InputError, match=f"expected the rows of commit {new}, got no answer of the Hub and other"):
        rows(new)


@pytest.mark.parametrize("kind", ["tsv", "csv"])
def test_files_of_a_revision_are_read_as_what_they_are_there(hub: FakeHub, tmp_path: Path, kind: str) -> None:
    quoted = b'text\tlabel\n"The film was good\tgood\n"The film was bad\tbad\n'
    files = {f"{split}.tsv": quoted for split in ("train", "validation")} if kind == "tsv" else data(tmp_path, 2, "csv")
    hub.commit("me/old", files, "datasets", branch="v1")
    hub.commit("me/old", data(tmp_path, 40, "csv" if kind == "tsv" else "parquet"), "datasets")
    arguments = TaskArguments("sequence_classification", dataset_name="me/old", dataset_revision="v1")
    assert len(load_task(arguments).rows["train"]) == 2


def test_a_stream_is_another_where_a_file_of_it_is_and_not_where_the_readme_is(hub: FakeHub) -> None:
    text = "".join(f'{{"text": "the film number {row} was good ."}}\n' for row in range(2000))

    def found(text: str, readme: str = "") -> dict[str, Any]:
        files = {"train.jsonl": text.encode(), "validation.jsonl": text[:2000].rpartition("\n")[0].encode()}
        hub.commit("me/text", files | {"README.md": readme.encode()}, "datasets")
        return load_task(TaskArguments("causal_lm", dataset_name="me/text", streaming=True)).identity

    whole = found(text)
    assert found(text, "Corrected on Monday.") == whole
    assert found(text.replace("1999 was good", "1999 was bad")) != whole


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_the_hub_refuses_is_said_as_what_it_is(
    hub: FakeHub, models: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit("me/gated", models["one"])
    hub.repositories["models", "me/gated"].gated = True
    tune = [*TUNE, "--output_dir", "out"]
    of_teacher = ["--model_name_or_path", "me/teacher", *DATA]
    said = {
        "no access; ask for it at https://huggingface.co/me/gated": ["--model_name_or_path", "me/gated", *DATA],
        "no such model; check the name, or log in": ["--model_name_or_path", "me/nobody", *DATA],
        "no revision v9; check model_revision": ["--model_name_or_path", "me/teacher@v9", *DATA],
        "Revision 'v9' doesn't exist for dataset": [*of_teacher, "--dataset_revision", "v9"],
    }
    for text, words in said.items():
        assert text in error(capsys, *tune, *words)
    assert not Path("out").exists()


def test_a_configuration_that_has_to_be_chosen_is_named(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_both = "".join(f"- config_name: {name}\n  data_files: train.parquet\n" for name in "ab")
    hub.commit("me/two", {"README.md": f"---\nconfigs:\n{of_both}---\n".encode(), **data(tmp_path)}, "datasets")
    words = ["--model_name_or_path", "me/teacher", "--dataset_name", "me/two", "--output_dir", "out"]
    assert "among the available configs: ['a', 'b']" in error(capsys, *TUNE, *words)


def test_a_plan_of_a_model_that_the_hub_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "got no such model; check the name" in error(capsys, "plan", recipe(teacher="me/nobody"))


def test_without_a_network_what_was_read_before_is_used(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task(TaskArguments("sequence_classification", dataset_name="me/data"))
    commit = load_model("me/teacher", task).commit
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.stop()
    try:
        assert load_model("me/teacher", task, ModelArguments()).commit == commit
    finally:
        hub.start()
