"""What is counted in programs for GPUs, and what is reported without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import gpu_numbers
from benchmarks.gpu_targets import TARGETS
from benchmarks.hlo import counted
from benchmarks.programs import work

ROOT = Path(__file__).parents[1]
MODULE = """HloModule jit_f, is_scheduled=true

%fused (param_0: f32[4,8]) -> f32[8,4] {
  %param_0 = f32[4,8]{1,0} parameter(0)
  ROOT %transpose.1 = f32[8,4]{1,0} transpose(%param_0), dimensions={1,0}
}

%body (arg: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %arg = (s32[], f32[4,8]{1,0}) parameter(0)
  %gte = f32[4,8]{1,0} get-tuple-element(%arg), index=1
  %turned = f32[8,4]{1,0} fusion(%gte), kind=kInput, calls=%fused
  %product = f32[4,8]{1,0} custom-call(%turned, %gte), custom_call_target="__cublas$gemm"
  ROOT %tuple = (s32[], f32[4,8]{1,0}) tuple(%gte, %product)
}

%condition (arg: (s32[], f32[4,8])) -> pred[] {
  %arg = (s32[], f32[4,8]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (p: f32[4,8]) -> f32[4,8] {
  %p = f32[4,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4,8]{1,0}) tuple(%zero, %p)
  %loop = (s32[], f32[4,8]{1,0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"12"}}
  %out = f32[4,8]{1,0} get-tuple-element(%loop), index=1
  %sum = f32[4,8]{1,0} all-reduce-start(%out), to_apply=%condition
  ROOT %done = f32[4,8]{1,0} all-reduce-done(%sum)
}
"""  # noqa: E501


def test_launches_in_loops_are_counted_at_every_iteration():
    found = counted(MODULE)
    assert found[:3] == (25, 12, 1)
    assert found.bytes == 12 * (2 * 128 + 3 * 128) + 2 * 128


def test_operations_of_products_and_convolutions_are_counted():
    def f(x, kernel):
        def step(x, _):
            return jnp.tanh(x @ x), None

        x, _ = jax.lax.scan(step, x, None, length=5)
        image = x[None, :, :, None]
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    trace = jax.jit(f).trace(jnp.zeros((8, 8)), jnp.zeros((3, 3, 1, 4)))
    assert work(trace.jaxpr.jaxpr) == 5 * 2 * 8**3 + 2 * 8 * 8 * 4 * 9


def test_targets_are_written_as_text():
    assert set(TARGETS) >= {"rtx4090", "a6000", "a100", "h100"}
    assert "major: 8 minor: 9" in TARGETS["rtx4090"].text()


def test_without_the_plugin_one_line_says_so():
    words = [sys.executable, "-S", "benchmarks/gpu_programs.py"]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "plugin is not on the path" in done.stderr


def test_without_a_gpu_all_rows_say_not_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_numbers, "has_gpu", lambda: False)
    assert gpu_numbers.main(["--output", str(tmp_path / "numbers.md")]) == 1
    text = (tmp_path / "numbers.md").read_text()
    rows = list(gpu_numbers.rows(False))
    assert len(rows) > 30
    assert text.count(f"| {gpu_numbers.NOT} | {gpu_numbers.NOT} |") == len(rows)
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("memory", [0.0, 2.5e9])
def test_a_row_shows_measurements_beside_those_of_the_paper(memory):
    row = next(iter(gpu_numbers.rows(False)))
    text = gpu_numbers.table([(row, {"device": "a GPU", "seconds": 0.04321, "memory": memory})], "0.10.2")
    shown = "2.50" if memory else gpu_numbers.NOT
    assert f"| 640x360, 2 references | 0.0432 | {shown} | 0.2 s, 1.0 GB |" in text
    assert "a GPU, jax 0.10.2" in text
