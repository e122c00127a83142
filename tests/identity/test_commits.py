"""What names stand for, where no Hub is needed to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from ted_distill.identity import commits, known_commit, model_commit, pin, pinning, split_revision

COMMIT = "0123456789" * 4


def test_a_folder_has_no_commit_and_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever revision is given beside it, for another model."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/teacher", "runs/teacher@v2"):
        Path(name).mkdir(parents=True)
        assert known_commit(name, COMMIT) is None
        assert model_commit(name, COMMIT) == COMMIT
        assert split_revision(name, "v1") == (name, "v1")
    assert split_revision("runs/teacher@v3") == ("runs/teacher@v3", "main")  # a folder that is not there


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("me/teacher@v1", ("me/teacher", "v1")),
        ("bert@refs/pr/1", ("bert", "refs/pr/1")),
        ("me/teacher", ("me/teacher", "main")),
        ("@v1", ("@v1", "main")),
        ("me/teacher@", ("me/teacher@", "main")),
        ("C:\\models\\a@b", ("C:\\models\\a@b", "main")),
        ("/a/b@c", ("/a/b@c", "main")),
    ],
)
def test_a_name_of_the_hub_may_have_a_revision(name: str, parts: tuple[str, str]) -> None:
    assert split_revision(name) == parts


def test_a_name_means_what_was_pinned_until_the_outermost_call_ends() -> None:
    with pinning():
        pin({"me/teacher@main": COMMIT, "me/other@main": "main"})
        with pinning():
            assert model_commit("me/teacher", "main") == COMMIT
            assert known_commit("me/teacher") == COMMIT
        assert commits() == {"me/teacher@main": COMMIT}
    assert commits() == {}
    assert known_commit("me/teacher") is None
