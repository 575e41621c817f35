"""`ldip train` as a command: bad flags and configs are reported in one line each."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ldip_jax.errors import InputError
from ldip_jax.training.config import check_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=configs/none.py", "--workdir=a"], "configs/none.py"),
        (["--config=configs/as_basicvsr.py:debgu", "--workdir=a"], "debgu: unknown config argument"),
        (
            ["--config=configs/as_basicvsr.py:debug", "--workdir=a", "--config.lr=1"],
            "config.lr: no such field",
        ),
        (["--config=configs/as_basicvsr.py:debug", "--workdir=a", "--config.steps=x"], "steps"),
        (
            ["--config=configs/as_basicvsr.py:debug", "--workdir=a", "--config.steps=0"],
            "config.steps=0: 1 or",
        ),
        (["--config=configs/as_basicvsr.py:debug"], "workdir"),
    ],
)
def test_bad_flags_are_reported_in_one_line_with_exit_code_2(flags, message):
    done = subprocess.run(
        [sys.executable, "train.py", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stderr
    # Only a missing flag comes with a usage line.
    assert len(lines) == 1 or lines[0].startswith("usage: ldip train"), done.stderr
    assert lines[-1].startswith("ldip: ") or len(lines) > 1
    assert re.search(message, lines[-1])
    assert not (ROOT / "a").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hook", "conv", "config.hook=conv: choose from hr_pre, hr"),
        ("dtype", "float", "choose from float32, bfloat16"),
        ("fusion_start", "warm", "config.fusion_start=warm: choose from plain, transfer"),
        ("learning_rate", float("nan"), "config.learning_rate=nan: 0 or more"),
        ("ema", 1.0, "less than 1 is needed"),
        ("warmup_steps", 10**9, "config.warmup_steps=1000000000: less than"),
    ],
)
def test_invalid_config_values_are_named(field, value, message):
    from configs.common import base

    config = base()
    check_config(config)
    setattr(config, field, value)
    with pytest.raises(InputError, match=message):
        check_config(config)


def test_invalid_data_settings_are_named():
    from configs.common import base

    config = base()
    config.data.crop = 0
    with pytest.raises(InputError, match="set the side of one"):
        check_config(config)
    config = base()
    config.data.fewest_references = 9
    with pytest.raises(InputError, match="fewest_references=9: choose from 1 to"):
        check_config(config)
