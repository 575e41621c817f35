"""The page in a real browser, if there is one: from drop to download."""

import base64
import json
import time

import pytest

from tests.report.chromium import BROWSER, chromium
from tests.studio.conftest import serving

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")


@pytest.fixture
def page(studio, tmp_path):
    with serving(studio) as port, chromium(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{port}/", 1200, 900)
        wait(page, "!document.getElementById('format').value.length == 0")
        yield page
        assert page.problems == []
        assert all(url.startswith(f"http://127.0.0.1:{port}/") for url in page.requests)


def wait(page, condition):
    """Wait until a condition holds on the page."""
    while not page.js(f"Boolean({condition})"):
        assert page.js("document.getElementById('trouble').hidden"), page.js(
            "document.getElementById('trouble').textContent"
        )
        time.sleep(0.1)


def drop(page, zone, name, data):
    """Drop a file as a user would."""
    text = json.dumps(base64.b64encode(data).decode())
    page.js(
        f"(() => {{ const bytes = Uint8Array.from(atob({text}), c => c.charCodeAt(0));"
        " const all = new DataTransfer();"
        f" all.items.add(new File([bytes], {json.dumps(name)}));"
        f" document.getElementById('{zone}').dispatchEvent(new DragEvent('drop', {{ dataTransfer: all,"
        " bubbles: true, cancelable: true })) })()"
    )


def shown(page, selector):
    """The text of an element."""
    return page.js(f"document.querySelector({json.dumps(selector)}).textContent")


def click(page, selector):
    page.js(f"document.querySelector({json.dumps(selector)}).click()")


def test_from_drop_to_download(page, clip, photo, tmp_path):
    assert page.js("[...document.querySelectorAll('.act button')].every(button => button.disabled)")
    assert shown(page, "#run .why") == "Add a clip first."
    drop(page, "clip-zone", "my film.mp4", clip)
    wait(page, "document.querySelector('#clip .card')")
    assert "my film.mp4" in shown(page, "#clip")
    assert "10 \N{MULTIPLICATION SIGN} 8, 12 frames" in shown(page, "#clip")
    assert shown(page, "#matches .why") == "Add stills first."

    drop(page, "still-zone", "bad.png", b"not a picture")
    wait(page, "document.querySelector('#uploads .error')")
    assert shown(page, "#uploads .error").startswith("bad.png: ")
    click(page, "#uploads button")
    drop(page, "still-zone", "<b>holiday.png", photo)
    wait(page, "document.querySelector('#stills .card')")
    assert "<b>holiday.png" in shown(page, "#stills")
    assert page.js("document.querySelector('#stills button').ariaLabel") == "Remove <b>holiday.png"
    # The browser logs that this was refused.
    page.problems = [problem for problem in page.problems if "400 (Bad Request)" not in problem]

    click(page, "#start-matches")
    wait(page, "document.querySelector('#stop-matches')")
    assert page.js("document.getElementById('start-run').disabled")
    # What is rebuilt at each poll loses clicks and the focus.
    page.js("window.first = document.getElementById('stop-matches')")
    assert page.js("document.activeElement === first")
    said = shown(page, "#job-matches span")
    wait(page, f"document.querySelector('#job-matches span')?.textContent !== {json.dumps(said)}")
    assert page.js("first.isConnected && document.activeElement === first")
    wait(page, "!document.getElementById('advice').hidden")
    assert shown(page, "#advice") == "A still matches in every part of the clip."
    assert page.js("document.querySelectorAll('#matrix button img').length") == 2
    page.js("document.querySelector('#matrix button').focus()")
    click(page, "#matrix button")
    assert page.js("document.activeElement === document.querySelector('#matrix button[aria-pressed=true]')")
    assert "at 00:00.0: matches" in shown(page, "#shown figcaption")

    click(page, "#start-preview")
    wait(page, "document.querySelectorAll('#frames button').length == 3")
    wait(page, "document.getElementById('after').naturalWidth")
    page.settle()
    assert page.js("[before.naturalWidth, after.naturalWidth]") == [10, 40]
    labels = "[...document.querySelectorAll('.tag')].map(label => label.hidden)"
    assert page.js(labels) == [False, False]
    page.js("cut.focus()")
    page.press("Home", 36)
    assert page.js("before.style.clipPath").startswith("inset(0px 100%")
    assert page.js(labels) == [True, False]
    page.press("End", 35)
    assert page.js("line.style.left") == "100%"
    assert page.js(labels) == [False, True]
    click(page, "#frames button:last-child")
    assert page.js("after.src").split("?")[0].endswith("/picture/after-10")

    click(page, "#start-run")
    wait(page, "document.querySelector('#stop-run')")
    wait(page, "!document.getElementById('result').hidden")
    assert "my film-x4.mp4" in shown(page, "#result")
    assert "H.264" in shown(page, "#notes")
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "saved"))
    click(page, "#download")
    saved = tmp_path / "saved" / "my film-x4.mp4"
    while not saved.exists():
        page.js("1")
        time.sleep(0.1)
    assert saved.stat().st_size > 0


def test_what_was_refused_stays_until_the_next_action(page, clip):
    drop(page, "clip-zone", "a.mp4", clip)
    wait(page, "document.querySelector('#clip .card')")
    page.js("memory.value = 'much'")
    click(page, "#start-run")
    while page.js("document.getElementById('trouble').hidden"):
        time.sleep(0.1)
    asked = len(page.requests)
    # Polls come every ten seconds.
    while len(page.requests) == asked:
        page.js("new Promise(done => setTimeout(done, 500))")
    page.settle()
    assert shown(page, "#trouble").startswith("Memory limit: give a size")
    assert not page.js("document.getElementById('trouble').hidden")
    page.problems = [problem for problem in page.problems if "400 (Bad Request)" not in problem]
    page.js("memory.value = '1G'")
    click(page, "#start-run")
    # Nothing of so short a clip is finished before its end.
    wait(page, "document.querySelector('#stop-run')")
    click(page, "#stop-run")
    wait(page, "document.querySelector('#job-run p')")
    assert shown(page, "#job-run") == "Stopped before any frame was finished."


def test_a_continued_run_counts_the_frames_it_kept(page, clip):
    drop(page, "clip-zone", "a.mp4", clip)
    wait(page, "document.querySelector('#clip .card')")
    at_work = {"state": "running", "number": 9, "share": 0.5, "left": 130, "kept": 6, "seconds": 75.2}
    page.js(
        "fetch(`/s/${location.hash.slice(1)}`, { headers: { 'x-ldip-studio': '1' } }).then(a => a.json())"
        f".then(state => {{ state.jobs.run = {json.dumps(at_work)};"
        " window.fetch = async () => new Response(JSON.stringify(state)) })"
    )
    click(page, "#start-run")
    wait(page, "document.querySelector('#stop-run')")
    assert shown(page, "#job-run span") == "75 %, about 2 min left, 1:15 so far"
    assert page.js("document.querySelector('#job-run progress').value") == 0.75


@pytest.mark.parametrize("width", [360, 1600])
def test_fits_any_window(page, width):
    page.open(page.js("location.origin + '/'"), width, 800)
    assert page.js("document.documentElement.scrollWidth") <= width
