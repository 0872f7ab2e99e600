"""The page in Debian's Chromium, as somebody uses it: with mouse and with keys, in light and in dark.

Needs the packages chromium and chromium-driver and, for the check by axe-core, AXE_CORE=PATH/axe.min.js, out
of the npm package axe-core, or node_modules/axe-core in the working directory.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.many_runs import RATES, make
from support.nasty import NASTY, nasty_run
from support.reporting import page_of

from pipeline.files import read_json
from pipeline.runs.ledger import entries

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium isn't installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

PROGRAMS = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900")

pytestmark = pytest.mark.skipif(None in PROGRAMS.values(), reason="needs chromium and chromium-driver")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"), seeds=4, classes=5, train=100, test=200, folds=4)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(PROGRAMS["chromium"])
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(str(PROGRAMS["chromedriver"])))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, made: Path) -> Any:
    """The page of the runs, opened from disk."""
    if not (made / "report.html").exists():
        page_of(made / "runs")
    colours(browser, "light")
    browser.get((made / "report.html").as_uri())
    browser.execute_script("localStorage.clear(); document.documentElement.dataset.theme = ''")
    return browser


@pytest.fixture
def all_of_it(page: Any, made: Path) -> Any:
    """The page of the runs and of one with --folds, which has every section but attention."""
    if not (made / "folds.html").exists():
        page_of(made / "runs", run=(str(made),), out=str(made / "folds.html"))
    page.get((made / "folds.html").as_uri())
    return page


def colours(browser: Any, scheme: str, **media: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features, **media})


def find(page: Any, selector: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, selector)


def column(page: Any, name: str) -> list[str]:
    """The texts of a column of the runs that are shown, from top to bottom."""
    return page.execute_script(
        """const table = document.getElementById('runs-table');
        const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.dataset.name === arguments[0]);
        return [...table.tBodies[0].rows].filter((row) => !row.hidden)
            .map((row) => row.cells[place].textContent.trim());""",
        name,
    )


def background(page: Any) -> int:
    """How bright the page is, of 765."""
    found = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in found[found.index("(") + 1 : -1].split(",")[:3])


def test_it_opens_from_disk_without_an_error_and_without_a_request(page: Any) -> None:
    assert [line for line in page.get_log("browser") if line["level"] == "SEVERE"] == []
    resources = page.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in resources if not name.startswith("data:")] == []
    assert find(page, "#answer").is_displayed()


def test_a_click_on_a_title_sorts_and_another_one_turns_round(page: Any, made: Path) -> None:
    wanted = sorted(entry.facts["score"] for entry in entries(made / "runs"))
    button = find(page, "#runs-table th[data-name=score] button")
    button.click()
    assert column(page, "score") == [f"{score:.2f}" for score in wanted[::-1]]
    button.click()
    assert column(page, "score") == [f"{score:.2f}" for score in wanted]
    assert find(page, "#runs-table th[data-name=score]").get_attribute("aria-sort") == "ascending"
    find(page, "#runs-table th[data-name=run] button").send_keys(Keys.ENTER)
    names = column(page, "run")
    assert [name.split("-")[0] for name in names[::4]] == [f"lr{rate}" for rate in RATES]
    assert [name[-1] for name in names] == [*"0123"] * 5
    assert find(page, "#runs-table th[data-name=score]").get_attribute("aria-sort") is None


def test_filters_take_words_and_conditions(page: Any, made: Path) -> None:
    runs = {entry.folder: read_json(entry.folder / "summary.json") for entry in entries(made / "runs")}
    find(page, "#filter").send_keys("lr=0.1")
    assert len(column(page, "run")) == 4
    assert find(page, "#count").text == "4 of 20 runs"
    find(page, "#filter").send_keys(" seed3")
    assert column(page, "run") == ["lr0.1-wd0.0005-seed3"]
    find(page, "#filter").clear()
    middle = sorted(run["val_top1"] for run in runs.values())[10]
    find(page, "#filter").send_keys(f"score>{middle}")
    assert len(column(page, "run")) == sum(run["val_top1"] > middle for run in runs.values())
    find(page, "#filter").clear()
    find(page, "#filter").send_keys("nothing-is-called-so")
    assert column(page, "run") == []


def test_an_image_opens_large_and_keys_lead_on_and_back(page: Any) -> None:
    cards = page.find_elements(By.CSS_SELECTOR, ".gallery .card")
    opener = cards[0].find_element(By.CSS_SELECTOR, "button.open")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", opener)
    small = opener.find_element(By.TAG_NAME, "img").size["width"]
    opener.click()
    dialog = find(page, "#viewer")
    assert dialog.get_attribute("open") is not None
    assert dialog.find_element(By.CSS_SELECTOR, "img.picture").size["width"] > 1.5 * small
    assert dialog.find_elements(By.CSS_SELECTOR, ".neighbours img")
    first = dialog.find_element(By.CSS_SELECTOR, ".path").text
    assert first == cards[0].find_element(By.CSS_SELECTOR, ".path").text
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert (
        dialog.find_element(By.CSS_SELECTOR, ".path").text
        == cards[1].find_element(By.CSS_SELECTOR, ".path").text
    )
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert dialog.find_element(By.CSS_SELECTOR, ".path").text == first
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert dialog.get_attribute("open") is None
    WebDriverWait(page, 5).until(lambda _: page.switch_to.active_element == opener)


def test_all_can_be_reached_by_the_tab_key(page: Any) -> None:
    seen = []
    for _ in range(40):
        page.switch_to.active_element.send_keys(Keys.TAB)
        at = page.switch_to.active_element
        seen.append(at.get_attribute("id") or at.get_attribute("href") or at.text)
    assert seen[0].endswith("#answer")  # past the menu at once
    assert {"theme", "filter", "state", "validation %"} <= set(seen)


def test_dark_follows_the_system_and_the_switch(page: Any) -> None:
    assert background(page) > 650
    find(page, "#theme").click()
    assert background(page) < 150
    page.refresh()
    assert background(page) < 150  # it is remembered
    find(page, "#theme").click()
    assert background(page) > 650
    page.execute_script("localStorage.clear()")
    colours(page, "dark")
    page.refresh()
    assert background(page) < 150


def test_nothing_is_wider_than_a_narrow_screen(page: Any) -> None:
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_paper_tables_are_whole_and_light(page: Any) -> None:
    colours(page, "dark", media="print")
    assert background(page) > 650
    whole = "const box = document.querySelector('.scroll'); return box.scrollHeight <= box.clientHeight + 2"
    assert page.execute_script(whole)
    assert not find(page, ".controls").is_displayed()
    colours(page, "light", media="screen")


def test_names_out_of_a_run_folder_are_not_executed(page: Any, tmp_path: Path) -> None:
    page_of(nasty_run(tmp_path).parent)
    page.get((tmp_path / "report.html").as_uri())
    title = page.title
    page.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for cell in page.find_elements(By.CSS_SELECTOR, "#runs-table tbody th, .matrix thead th"):
        ActionChains(page).move_to_element(cell).perform()
    assert page.title == title
    assert title.startswith("Report: ")
    assert NASTY[0] in find(page, "#classes ~ .scroll").text
    assert [line for line in page.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_pair_of_copies_opens_side_by_side(all_of_it: Any) -> None:
    opener = find(all_of_it, "#duplicates ~ .gallery .card button.open")
    all_of_it.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", opener)
    opener.click()
    left, right = find(all_of_it, "#viewer").find_elements(By.CSS_SELECTOR, "img.picture")
    assert left.rect["width"] == pytest.approx(right.rect["width"], abs=1)
    assert "leak.png" in find(all_of_it, "#viewer .path").text
    assert find(all_of_it, "#suspects ~ .gallery .card img.picture").is_displayed()
    all_of_it.switch_to.active_element.send_keys(Keys.ESCAPE)


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: AXE_CORE=PATH/axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(all_of_it: Any, scheme: str) -> None:
    page = all_of_it
    colours(page, scheme)
    page.execute_script(AXE.read_text(encoding="utf-8"))
    found = page.execute_async_script("axe.run(document).then(arguments[arguments.length - 1])")
    assert len(found["passes"]) > 20
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious] == []
