"""Training configs as files: those that come with the package, by their name, and others, by their path."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ldip_jax.errors import InputError


def shipped_configs() -> Path:
    """The folder of the configs and of the list of held-out clips.

    In a checkout, this is `configs/`, beside the package; in an installed package, it is within.
    """
    package = Path(__file__).parent
    within = package / "configs"
    return within if within.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """The names of the configs that come with the package."""
    return sorted(path.stem for path in shipped_configs().glob("*.py") if path.stem != "common")


def find_config(name: str) -> Path:
    """The file of a config.

    Args:
        name: of a config that comes with the package, such as "ldip_basicvsr_x4"; or the path of a file.

    Raises:
        InputError: there is no such config.
    """
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        return path
    if name in config_names():
        return shipped_configs() / f"{name}.py"
    raise InputError(
        f"--config {name}: no such config; give a .py file, or choose from {', '.join(config_names())}"
    )


def load_config(text: str) -> Any:
    """What `get_config` of a config returns.

    Args:
        text: a name or a path, as for `find_config`; after a colon, arguments for `get_config`.

    Raises:
        InputError: there is no such config, or its file cannot be used.
    """
    name, *arguments = text.split(":", 1)
    path = find_config(name)
    spec = importlib.util.spec_from_file_location("config", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with _shared_configs(path):
            spec.loader.exec_module(module)
            return module.get_config(*arguments)
    except ModuleNotFoundError as error:
        extra = " (pip install 'ldip-jax[train]')" if error.name == "ml_collections" else ""
        raise InputError(f"--config {name}: needs {error.name}{extra}") from None
    # A config is the user's own program: anything may be raised.
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(f"--config {text}: {type(error).__name__}: {reason}") from error


@contextmanager
def _shared_configs(path: Path) -> Iterator[None]:
    """Make `from configs.common import ...` work in a config, wherever its file lies."""
    shared = ModuleType("configs")
    folders = [str(path.parent)] if path.parent.resolve().name == "configs" else []
    shared.__path__ = [*folders, str(shipped_configs())]
    before = _take_configs()
    sys.modules["configs"] = shared
    try:
        yield
    finally:
        _take_configs()
        sys.modules.update(before)


def _take_configs() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == "configs"]
    return {name: sys.modules.pop(name) for name in names}
