"""Memory sizes, as users write them and as the system reports them."""

import platform

import jax
import jax.monitoring
import pytest

from ldip_jax import memory
from ldip_jax.errors import InputError
from ldip_jax.memory import free_memory, parse_size, resident, show_size


@pytest.mark.parametrize(
    ("text", "count"),
    [("1500M", 1500 * 2**20), ("8G", 8 * 2**30), ("1.5g", 3 * 2**29), ("8 GiB", 8 * 2**30), ("512", 512)],
)
def test_sizes_are_parsed(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1G", "8X", "0M", "eight", "8GG", "1e3M"])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(InputError, match="give a size, such as 1500M or 8G"):
        parse_size(text)


@pytest.mark.parametrize("count", [1, 2**20, 2**20 + 1, 1500 * 2**20, 10 * 2**30, 12345678901])
def test_a_shown_size_is_enough(count):
    assert count <= parse_size(show_size(count)) <= count + 2**20 + count // 50


def test_used_and_free_memory_are_found():
    assert resident() > 2**20
    assert free_memory() > 2**20


def test_the_tightest_control_group_sets_the_limit(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    inner = root / "jobs" / "one"
    inner.mkdir(parents=True)
    own.write_text("0::/jobs/one\n")
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("5\n")
    assert memory._group_limits(root, own) == []
    (inner.parent / "memory.max").write_text("1000\n")
    (inner.parent / "memory.current").write_text("600\n")
    (inner.parent / "memory.stat").write_text("anon 400\ninactive_file 150\n")
    assert memory._group_limits(root, own) == [550]
    own.write_text("4:memory:/jobs\n")
    old = root / "memory" / "jobs"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("900\n")
    (old / "memory.usage_in_bytes").write_text("100\n")
    assert memory._group_limits(root, own) == [800]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns memory")
def test_freed_memory_goes_back_to_the_system():
    pieces = [bytes(2000) for _ in range(100_000)]
    held = resident()
    # The last piece holds the heap's end where it is.
    del pieces[:-1]
    memory.return_unused()
    assert resident() < held - 100 * 2**20


def test_memory_goes_back_after_long_compiling(monkeypatch):
    returned = []
    monkeypatch.setattr(memory, "return_unused", lambda: returned.append(1))
    event = "/jax/core/compile/backend_compile_duration"
    with memory.returned_after_compiling():
        jax.monitoring.record_event_duration_secs(event, 0.1)
        jax.monitoring.record_event_duration_secs("/jax/core/compile/jaxpr_trace_duration", 9.0)
        assert not returned
        jax.monitoring.record_event_duration_secs(event, 9.0)
        assert len(returned) == 1
    jax.monitoring.record_event_duration_secs(event, 9.0)
    assert len(returned) == 1


def test_compiling_is_reported_as_that_event():
    """Memory is returned after this event, so a new name in jax must be noticed."""
    events = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x * 3.0 + 41.0)(1.0)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert "/jax/core/compile/backend_compile_duration" in events
