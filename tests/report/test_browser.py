"""The report in a real browser, if there is one: it loads without network, and its controls work."""

import numpy as np
import pytest

from ldip_jax.report.content import Crop, KeyFrame, Method, Reference
from ldip_jax.report.figures import Curves, Figures, Table
from ldip_jax.report.page import write_report
from tests.report.chromium import BROWSER, chromium

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")

RIGHT, LEFT, HOME, END = ("ArrowRight", 39), ("ArrowLeft", 37), ("Home", 36), ("End", 35)
WIDTH, HEIGHT = 160, 90
LONG = "a_name_that_has_no_place_to_break_" * 5


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of three methods, with frames in red, green and blue that get darker one by one."""
    path = tmp_path_factory.mktemp("report") / "report & more.html"
    methods = []
    for channel, name in enumerate(("Red", "Green", "<i>Blue</i>")):
        frames = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
        frames[..., channel] = np.array([250, 160, 80])[:, None, None]
        methods.append(Method(name, list(frames), 30.0, 0.9, 1.0))
    write_report(
        path,
        title=LONG,
        settings=[(LONG, LONG)],
        notes=[LONG],
        frame_names=["one", "two", "three"],
        methods=methods,
        crops=[Crop(0, 10, 10, 32)],
        key_frames=[KeyFrame(LONG, [Reference(LONG, 0.7, True, methods[0].images[0])])],
        tables=[
            Table(LONG, [LONG] * 3, [[LONG, "1", "2"]], [LONG]),
            Curves(LONG, "Gain", [0, 3], [("Red", [None, None]), (LONG, [1.5, -0.25])], "distance"),
        ],
        curves=Curves(LONG, "PSNR", [4, 5, 6], [("Red", [30.0, 31.5, 29.0]), (LONG, [None, 20.0, 28.25])]),
        figures=[Figures(LONG, LONG, [(LONG, [(LONG, methods[0].images[0])])])],
    )
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser, report):
    browser.problems.clear()
    browser.requests.clear()
    browser.open(report)
    yield browser
    assert browser.problems == []
    assert browser.requests == [report.as_uri()]


def box(page, name):
    """Left, top, width, height of an element in the window."""
    rectangle = f"document.getElementById('{name}').getBoundingClientRect()"
    return page.js(f"(r => [r.left, r.top, r.width, r.height])({rectangle})")


def cut_off(page):
    """How many pixels of the left image are cut off at its right edge."""
    return page.js("parseFloat(getComputedStyle(left).clipPath.match(/inset\\(0p?x? ([\\d.]+)/)?.[1] ?? '0')")


def choose(page, name, value):
    element = f"document.getElementById('{name}')"
    page.js(f"{element}.value = '{value}', {element}.dispatchEvent(new Event('change'))")
    page.settle()


def colors(page, name):
    """The mean colour of an image as the browser decodes it."""
    return page.js(
        f"(i => {{ const c = document.createElement('canvas').getContext('2d'); c.drawImage(i, 0, 0);"
        f" return [...c.getImageData(5, 5, 1, 1).data].slice(0, 3) }})(document.getElementById('{name}'))"
    )


def test_loads_with_every_image_decoded(page):
    assert page.js("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.js("document.images.length") == 2 + 3 + 1 + 1
    assert page.js("document.querySelector('i')") is None
    assert page.js("document.getElementById('right').alt") == "Right: <i>Blue</i>, one"


def test_the_slider_moves_by_keyboard(page):
    width = box(page, "left")[2]
    assert cut_off(page) == pytest.approx(width / 2, abs=1)
    page.js("cut.focus()")
    page.press(*RIGHT)
    assert cut_off(page) == pytest.approx(width * 0.495, abs=1)
    page.press(*END)
    assert cut_off(page) == pytest.approx(0, abs=1)
    page.press(*HOME)
    assert cut_off(page) == pytest.approx(width, abs=1)
    assert page.js("cut.getAttribute('aria-valuetext')") == "Red on the left 0 percent"


def test_the_slider_is_reached_with_tab(page):
    reached = set()
    for _ in range(8):
        page.press("Tab", 9)
        reached.add(page.js("document.activeElement.id"))
    assert {"table-1", "curves", "left-method", "right-method", "zoom", "cut", "frame"} <= reached


def test_the_line_is_dragged(page):
    page.js("view.scrollIntoView({ block: 'center' })")
    left, top, width, height = box(page, "stage")
    page.drag((left + width / 2, top + height / 2), (left + width / 4, top + height / 3))
    assert cut_off(page) == pytest.approx(width * 3 / 4, abs=0.01 * width)
    line = box(page, "line")
    assert line[0] + line[2] / 2 == pytest.approx(left + width / 4, abs=0.01 * width)


def test_scrubbing_shows_other_frames(page):
    assert colors(page, "left") == pytest.approx([250, 0, 0], abs=6)
    page.js("frame.focus()")
    page.press(*RIGHT)
    assert colors(page, "left") == pytest.approx([160, 0, 0], abs=6)
    assert colors(page, "right") == pytest.approx([0, 0, 160], abs=6)
    page.press(*END)
    assert colors(page, "left") == pytest.approx([80, 0, 0], abs=6)
    assert page.js("document.getElementById('frame-name').textContent") == "Frame 3 of 3: three"
    page.press(*LEFT)
    assert page.js("document.getElementById('left').alt") == "Left: Red, two"


def test_the_curves_cursor_moves_by_keyboard_and_pointer(page):
    def shown():
        return [page.js(f"document.getElementById('curves-value-{number}').textContent") for number in (0, 1)]

    assert shown() == ["30.00", "\N{EN DASH}"]
    page.js("curves.focus()")
    page.press(*RIGHT)
    assert shown() == ["31.50", "20.00"]
    assert page.js("document.getElementById('curves-at').textContent") == "PSNR, frame 5"
    page.press(*END)
    page.press(*RIGHT)
    assert shown() == ["29.00", "28.25"]
    page.js("curves.scrollIntoView({ block: 'center' })")
    left, top, width, height = box(page, "curves")
    page.drag((left + 5, top + height / 2), (left + width / 2, top + height / 2))
    assert shown() == ["31.50", "20.00"]
    line = box(page, "curves-cursor")
    assert line[0] - left == pytest.approx(width / 2, abs=0.05 * width)


def test_curves_over_another_axis_have_their_own_cursor_and_skip_missing_values(page):
    def text(name):
        return page.js(f"document.getElementById('{name}')?.textContent")

    assert page.js("document.querySelectorAll('svg.curves').length") == 2
    assert (text("table-1-value-0"), text("table-1-value-1")) == (None, "1.50")
    # It has the second colour although it is the only curve, and its two points are marked.
    assert page.js("document.querySelectorAll('#table-1 .curve.c1').length") == 1
    assert page.js("document.querySelectorAll('#table-1 .curve').length") == 1
    assert page.js("document.querySelectorAll('#table-1 .dot.c1').length") == 2
    page.js("document.getElementById('table-1').focus()")
    page.press(*RIGHT)
    assert (text("table-1-value-1"), text("table-1-at")) == ("-0.25", "Gain, distance 3")
    assert text("curves-at") == "PSNR, frame 4"


def test_methods_can_be_chosen(page):
    choose(page, "left-method", 1)
    choose(page, "right-method", 0)
    assert colors(page, "left") == pytest.approx([0, 250, 0], abs=6)
    assert colors(page, "right") == pytest.approx([250, 0, 0], abs=6)


def test_when_zoomed_in_the_line_stays_while_the_image_scrolls(page):
    choose(page, "zoom", 8)
    view = box(page, "view")
    assert box(page, "stage")[2] == 8 * WIDTH > view[2]
    centre = page.js("[(view.scrollLeft + view.clientWidth / 2) / view.scrollWidth, view.scrollLeft]")
    assert centre[0] == pytest.approx(0.5, abs=0.01)
    before = box(page, "line")
    assert before[0] + before[2] / 2 == pytest.approx(view[0] + view[2] / 2, abs=2)
    cut_before = cut_off(page)
    page.js("view.scrollLeft += 60")
    page.settle()
    assert box(page, "line")[0] == pytest.approx(before[0], abs=2)
    assert cut_off(page) == pytest.approx(cut_before - 60, abs=2)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 1600])
def test_fits_any_window_and_follows_the_theme(page, report, width, dark):
    page.open(report, width, 800, dark)
    page.requests.pop()
    assert page.js("document.documentElement.scrollWidth") <= width
    assert box(page, "stage")[2] / box(page, "stage")[3] == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    ground, text = page.js("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    brightness = [sum(map(int, color[4:-1].split(","))) for color in (ground, text)]
    assert (brightness[0] < brightness[1]) == dark
