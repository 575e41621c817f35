"""House rules that a machine can check, and what every release must have right."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ldip_jax

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "ldip_jax").rglob("*.py"))
TEXTS = [
    path
    for pattern in ("*.py", "*.md", "*.toml", "Makefile", "*.yml", "*.yaml")
    for folder in ("", "ldip_jax/**/", "tests/**/", "configs/**/", "benchmarks/**/", ".github/**/")
    for path in ROOT.glob(folder + pattern)
]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_source_file_is_documented_short_and_about_one_thing(path):
    text = path.read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text)), "no module docstring"
    assert text.count("\n") <= 500, "too long: split it by what it does"
    assert path.stem not in {"utils", "util", "helpers", "misc"}, "a name that says nothing"


def test_no_path_of_one_machine_is_written_down():
    own = re.compile(r"(?<![\w.])/(?:home|Users|root|tmp|work|mnt|opt)/\w")
    lines = [(path, line) for path in TEXTS for line in path.read_text(encoding="utf-8").splitlines()]
    found = [f"{name(path)}: {line.strip()}" for path, line in lines if own.search(line)]
    assert not found


def test_tools_are_pinned_alike_everywhere():
    pinned = re.findall(r"[\w-]+==[\w.]+", (ROOT / ".pre-commit-config.yaml").read_text())
    ruff = next(spec for spec in PYPROJECT["project"]["optional-dependencies"]["dev"] if "ruff" in spec)
    assert pinned.count(ruff) == sum(spec.startswith("ruff==") for spec in pinned) > 0


def test_changelog_has_no_release_newer_than_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    order = [tuple(map(int, version.split("."))) for version in [ldip_jax.__version__, *released]]
    assert "## [Unreleased]" in text
    assert order == sorted(order, reverse=True)


def test_help_is_instant_because_it_imports_no_jax():
    code = (
        "import sys\n"
        "from ldip_jax.cli.main import main\n"
        "try:\n    code = main(['--help'])\n"
        "except SystemExit as exit:\n    code = exit.code\n"
        "assert not code, code\n"
        "heavy = {'jax', 'flax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "upscale" in run.stdout
