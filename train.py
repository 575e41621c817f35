"""Train LRRF or the arbitrary-scale head on a frozen backbone.

python train.py --config configs/ldip_basicvsr_x4.py --workdir runs/a [--config.batch_size=4]
"""

from ldip_jax.runtime import configure, make_deterministic

configure()

from absl import flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from ldip_jax.training import entry  # noqa: E402
from ldip_jax.training.loop import train  # noqa: E402
from ldip_jax.training.sharding import join_processes  # noqa: E402

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True, help_string="A file of configs/.")
EXPORT_ONLY = flags.DEFINE_bool(
    "export_only", False, "Write the newest checkpoint's export.safetensors, and end."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and export.safetensors.")


def main() -> int:
    if CONFIG.value.deterministic:
        make_deterministic()
    join_processes()
    return train(CONFIG.value, WORKDIR.value, export_only=EXPORT_ONLY.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    entry.run(main)
