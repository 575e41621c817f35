"""A training config as the command line gives it: a config file, and fields that flags set."""

import difflib
import re
from collections.abc import Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from ldip_jax.config_files import load_config
from ldip_jax.errors import InputError
from ldip_jax.settings import former_names, read_settings, settings
from ldip_jax.training.config import TrainingConfig

_FIELD = re.compile(r"(--?(?:no)?config\.)([^=]*)")


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
    values = flags.FlagValues()
    arguments = ["ldip", *_under_current_names(config, overrides)]
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


def _under_current_names(config: TrainingConfig, overrides: Sequence[str]) -> list[str]:
    """The flags, with fields' earlier names replaced.

    Raises:
        InputError: there is no such field.
    """
    names, renamed = [setting.name for setting in settings(config)], former_names(config)
    words = []
    for word in overrides:
        if match := _FIELD.match(word):
            name = renamed.get(match[2], match[2])
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]}?" if near else "docs/training.md lists all fields"
                raise InputError(f"--config.{name}: no such field of the config; {hint}")
            word = match[1] + name + word[match.end() :]
        words.append(word)
    return words
