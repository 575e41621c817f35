"""A training config as the command line gives it: a config file, and fields that flags set."""

import difflib
import re
from collections.abc import Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from ldip_jax.config_files import load_config
from ldip_jax.errors import InputError
from ldip_jax.settings import read_settings, settings
from ldip_jax.training.config import TrainingConfig

_FIELD = re.compile(r"--?(?:no)?config\.([^=]*)")


def read_config(text: str, overrides: Sequence[str] = ()) -> TrainingConfig:
    """A training config with `--config.NAME=VALUE` applied.

    Args:
        text: NAME, FILE, NAME:ARGUMENTS or FILE:ARGUMENTS. A file may also return an
            `ml_collections.ConfigDict`.
        overrides: these flags; also as two words, `--config.NAME VALUE`.

    Raises:
        InputError: no such config, no such field, or a value of another type.
    """
    config = load_config(text)
    if isinstance(config, ConfigDict):
        config = config.to_dict()
    if isinstance(config, Mapping):
        config = read_settings(TrainingConfig, config)
    if not isinstance(config, TrainingConfig):
        raise InputError(f"--config {text}: returns a {type(config).__name__}, not a TrainingConfig")
    names = [setting.name for setting in settings(config)]
    for word in overrides:
        if (match := _FIELD.match(word)) and match[1] not in names:
            near = difflib.get_close_matches(match[1], names, 1)
            hint = f"did you mean {near[0]}?" if near else "docs/training.md lists all fields"
            raise InputError(f"--config.{match[1]}: no such field of the config; {hint}")
    values = flags.FlagValues()
    arguments = ["ldip", *overrides]
    try:
        holder = config_flags.DEFINE_config_dataclass(
            "config", config, flag_values=values, sys_argv=arguments
        )
        rest = values(arguments)
    except (flags.Error, ValueError, TypeError) as error:
        raise InputError(next(iter(str(error).splitlines()), type(error).__name__)) from error
    if len(rest) > 1:
        raise InputError(f"{rest[1]}: unexpected; options begin with --")
    return holder.value
