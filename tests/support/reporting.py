"""Reports of run folders, and what is in them."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pipeline.config import ReportConfig
from pipeline.report.stage import write_report


class Rows(HTMLParser):
    """The texts of the cells of each line of a page's tables."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


def page_of(runs: Path, **changed: Any) -> str:
    out = runs.parent / "report.html"
    given: dict[str, Any] = {"run": (str(runs),), "out": str(out), **changed}
    out = write_report(ReportConfig(**given))
    return out.read_text(encoding="utf-8")


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", markup))


def section(page: str, place: str) -> str:
    return next(part for part in page.split("<section")[1:] if f'id="{place}"' in part).split("</section>")[0]
