"""House rules that a machine can check, and what every release must have right."""

import ast
import pkgutil
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
    for folder in (
        "",
        "ldip_jax/**/",
        "tests/**/",
        "configs/**/",
        "benchmarks/**/",
        ".github/**/",
        "examples/**/",
    )
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


# Packages and modules from low to high: each may import those before it and those in its own line.
LAYERS = (
    *(
        ("errors",),
        (
            "atomic",
            "cache",
            "memory",
            "processes",
            "progress",
            "runtime",
            "untrusted",
            "profiling",
            "settings",
        ),
    ),
    *(("command", "config_files", "ops"), ("models",), ("weights",), ("matching",), ("media",), ("data",)),
    *(("inference",), ("report", "vapoursynth"), ("training",), ("evaluation",), ("demo",)),
    ("cli", "studio"),
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}


def imported(path: Path) -> set[str]:
    """The packages and modules of `ldip_jax` that a file imports, also within functions."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("ldip_jax.")}


def test_nothing_is_imported_from_a_higher_layer():
    upwards = []
    for path in SOURCES:
        part = path.relative_to(ROOT / "ldip_jax").parts[0].removesuffix(".py")
        # The package's `__init__`, whose names are imported on first use, stands above all layers.
        if part != "__init__":
            upwards += [f"{name(path)}: {other}" for other in imported(path) if LAYER[other] > LAYER[part]]
    assert not upwards


def test_no_file_contains_paths_of_a_particular_machine():
    own = re.compile(r"(?<![\w.])/(?:home|Users|root|tmp|work|mnt|opt)/\w")
    lines = [(path, line) for path in TEXTS for line in path.read_text(encoding="utf-8").splitlines()]
    found = [f"{name(path)}: {line.strip()}" for path, line in lines if own.search(line)]
    assert not found


def test_tools_are_pinned_to_the_same_versions_everywhere():
    pinned = re.findall(r"[\w-]+==[\w.]+", (ROOT / ".pre-commit-config.yaml").read_text())
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    (ruff,) = {spec for extra in extras for spec in extra if spec.startswith("ruff")}
    assert pinned.count(ruff) == sum(spec.startswith("ruff==") for spec in pinned) > 0


def test_changelog_has_no_release_newer_than_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    order = [tuple(map(int, version.split("."))) for version in [ldip_jax.__version__, *released]]
    assert "## [Unreleased]" in text
    assert order == sorted(order, reverse=True)


def test_the_citation_names_the_version_and_the_paper():
    text = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {ldip_jax.__version__}\n" in text
    paper = re.search(r"LDIP: [\w ]+-?[\w ]*Video Super-Resolution", text)
    assert paper is not None
    assert paper[0] in " ".join((ROOT / "README.md").read_text().split())


def test_help_is_instant_because_it_imports_no_jax():
    code = (
        "import sys\n"
        "from ldip_jax.cli.main import main\n"
        "try:\n    code = main(['--help'])\n"
        "except SystemExit as exit:\n    code = exit.code\n"
        "assert not code, code\n"
        "heavy = {'jax', 'flax', 'starlette', 'uvicorn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "upscale" in run.stdout


DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_every_page_of_the_docs_is_in_the_navigation_once():
    navigation = re.findall(r"^ +- .+: ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(navigation) == PAGES


@pytest.mark.parametrize("page", [*(f"docs/{page}" for page in PAGES), "README.md", "CONTRIBUTING.md"])
def test_links_of_a_page_lead_to_existing_files(page):
    path = ROOT / page
    links = [link.partition("#")[0] for link in LINK.findall(path.read_text(encoding="utf-8"))]
    local = [link for link in links if link and not link.startswith("http")]
    assert not [link for link in local if not (path.parent / link).is_file()]


@pytest.mark.parametrize("page", [f"docs/{page}" for page in PAGES])
def test_options_in_the_commands_of_a_page_exist(page):
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [line.partition("#")[0] for line in lines if re.match(r"(srun )?ldip ", line)]
    used = {flag for line in commands for flag in re.findall(r" (--[a-z][a-z-]*)", line)} - {
        "--config",
        "--help",
    }
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert not [flag for flag in used if f'"{flag}"' not in source]


@pytest.mark.parametrize("page", [f"docs/{page}" for page in PAGES])
def test_python_in_a_page_can_be_parsed(page):
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        ast.parse(block)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("api/")])
def test_objects_of_the_api_reference_exist(page):
    for dotted in re.findall(r"^::: ([\w.]+)$", (DOCS / page).read_text(), re.MULTILINE):
        pkgutil.resolve_name(dotted)


def test_the_public_names_are_in_the_api_reference():
    text = (DOCS / "api/index.md").read_text()
    assert not [name for name in ldip_jax.__all__ if name[0] != "_" and f"::: ldip_jax.{name}\n" not in text]
