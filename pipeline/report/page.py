"""The page around the sections: style and script are inside, and nothing else may be loaded or run.

The content security policy allows the one style and the one script by their digests, and images in the page
alone: should markup out of a run folder ever get in, it can neither run nor call home.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from pipeline.report.markup import Markup, element, join


def page(title: str, summary: str, sections: Sequence[tuple[str, str, Markup]]) -> str:
    """A whole HTML file. `sections` are (id of the heading, word for the menu, content)."""
    style, script = asset("page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(style)),
    )
    links = [element("a", word, href=f"#{place}") for place, word, _ in sections]
    body = element(
        "body",
        element("a", "Skip to the answer", href="#answer", class_="skip"),
        element(
            "header",
            element("div", element("h1", title), element("p", summary, class_="muted")),
            element("button", "Dark", type="button", id="theme", hidden=True),
        ),
        element("nav", links, aria_label="Sections"),
        element("main", [content for _, _, content in sections]),
        _viewer(),
        element("script", Markup(script)),
    )
    return join([Markup("<!doctype html>\n"), element("html", head, body, lang="en"), Markup("\n")])


def _viewer() -> Markup:
    """The dialog in which the script shows an image and what is known of it."""
    buttons = [
        element("button", text, type="button", data_step=step)
        for text, step in (("‹ Previous", "-1"), ("Next ›", "1"), ("Close", "0"))
    ]
    content = element("div", id="viewer-content", aria_live="polite")
    return element(
        "dialog", content, element("div", buttons, class_="buttons"), id="viewer", aria_label="Image"
    )


def asset(name: str) -> str:
    """A file beside this module."""
    return (files("pipeline.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{found}'"
