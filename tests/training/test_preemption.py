"""Signals end training after a step; non-finite losses end it after several."""

import os
import signal

import pytest

from ldip_jax.errors import InputError
from ldip_jax.training.loop import NonFiniteGuard, Preemption


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_a_signal_ends_training_after_the_step(number, code):
    reported: list[str] = []
    before = signal.getsignal(number)
    with Preemption(reported.append) as preemption:
        assert not preemption.stop(1)
        os.kill(os.getpid(), number)
        assert preemption.stop(2)
        assert preemption.exit_code == code
    assert reported == [f"{number.name}: stopping after step 2"]
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_at_once():
    with Preemption() as preemption:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert preemption.exit_code == 130


def test_skipped_steps_are_reported_and_many_in_a_row_end_training():
    reported: list[str] = []
    guard = NonFiniteGuard(2, reported.append)
    for step, skipped in enumerate([True, True, False, True, True]):
        guard.observe(step, skipped)
    assert reported == [f"step {step}: loss or gradient not finite, step skipped" for step in (0, 1, 3, 4)]
    with pytest.raises(InputError, match="step 5: 3 steps in a row"):
        guard.observe(5, True)
