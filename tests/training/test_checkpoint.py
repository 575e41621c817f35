"""Checkpoints: which are kept, which are refused, and how they are restored, even if some are damaged."""

import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ldip_jax.errors import InputError
from ldip_jax.training.checkpoint import Checkpoints, open_checkpoints

CONFIG = {"steps": 100, "model": {"hook": "hr_pre", "scale": (1.5, 2.5)}, "seed": 3}
FROZEN = {"basicvsr-reds4": "ab" * 32}


@flax.struct.dataclass
class Toy:
    """The parts of a training state."""

    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    ema: dict[str, Any] | None


def toy(step: int, width: int = 3) -> Toy:
    """A state that differs in every leaf from step to step."""
    params = {"lrrf": {"kernel": jnp.arange(2.0 * width).reshape(2, width) + step, "bias": jnp.ones(width)}}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-3, 9)))
    half = jax.tree.map(lambda leaf: (leaf / 3).astype(jnp.bfloat16), params)
    return Toy(jnp.int32(step), params, optimizer.init(params), half)


def opened(workdir: Path, config: dict[str, Any] = CONFIG, **options: Any) -> Checkpoints:
    return open_checkpoints(workdir, config, options.pop("frozen", FROZEN), **options)


def store(workdir: Path, *steps: int, **options: Any) -> None:
    with opened(workdir, **options) as checkpoints:
        checkpoints.restore_latest(toy(0))
        for step in steps:
            checkpoints.save(toy(step), {"next_index": 10 * step})


def assert_same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_a_state_is_restored_bit_for_bit_with_its_place_in_the_data(tmp_path):
    with opened(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(toy(0)) is None
    store(tmp_path, 1, 2)
    with opened(tmp_path) as checkpoints:
        state, data = checkpoints.restore_latest(jax.eval_shape(lambda: toy(0)))
    assert_same(state, toy(2))
    assert data == {"next_index": 20}


def test_a_state_may_be_donated_while_it_is_written(tmp_path):
    advance = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    with opened(tmp_path) as checkpoints:
        state = toy(5)
        checkpoints.save(state, {})
        for _ in range(3):
            state = advance(state)
    with opened(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_latest(toy(0))[0], toy(5))


def test_the_latest_and_the_best_are_kept_across_runs(tmp_path):
    with opened(tmp_path, keep_last=2) as checkpoints:
        checkpoints.restore_latest(toy(0))
        best = [
            checkpoints.save(toy(step), {}, metric=metric) for step, metric in [(1, 3.0), (2, 9.0), (3, 4.0)]
        ]
        assert best == [True, True, False]
    with opened(tmp_path, keep_last=2) as checkpoints:
        checkpoints.restore_latest(toy(0))
        assert checkpoints.best == (2, 9.0)
        for step in (4, 5, 6):
            assert not checkpoints.save(toy(step), {}, metric=5.0)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.save(toy(7), {}, metric=9.5)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()) == [
        "00000006",
        "00000007",
    ]


def test_a_step_that_is_stored_is_not_stored_again(tmp_path):
    store(tmp_path, 4)
    store(tmp_path, 4)
    with opened(tmp_path) as checkpoints:
        assert checkpoints.steps() == [4]


def test_leftovers_of_an_ended_process_are_removed(tmp_path):
    store(tmp_path, 1)
    left = tmp_path / "checkpoints" / "00000002.orbax-checkpoint-tmp-1"
    left.mkdir()
    with opened(tmp_path) as checkpoints:
        assert not left.exists()
        assert checkpoints.steps() == [1]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


DAMAGE = ("truncated", "missing", "flipped", "garbage", "emptied")


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    if kind == "missing":
        path.unlink()
    else:
        damaged = {
            "truncated": data[:middle],
            "flipped": data[:middle]
            + bytes(byte ^ 16 for byte in data[middle : middle + 1])
            + data[middle + 1 :],
            "garbage": np.random.default_rng(0).bytes(max(len(data), 16)),
            "emptied": b"",
        }
        path.write_bytes(damaged[kind])


def test_any_damage_to_the_newest_checkpoint_causes_a_fallback_or_no_harm(tmp_path):
    store(tmp_path / "intact", 1, 2)
    fell_back = 0
    for number, victim in enumerate(files(tmp_path / "intact/checkpoints/00000002")):
        workdir = tmp_path / str(number)
        shutil.copytree(tmp_path / "intact", workdir)
        damage(workdir / victim.relative_to(tmp_path / "intact"), DAMAGE[number % len(DAMAGE)])
        reported: list[str] = []
        with opened(workdir, notify=reported.append) as checkpoints:
            state, data = checkpoints.restore_latest(toy(0))
            step = int(state.step)
            # Some files hold nothing that is needed, so nothing is lost. No other state is ever returned.
            assert_same(state, toy(step))
            assert data == {"next_index": 10 * step}
            assert step == (1 if reported else 2)
        fell_back += len(reported)
    assert fell_back >= 3


def test_a_damaged_step_is_reported_set_aside_and_stored_again(tmp_path):
    store(tmp_path, 1, 2)
    for path in files(tmp_path / "checkpoints/00000002"):
        path.unlink()
    reported: list[str] = []
    with opened(tmp_path, notify=reported.append) as checkpoints:
        assert_same(checkpoints.restore_latest(toy(0))[0], toy(1))
        checkpoints.save(toy(2), {"next_index": 20})
    assert len(reported) == 1
    assert "00000002: damaged" in reported[0]
    assert "resuming from step 1" in reported[0]
    assert "\n" not in reported[0]
    with opened(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_latest(toy(0))[0], toy(2))
    assert (tmp_path / "checkpoints/damaged/00000002").is_dir()


def test_if_all_are_damaged_training_does_not_start_again(tmp_path):
    store(tmp_path, 1, 2)
    for path in files(tmp_path / "checkpoints"):
        if path.name != ".lock":
            path.write_bytes(b"")
    with opened(tmp_path) as checkpoints:
        with pytest.raises(InputError, match="no checkpoint can be read"):
            checkpoints.restore_latest(toy(0))
        assert checkpoints.steps() == [1, 2]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"hook": "hr", "scale": (1.5, 2.5)}}, "model.hook (hr_pre there, hr now)"),
        ({"seed": 4}, "seed (3 there, 4 now)"),
        ({"batch": 2}, "batch (absent there, 2 now)"),
    ],
)
def test_another_config_is_refused_by_name(tmp_path, change, named):
    store(tmp_path, 1)
    with opened(tmp_path, CONFIG | change) as checkpoints, pytest.raises(InputError) as caught:
        checkpoints.restore_latest(toy(0))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lengths_and_logging_may_change(tmp_path):
    store(tmp_path, 1)
    with opened(tmp_path, CONFIG | {"steps": 200, "log_every": 1}) as checkpoints:
        assert_same(checkpoints.restore_latest(toy(0))[0], toy(1))


def test_other_frozen_weights_are_refused_by_name(tmp_path):
    store(tmp_path, 1)
    with (
        opened(tmp_path, frozen={"basicvsr-reds4": "cd" * 32}) as checkpoints,
        pytest.raises(InputError, match="other frozen weights: basicvsr-reds4"),
    ):
        checkpoints.restore_latest(toy(0))


def test_other_networks_are_refused_by_name(tmp_path):
    store(tmp_path, 1)
    with opened(tmp_path) as checkpoints, pytest.raises(InputError, match="params/lrrf/bias"):
        checkpoints.restore_latest(toy(0, width=4))


def test_a_second_run_in_the_folder_is_refused(tmp_path):
    with opened(tmp_path), pytest.raises(InputError, match="another run is using it"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_a_file_in_place_of_the_folder_is_reported_in_one_line(tmp_path):
    (tmp_path / "work").write_text("")
    with pytest.raises(InputError, match="cannot be written") as caught:
        opened(tmp_path / "work")
    assert "\n" not in str(caught.value)


@pytest.fixture
def no_root():
    """Make permissions apply to this process as they do to an ordinary user."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unwritable_folder_is_reported_in_one_line(tmp_path, no_root):
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)") as caught:
        opened(Path("/never-made"))
    assert "\n" not in str(caught.value)


# If several files fail at once, the library that writes them reports one and leaves the other errors.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failed_write_is_reported_in_one_line_and_keeps_the_checkpoint_before_it(tmp_path):
    store(tmp_path, 1)
    with opened(tmp_path) as checkpoints:
        checkpoints.restore_latest(toy(0))
        with no_large_files(), pytest.raises(InputError) as caught:
            save_and_wait(checkpoints, toy(2, width=20_000))
    assert "cannot be written (File too large)" in str(caught.value)
    assert "\n" not in str(caught.value)
    with opened(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_latest(toy(0))[0], toy(1))
        checkpoints.save(toy(2), {})
    with opened(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_latest(toy(0))[0], toy(2))


@contextmanager
def no_large_files():
    """Simulate a disk that fails while it is written; a real one would need root."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def save_and_wait(checkpoints: Checkpoints, state: Toy) -> None:
    checkpoints.save(state, {})
    checkpoints.wait()


def test_a_disk_that_is_too_full_is_reported(tmp_path, monkeypatch):
    with opened(tmp_path) as checkpoints:
        checkpoints.restore_latest(toy(0))
        usage = shutil.disk_usage(tmp_path)._replace(free=100)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
            checkpoints.save(toy(1), {})
