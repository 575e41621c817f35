"""Seconds per part: nothing is counted twice, and results are awaited where they are computed."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.profiling import Profile, part, timed, timed_items

NAP = 0.02


@jax.jit
def slow(x):
    def nap(x):
        time.sleep(NAP)
        return x

    return jax.pure_callback(nap, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def test_a_part_within_another_is_counted_once_and_all_add_up():
    with Profile() as profile:
        with part("outer", "step"):
            time.sleep(NAP)
            for _ in range(2):
                with part("inner"):
                    time.sleep(NAP)
        time.sleep(NAP)
    report = profile.report()
    parts = report["parts"]
    assert NAP <= parts["outer"]["seconds"] < 1.9 * NAP
    assert parts["inner"]["seconds"] >= 2 * NAP
    assert parts["inner"]["steps"] == {"inner": {"seconds": parts["inner"]["seconds"], "calls": 2}}
    assert parts["other"]["seconds"] >= NAP
    assert sum(one["seconds"] for one in parts.values()) == pytest.approx(report["seconds"], abs=1e-3)
    assert 0.0 < report["cpu_seconds"] < report["seconds"]


def test_a_program_is_awaited_where_it_runs_and_not_where_it_is_needed():
    x = jnp.zeros(3)
    slow(x).block_until_ready()
    with Profile() as profile:
        y = timed("program", "slow", slow)(x)
        with part("use"):
            np.asarray(y)
    assert profile.seconds["program", "slow"] >= NAP
    assert profile.seconds["use", ""] < NAP


def test_compiling_is_a_separate_part():
    with Profile() as profile, part("program"):
        jax.jit(lambda x: slow(jnp.sort(x * 3.0)[::-1]))(jnp.arange(57.0)).block_until_ready()
    parts = profile.report()["parts"]
    assert parts["compile"]["seconds"] > 0.0
    assert parts["compile"]["steps"]["backend_compile"]["calls"] >= 1
    total = parts["compile"]["seconds"] + parts["program"]["seconds"] + parts["other"]["seconds"]
    assert total == pytest.approx(profile.wall, abs=1e-3)


def test_items_take_their_own_time():
    def items():
        for number in range(3):
            time.sleep(NAP)
            yield number

    with Profile() as profile:
        for _ in timed_items("read", "", items()):
            time.sleep(NAP)
    assert 3 * NAP <= profile.seconds["read", ""] < 5 * NAP


def test_without_a_profile_nothing_is_measured_and_errors_pass_through():
    assert list(timed_items("read", "", [1, 2])) == [1, 2]
    assert timed("part", "step", divmod)(7, 2) == (3, 1)
    with Profile() as profile:
        pass
    with part("after"):
        pass
    with pytest.raises(KeyError), Profile() as failed, part("failing"):
        raise KeyError
    assert not profile.seconds
    assert failed.calls["failing", ""] == 1
