"""The command `ldip studio`: its address, how it ends, and what it needs."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ldip_jax.cli.main import main


def test_without_the_extra_one_line_says_what_to_install(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert main(["studio"]) == 2
    message = capsys.readouterr().err
    assert message == "ldip: needs uvicorn, which is not installed; pip install 'ldip-jax[studio]'\n"


def test_a_port_in_use_is_reported_in_one_line(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["studio", "--port", str(port), "--no-browser"]) == 2
    assert re.fullmatch(
        rf"ldip: --port {port}: cannot be used \(.+\); choose another.*\n", capsys.readouterr().err
    )


@pytest.mark.parametrize("flag", [("--port", "x"), ("--port", "70000"), ("--max-upload", "big")])
def test_invalid_flags(flag, capsys):
    with pytest.raises(SystemExit) as end:
        main(["studio", *flag])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_no_flag_opens_it_to_the_network():
    done = subprocess.run(
        [sys.executable, "-m", "ldip_jax.cli.main", "studio", "--help"], capture_output=True, text=True
    )
    flags = set(re.findall(r"--[a-z-]+", done.stdout))
    assert flags == {"--help", "--port", "--no-browser", "--max-upload", "--backbone", "--lrrf"}


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_serves_only_this_machine_and_removes_its_files_when_it_ends(tmp_path, number, code):
    command = [sys.executable, "-m", "ldip_jax.cli.main", "studio", "--no-browser", "--port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as run:
        try:
            assert run.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:(\d+)/", run.stdout.readline())
            assert address is not None
            with urllib.request.urlopen(address[0]) as answer:
                assert b"ldip studio" in answer.read()
            if sys.platform == "linux":
                listening = Path("/proc/net/tcp").read_text()
                assert f"0100007F:{int(address[1]):04X} 00000000:0000 0A" in listening
                assert f"00000000:{int(address[1]):04X} 00000000:0000 0A" not in listening
            request = urllib.request.Request(f"{address[0]}sessions", b"{}", {"x-ldip-studio": "1"})
            urllib.request.urlopen(request).close()
            assert len(list(tmp_path.glob("ldip-studio-*/*"))) == 2
            run.send_signal(number)
            message = run.communicate(timeout=60)[1]
            assert run.returncode == code
            assert "Traceback" not in message
        finally:
            run.kill()
    assert list(tmp_path.glob("ldip-studio-*")) == []
