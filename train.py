"""Train LRRF or the arbitrary-scale head on a frozen backbone.

python train.py --config configs/ldip_basicvsr_x4.py --workdir runs/a [--config.batch_size=4]
"""

import sys

from ldip_jax.runtime import configure

configure()

from absl import app, flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from ldip_jax.errors import InputError  # noqa: E402
from ldip_jax.training.loop import train  # noqa: E402
from ldip_jax.training.sharding import join_processes  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True, help_string="A file of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and export.safetensors.")


def main(_: list[str]) -> None:
    try:
        join_processes()
        sys.exit(train(CONFIG.value, WORKDIR.value))
    except InputError as error:
        print(f"train.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
