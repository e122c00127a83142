"""An interrupt that Python dropped is raised by the next update, or before the next stage."""

from __future__ import annotations

import os
import signal
import time
import weakref

import pytest

from ted_distill.progress import Terminated, noting_interrupts, raise_if_interrupted, watched

pytestmark = pytest.mark.usefixtures("as_at_a_keyboard")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_callback_swallows_is_raised_at_the_next_look() -> None:
    class Thing:
        pass

    def interrupted(reference: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    with noting_interrupts():
        thing = Thing()
        reference = weakref.ref(thing, interrupted)
        del thing  # the callback's exception is ignored by Python
        assert reference() is None
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
        # Loops that are shown, such as those of a bench, look too.
        with pytest.raises(KeyboardInterrupt):
            next(watched([1], "measuring"))
    raise_if_interrupted()
    assert list(watched([1], "measuring")) == [1]


def test_an_interrupt_is_raised_at_once_as_ever() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), noting_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_job_that_ignores_interrupts_goes_on_ignoring_them() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noting_interrupts():
            signal.raise_signal(signal.SIGINT)
            raise_if_interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_request_to_end_is_raised_and_noted() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with noting_interrupts():
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            raise_if_interrupted()
    assert signal.getsignal(signal.SIGTERM) is before
    raise_if_interrupted()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_is_forked_off_ends_as_whoever_forked_it_expects() -> None:
    ready, says = os.pipe()
    with noting_interrupts():
        child = os.fork()
        if child == 0:
            os.write(says, b"!")
            time.sleep(30)
            os._exit(0)
        os.read(ready, 1)  # Python drops what comes before its child has begun
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
