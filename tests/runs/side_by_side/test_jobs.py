"""What goes from one process to another arrives as it was."""

from __future__ import annotations

import io
import pickle

from ted_distill.errors import InputError, NotFiniteError
from ted_distill.runs.side_by_side.jobs import Ended, Sender, failed


def test_an_error_arrives_with_its_class_and_all_its_problems() -> None:
    for error in (InputError(["a: expected b", "c: expected d"]), NotFiniteError("the loss is NaN")):
        stream = io.BytesIO()
        Sender(stream)(failed("kd", error))
        ended = pickle.loads(stream.getvalue())
        assert isinstance(ended, Ended)
        assert type(ended.result) is type(error)
        assert str(ended.result) == str(error)
        assert type(error).__name__ in ended.trace


def test_an_error_that_cannot_be_sent_is_described() -> None:
    class LocalError(Exception):
        pass

    ended = failed("kd", LocalError("what happened"))
    assert isinstance(ended.result, RuntimeError)
    assert str(ended.result) == "LocalError: what happened"
