"""What a page may upload, request and start; nothing is run."""

import http.client
import os
import tempfile
import time
from pathlib import Path

import pytest

from ldip_jax.errors import InputError
from ldip_jax.studio import session as sessions
from ldip_jax.studio.server import HOST, MOST_SESSIONS, Studio
from ldip_jax.studio.settings import FORMATS, Settings, read_settings
from ldip_jax.studio.uploads import clean_name, own_path


def files_of(studio):
    return sorted(path.relative_to(studio.folder).as_posix() for path in studio.folder.rglob("*"))


def test_uploads_are_shown(client, clip, photo):
    state = client.upload("clip", "Shot 1 ü.mp4", clip).values
    assert (state["clip"]["name"], state["clip"]["frames"]) == ("Shot 1 ü.mp4", 12)
    assert (state["clip"]["width"], state["clip"]["height"]) == (10, 8)
    for name in ("a.png", "a.png", "b.jpg"):
        state = client.upload("still", name, photo).values
    assert [still["name"] for still in state["stills"]] == ["a.png", "a.png", "b.jpg"]
    picture = client.session_request("GET", f"/picture/{state['stills'][1]['key']}")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/jpeg")
    client.session_request("DELETE", f"/still/{state['stills'][0]['key']}")
    assert [still["name"] for still in client.session_request("GET").values["stills"]] == ["a.png", "b.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.mp4",
        "/etc/cron.d/evil.mp4",
        "..\\..\\evil.mp4",
        "C:\\evil.mp4",
        "a\0b.mp4",
        "x" * 5000 + ".mp4",
    ],
)
def test_names_from_clients_are_never_used_as_paths(client, studio, tmp_path, clip, name):
    answer = client.upload("clip", name, clip)
    assert answer.status == 200
    shown = answer.values["clip"]["name"]
    assert not {"/", "\\", "\0"} & set(shown)
    assert len(shown) <= 80
    kept = [path for path in tmp_path.rglob("*.mp4") if path.name != "a.mp4"]
    assert [path.name for path in kept] == ["clip-1.mp4"]
    assert kept[0].parent.parent == studio.folder


def test_clean_names():
    assert clean_name("a/b\\c.png", "still") == "c.png"
    assert clean_name("", "still") == clean_name("..", "still") == clean_name("x/", "still") == "still"
    assert clean_name("\x1b[31mred\n.png", "still") == "[31mred.png"
    assert clean_name("y" * 200, "clip").endswith("y" * 8)


def test_only_known_extensions_are_kept():
    assert own_path(Path("f"), "still-1", "A.PNG", "still") == Path("f/still-1.png")
    assert own_path(Path("f"), "clip-1", "a.b.MOV", "clip") == Path("f/clip-1.mov")
    for name, kind in [("a.mp4", "still"), ("a.sh", "clip"), ("a", "still"), ("a.png/../b", "still")]:
        with pytest.raises(InputError, match="choose another file"):
            own_path(Path("f"), "key", name, kind)


@pytest.mark.parametrize(
    ("kind", "name", "body", "message"),
    [
        ("still", "a.png", b"not a picture", "a.png: "),
        ("still", "a.mp4", b"x", "a.mp4: is not an image"),
        ("clip", "a.mp4", b"not a video", "a.mp4: "),
        ("clip", "a.mp4", b"", "a.mp4: is empty"),
        ("clip", "a.exe", b"x", "a.exe: is not a video"),
    ],
)
def test_a_bad_upload_gives_one_line_and_leaves_nothing(client, studio, kind, name, body, message):
    before = files_of(studio)
    answer = client.upload(kind, name, body)
    assert answer.status == 400
    assert answer.values["error"].startswith(message)
    assert "\n" not in answer.values["error"]
    assert str(studio.folder) not in answer.values["error"]
    assert files_of(studio) == before


def test_a_photo_is_not_a_clip(client, photo):
    assert "drop it where stills go" in client.upload("clip", "a.png", photo).values["error"]


def test_uploads_are_limited(client, studio, photo):
    before = files_of(studio)
    answer = client.upload("still", "a.png", bytes((1 << 20) + 1))
    assert answer.status == 400
    assert "may take 1M; ldip studio --max-upload allows more" in answer.values["error"]
    assert files_of(studio) == before
    # The limit also holds if no length is given.
    with_chunks = http.client.HTTPConnection(HOST, client.port, timeout=60)
    parts = (bytes(1 << 16) for _ in range(17))
    headers = {"x-ldip-studio": "1", "x-name": "a.png"}
    with_chunks.request("PUT", f"/s/{client.key}/upload/still", parts, headers, encode_chunked=True)
    assert with_chunks.getresponse().status == 400
    with_chunks.close()
    assert files_of(studio) == before
    session = studio.sessions[client.key]
    assert session._space.used == 0
    for _ in range(3):
        client.upload("still", "a.png", photo)
    assert session._space.used == 3 * len(photo)
    client.session_request("DELETE", f"/still/{session.stills[0].key}")
    assert session._space.used == 2 * len(photo)


def test_an_aborted_upload_leaves_nothing(client, studio, photo):
    before = files_of(studio)
    connection = http.client.HTTPConnection(HOST, client.port, timeout=60)
    connection.putrequest("PUT", f"/s/{client.key}/upload/still")
    for name, value in {"x-ldip-studio": "1", "x-name": "a.png", "content-length": "1000"}.items():
        connection.putheader(name, value)
    connection.endheaders(photo[:100])
    time.sleep(0.2)
    connection.close()
    for _ in range(100):
        if files_of(studio) == before:
            break
        time.sleep(0.05)
    assert files_of(studio) == before
    assert client.upload("still", "a.png", photo).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/picture/../../../../etc/passwd",
        "/picture/%2e%2e%2fa.mp4",
        "/picture/clip-1.mp4",
        "/picture/lock",
        "/result",
    ],
)
def test_only_known_files_are_served(client, clip, path):
    client.upload("clip", "a.mp4", clip)
    assert client.session_request("GET", path).status == 404


@pytest.mark.parametrize("path", ["/etc/passwd", "/../server.py", "/server.py", "/s/other", "/s/"])
def test_nothing_else_is_served(client, path):
    assert client.request("GET", path).status == 404


def test_other_sites_can_do_nothing(client):
    assert client.request("POST", "/sessions", b"{}", x_ldip_studio="").status == 403
    assert client.session_request("DELETE", x_ldip_studio="").status == 403
    assert client.session_request("GET", host="evil.example").status == 400
    page = client.request("GET", "/")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy + page.body.decode().replace("http-equiv", "")
    assert "access-control-allow-origin" not in page.headers
    # A browser asks this first, and is denied.
    assert client.request("OPTIONS", "/sessions", origin="http://evil.example").status in (403, 405)


def test_missing_files_and_invalid_requests_are_reported(client, clip):
    assert client.start("run").values["error"].startswith("there is no clip yet")
    client.upload("clip", "a.mp4", clip)
    assert client.start("matches").values["error"].startswith("there are no stills yet")
    assert client.start("nothing").status == 404
    assert client.session_request("POST", "/start/run", b"[1]").status == 400
    assert client.session_request("POST", "/start/run", b"{" * 5000).status == 413
    assert "between 1 and 8" in client.start("run", scale=9).values["error"]


def test_settings():
    assert read_settings({}) == Settings(4.0, "", "h264")
    assert read_settings({"scale": "2.5", "memory": " 8g ", "format": "png"}) == Settings(2.5, "8G", "png")
    words = ["--scale", "4", "--on-error", "hold", "--memory", "1.5G"]
    assert read_settings({"memory": "1.5 G", "damaged": "hold"}).words() == words
    wrong = {"scale": "nan"}, {"scale": "x"}, {"memory": "--overwrite"}, {"format": "../x"}, {"damaged": "go"}
    for values in wrong:
        with pytest.raises(InputError):
            read_settings(values)
    assert all(entry.suffix in ("", ".mp4", ".mov", ".mkv") for entry in FORMATS.values())


def test_files_are_deleted_with_the_page(client, studio, clip):
    client.upload("clip", "a.mp4", clip)
    assert len(files_of(studio)) > 2
    assert client.session_request("DELETE").status == 200
    assert files_of(studio) == ["lock"]
    assert client.session_request("GET").status == 404


def test_a_reloaded_page_keeps_its_files(client, clip):
    client.upload("clip", "a.mp4", clip)
    again = client.request("POST", "/sessions", f'{{"key": "{client.key}"}}'.encode()).values
    assert again["key"] == client.key
    assert client.session_request("GET").values["clip"]["name"] == "a.mp4"
    assert client.request("POST", "/sessions", b'{"key": "other"}').values["key"] != client.key


def test_files_of_closed_pages_are_deleted(studio, monkeypatch):
    session = studio.open()
    studio.sweep()
    assert session.folder.is_dir()
    monkeypatch.setattr(sessions, "AWAY", -1.0)
    session.result = session.folder / "run.mp4"
    studio.sweep()
    assert session.folder.is_dir(), "a result that nobody has fetched is kept"
    session.fetched = True
    studio.sweep()
    assert not session.folder.exists()


def test_the_number_of_pages_is_limited(studio):
    for _ in range(MOST_SESSIONS):
        studio.open()
    with pytest.raises(InputError, match="too many pages"):
        studio.open()


def test_files_are_deleted_with_the_server_and_those_of_a_killed_one_later(studio, words):
    dead = Path(tempfile.mkdtemp(prefix="ldip-studio-"))
    (dead / "lock").touch()
    (dead / "film.mp4").touch()
    foreign = Path(tempfile.mkdtemp(prefix="ldip-studio-"))
    second = Studio(1000, words)
    assert not dead.exists()
    assert foreign.is_dir(), "a folder without a lock is not ours"
    assert studio.folder.is_dir(), "one that is at work stays"
    assert os.stat(second.folder).st_mode & 0o077 == 0
    second.open()
    second.close()
    assert not second.folder.exists()
