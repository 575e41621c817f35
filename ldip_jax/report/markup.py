"""HTML put together so that text from outside cannot turn into markup."""

from collections.abc import Iterable
from html import escape

_EMPTY = frozenset({"br", "img"})


class Html(str):
    """Text that is HTML already; any other text is escaped wherever it is put into HTML."""


def join(parts: Iterable[str]) -> Html:
    """One after the other, each escaped unless it is HTML."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def tag(name: str, *content: str, **attributes: str | int | bool) -> Html:
    """An element. `class_` stands for `class` and `data_x` for `data-x`.

    An attribute of True has no value; one of False is left out.
    """
    start = name
    for key, value in attributes.items():
        if value is not False:
            start += f" {key.rstrip('_').replace('_', '-')}"
            start += "" if value is True else f'="{escape(str(value))}"'
    return Html(f"<{start}>" if name in _EMPTY else f"<{start}>{join(content)}</{name}>")


def section(name: str, heading: str, *content: str) -> Html:
    """A part of the page under its heading; `name` is unique."""
    title = tag("h2", heading, id=f"h-{name}")
    return tag("section", title, *content, aria_labelledby=f"h-{name}")
