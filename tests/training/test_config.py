"""The training config: read from files and flags, checked, documented, and compared with a stored one."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ldip_jax.config_files import config_names, load_config
from ldip_jax.errors import InputError
from ldip_jax.settings import read_settings, settings, settings_table
from ldip_jax.training.config import TrainingConfig, check_config, check_same_run
from ldip_jax.training.config_flags import read_config

ROOT = Path(__file__).parents[2]
CHECKPOINT = Path("run/checkpoints/00000001")
FIELDS = list(settings(TrainingConfig()))
# The config of a run of `ldip_basicvsr_x4:debug`, as a checkpoint of version 0.1.0 stores it.
STORED = json.loads(Path(__file__).with_name("stored_config.json").read_text())


def resume(stored, config):
    """Resume a run that was stored with this config."""
    now = json.loads(json.dumps(config.to_dict()))
    check_same_run({"config": stored, "frozen": {}}, {"config": now, "frozen": {}}, CHECKPOINT)


def put(config, name, value):
    """Set a field by its name with dots."""
    *groups, last = name.split(".")
    for group in groups:
        config = getattr(config, group)
    setattr(config, last, value)


def other(setting):
    """A valid value that differs from the default."""
    if setting.rule.choices:
        return setting.rule.choices[-1]
    if isinstance(setting.value, bool):
        return not setting.value
    if isinstance(setting.value, str):
        return "other"
    if isinstance(setting.value, tuple):
        return (
            setting.value[:1] * 2
            if setting.value[0] != setting.value[-1]
            else (type(setting.value[0])(2),) * 2
        )
    return setting.value + (1 if isinstance(setting.value, int) else 0.5)


def test_a_run_of_an_earlier_version_is_resumed():
    config = read_config("ldip_basicvsr_x4:debug", ["--config.data.data_dir=elsewhere", "--config.steps=40"])
    resume(STORED, config)
    assert (
        read_settings(TrainingConfig, STORED).to_dict()
        == replace(config, steps=20, data=replace(config.data, data_dir="DATA")).to_dict()
    )
    config.data.key_frames = 2
    with pytest.raises(InputError, match=r"config: data\.key_frames \(1 there, 2 now\); undo that"):
        resume(STORED, config)


def test_a_field_can_be_set_by_its_earlier_name(tmp_path):
    file = tmp_path / "earlier.py"
    file.write_text(
        "from configs.common import base, finish\n"
        "def get_config(arg=''):\n    config = base()\n"
        "    config.data.lr = 48\n    return finish(config, arg)\n"
    )
    assert read_config(str(file)).data.lr_crop == 48
    assert read_config(str(file), ["--config.data.lr=96"]).data.lr_crop == 96
    assert read_config(str(file), ["--config.data.lr", "96"]).data.lr_crop == 96
    with pytest.raises(InputError, match=r"data\.lr_crop \(0 there, 96 now\); undo that"):
        resume(STORED, read_config("ldip_basicvsr_x4:debug", ["--config.data.lr=96"]))


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_resume_may_change_only_the_fields_that_say_so(field):
    config = TrainingConfig()
    stored = json.loads(json.dumps(config.to_dict()))
    put(config, field.name, other(field))
    if field.rule.resume:
        resume(stored, config)
        return
    with pytest.raises(InputError, match=re.escape(f"another config: {field.name} (")):
        resume(stored, config)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_values_of_the_wrong_type_or_out_of_bounds_are_named(field):
    rule = field.rule
    wrong = [None, 7 if isinstance(field.value, str | bool) else "seven"]
    if isinstance(field.value, float):
        wrong += [float("nan"), float("inf")]
    for bound, step in ((rule.minimum, -1), (rule.maximum, 1), (rule.below, 0)):
        if bound is not None:
            wrong.append((bound + step,) * 2 if isinstance(field.value, tuple) else bound + step)
    if rule.ordered:
        wrong.append((rule.maximum, rule.minimum))
    for value in wrong:
        config = TrainingConfig()
        put(config, field.name, value)
        with pytest.raises(
            InputError, match=rf"^config\.{re.escape(field.name)}={re.escape(str(value))}: \w"
        ):
            check_config(config)


@pytest.mark.parametrize("name", config_names())
def test_every_config_is_found_by_name_and_by_path_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(name)
    check_config(config)
    assert load_config(str(ROOT / "configs" / f"{name}.py")) == config
    assert load_config(f"{name}:debug").steps == 20


def test_flags_set_fields_of_every_type():
    words = ["--config.data.size=(32, 48)", "--config.steps", "5", "--noconfig.propagate", "--config.seed=-1"]
    words += ["--config.learning_rate=1e-3", "--config.flow=raft-small", "--config.data.input.h264=1"]
    config = read_config("as_basicvsr:debug", words)
    assert (config.data.size, config.steps, config.propagate, config.seed) == ((32, 48), 5, False, -1)
    assert (config.learning_rate, config.flow, config.data.input.h264) == (1e-3, "raft-small", 1.0)
    # The last one counts, and the config of the file is not changed.
    assert read_config("as_basicvsr", ["--config.steps=1", "--config.steps=2"]).steps == 2
    assert load_config("as_basicvsr").steps == 100_000


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "--config.data.sise=4",
            r"--config\.data\.sise: no such field.*; did you mean data\.size\?",
        ),
        ("--config.zzz=4", r"--config\.zzz: no such field of the config; docs/training\.md lists"),
        ("--config.data=4", r"--config\.data: no such field"),
        ("--config.steps=many", r"--config\.steps=many: invalid literal"),
        ("--config.steps", r"[Mm]issing value for flag"),
        ("--colour=red", "colour"),
        ("red", "red: unexpected"),
    ],
)
def test_invalid_flags_are_named(word, message):
    with pytest.raises(InputError, match=message) as caught:
        read_config("as_basicvsr", [word])
    assert "\n" not in str(caught.value)


def test_a_file_may_be_anywhere_and_return_a_config_dict(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from ml_collections import ConfigDict\nfrom configs.common import base, finish\n"
        "def get_config(arg=''):\n    return ConfigDict(finish(base(), arg).to_dict() | {'steps': 7})\n"
    )
    config = read_config(f"{file}:debug", ["--config.batch_size=3"])
    assert isinstance(config, TrainingConfig)
    assert (config.steps, config.batch_size, config.data.dataset) == (7, 3, "synthetic")
    check_config(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config():\n    return 1\n", "returns a int, not a TrainingConfig"),
        ("def get_config():\n    return {'stepz': 1}\n", r"config\.stepz: no such field"),
        ("def get_config():\n    return {'data': {'sise': 1}}\n", r"config\.data\.sise: no such field"),
        ("def get_config():\n    1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import no_such_module\n", "needs no_such_module"),
        ("def get_config(\n", "SyntaxError"),
        ("x = 1\n", "AttributeError"),
    ],
)
def test_files_that_are_not_configs_are_named(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_config(str(file))
    assert "\n" not in str(caught.value)


def test_the_table_of_fields_in_the_docs_is_up_to_date():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    table = settings_table(TrainingConfig())
    assert table in text, "replace the table by what `python -m ldip_jax.training.config` prints"
