"""One word for each thing: names and prose use none of the words that docs/glossary.md lists as retired."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
CODE = [
    path
    for folder in ("ldip_jax", "configs", "benchmarks", "examples", "scripts", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
FOLDERS = ("ldip_jax", "tests", "configs", "benchmarks", "examples", "docs", "scripts", ".github")
KINDS = {".py", ".md", ".sh", ".js", ".html", ".yml", ""}
PROSE = [
    path
    for found in (ROOT.glob("*"), *(sorted((ROOT / folder).rglob("*")) for folder in FOLDERS))
    for path in found
    if path.is_file() and path.suffix in KINDS and path.name[0] != "."
]


def retired(heading: str) -> list[str]:
    """The retired words under a heading of the glossary: the code spans that begin its lines."""
    section = GLOSSARY.read_text(encoding="utf-8").split(f"### {heading}\n")[1].split("\n#")[0]
    lines = re.findall(r"^- (`.+?`(?:, `.+?`)*):", section, re.MULTILINE)
    return [span for line in lines for span in re.findall(r"`(.+?)`", line)]


WORDS, NAMES = set(retired("Words in names")), set(retired("Names"))
PHRASES = retired("Phrases")


def defined(tree: ast.AST) -> set[str]:
    """Names of classes, functions, parameters and fields."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.arg):
            found.add(node.arg)
        if isinstance(node, ast.ClassDef):
            targets = [
                target for item in node.body if isinstance(item, ast.Assign) for target in item.targets
            ]
            targets += [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def words(name: str) -> set[str]:
    """The words of a name, in lower case: "frame" and "score" of `FrameScore` and of `_frame_score`."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def refused(names: set[str]) -> list[str]:
    """Names with a retired word; those of tests are sentences, so they may have any."""
    names = {name for name in names if not name.startswith("test_")}
    return sorted(name for name in names if name.strip("_") in NAMES or words(name) & WORDS)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CODE, ids=name)
def test_names_contain_no_retired_words(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not refused({path.stem, *defined(tree)}), "retired; docs/glossary.md has the names in use"


@pytest.mark.parametrize(
    "code",
    [
        "def sure_pixels(): ...",
        "def f(is_sure): ...",
        "def f(*, key_index=0): ...",
        "f = lambda own: 0",
        "class StepPlan: ...",
        "class A:\n    told: int",
        "class A:\n    spared = 1",
        "def f(self):\n    self._room = 1",
    ],
)
def test_retired_names_are_found(code):
    assert refused(defined(ast.parse(code)))


def test_names_are_split_into_words():
    assert words("_FrameScore2_rgbYUV") == {"frame", "score", "rgb", "yuv"}
    assert not refused({"measure", "assured", "_roomy", "key_index_map", "owner"})


def test_names_in_the_glossary_exist_in_the_code():
    rows = re.findall(r"^\|.*\|(.*)\|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)`", row)]
    code = " ".join(path.read_text(encoding="utf-8") for path in CODE)
    found = set(re.findall(r"\w+", code))
    assert len(names) > 50
    assert not [name for name in names if not set(name.split(".")) <= found]


def prose(path: Path) -> str:
    """A file's text on one line, so that phrases are found across line breaks."""
    text = re.sub(r"[\"']\s*\n\s*f?[\"']", "", path.read_text(encoding="utf-8"))
    return re.sub(r"\s*\n\s*(?:#\s*)?", " ", text)


@pytest.mark.parametrize("path", [path for path in PROSE if path not in (GLOSSARY, Path(__file__))], ids=name)
def test_prose_is_plain(path):
    text = prose(path)
    found = [match[0] for phrase in PHRASES for match in re.finditer(phrase, text, re.IGNORECASE)]
    assert not found, "phrases that read as translated; docs/glossary.md has plain ones"


@pytest.mark.parametrize(
    "text",
    [
        "a.png: is no\n    image",
        'said("it is no"\n    " .json file")',
        "# The backbone\n# alone runs.",
        "It is told.",
    ],
)
def test_retired_phrases_are_found_across_lines(tmp_path, text):
    (tmp_path / "a.py").write_text(text)
    assert any(re.search(phrase, prose(tmp_path / "a.py"), re.IGNORECASE) for phrase in PHRASES)
