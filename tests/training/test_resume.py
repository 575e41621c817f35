"""A run that is killed and started again ends where one that was never stopped does, bit for bit."""

from tests.training import tiny_run
from tests.training.kill_and_resume import Trials, assert_same, train_tiny

STEPS, STEP_SECONDS = 8, 0.1


def test_killed_at_random_moments_and_resumed(tmp_path):
    assert tiny_run.run(tmp_path / "reference", STEPS) == 0
    trials = Trials(train_tiny, STEPS, STEP_SECONDS)
    kills = sum(trials.kill_once(tmp_path / "run", STEP_SECONDS) for _ in range(3))
    assert kills
    trials.finish(tmp_path / "run")
    assert_same(tmp_path / "reference", tmp_path / "run")
