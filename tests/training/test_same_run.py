"""Which differences between a stored run and the one that resumes it are accepted."""

import json
from pathlib import Path

import pytest

from configs.common import base
from ldip_jax.errors import InputError
from ldip_jax.training.config import check_same_run

PATH = Path("run/checkpoints/00000001")


def state(config):
    return {"config": json.loads(json.dumps(config.to_dict())), "frozen": {}}


def test_runs_older_than_a_field_are_resumed():
    stored = state(base())
    for name in ("input", "reference_jitter"):
        del stored["config"]["data"][name]
    del stored["config"]["propagation"]
    check_same_run(stored, state(base()), PATH)


@pytest.mark.parametrize("kept", [True, False])
def test_new_damage_makes_it_another_run(kept):
    stored, config = state(base()), base()
    if not kept:
        del stored["config"]["data"]["input"]
    config.data.input.h264 = 0.5
    with pytest.raises(InputError, match=r"data\.input\.h264 \(0\.0 there, 0\.5 now\)"):
        check_same_run(stored, state(config), PATH)
