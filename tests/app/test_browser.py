"""The page in a real browser, Chromium: also that it asks no other host."""

import json
import re
import shutil
import urllib.request

import pytest
from PIL import Image

from metaprompts.synthetic import generate_scene

pytest.importorskip("gradio", reason="the app's tests need gradio: pip install 'metaprompts[app]'")
pytest.importorskip("selenium", reason="these tests need selenium")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,1000""".split()
PATIENCE_S = 120

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def tabs_closed(browser):
    """Each page keeps a connection open, and a browser opens at most six per host: the sixth page loaded nothing."""
    yield
    first, *others = browser.window_handles
    for handle in others:
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(first)
    browser.get("about:blank")


class Page:
    """One tab of the browser on the app."""

    def __init__(self, browser, address):
        self.browser = browser
        if browser.current_url.startswith("http"):
            browser.switch_to.new_window("tab")
        self.handle = browser.current_window_handle
        browser.get(address)
        self.wait("#photo-0 input[type=file]", shown=False)

    def find(self, selector, shown=True):
        self.browser.switch_to.window(self.handle)
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return [each for each in found if not shown or each.is_displayed()]

    def wait(self, selector, shown=True):
        """The first element, as soon as there is one."""
        return WebDriverWait(self.browser, PATIENCE_S).until(lambda _: self.find(selector, shown), selector)[0]

    def wait_for_text(self, selector, pattern):
        # By JavaScript: an element may be replaced between finding and reading it.
        code = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText).join(' ')"

        def text(_):
            self.browser.switch_to.window(self.handle)
            return re.search(pattern, self.browser.execute_script(code, selector))

        return WebDriverWait(self.browser, PATIENCE_S).until(text, f"{selector}: {pattern}")

    def tabs(self):
        """The names of the tabs that are shown."""
        return [each.text.strip() for each in self.find("button[role=tab]")]

    def open_tab(self, name):
        next(each for each in self.find("button[role=tab]") if each.text.strip() == name).click()

    def upload(self, path, index=0):
        self.wait(f"#photo-{index} input[type=file]", shown=False).send_keys(str(path))

    def drag(self, element, x):
        ActionChains(self.browser).click_and_hold(element).move_by_offset(x, 0).release().perform()

    def click(self, element, x, y):
        ActionChains(self.browser).move_to_element_with_offset(element, x, y).click().perform()

    def sources(self, selector):
        code = "return [...document.querySelectorAll(arguments[0])].map(each => each.href || each.src)"
        return self.browser.execute_script(code, selector)


def asked_hosts(browser):
    """The hosts of all requests since the last call, and of those that the policy blocked."""
    hosts = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            hosts |= set(re.findall(r"^(?:https?|wss?)://[^/]+", message["params"]["request"]["url"]))
    return hosts


def test_upload_slide_measure_and_download(browser, address, photo, predicted):
    page = Page(browser, address)
    page.upload(photo)
    page.wait_for_text("#bar-0", r"\d\.\d\d m")
    handle = page.wait("#slider-0 .handle, #slider-0 .outer, #slider-0 [role=slider]")
    before = handle.location["x"]
    page.drag(handle, -100)
    assert handle.location["x"] < before - 50

    page.open_tab("Measure")
    for x in (-60, 60):
        page.click(page.wait("#measure-0 img"), x, 30)
        page.wait_for_text("#measured-0", r"Depth \d|Distance \d" if x < 0 else r"Distance \d+\.\d\d m; depths")

    page.open_tab("Meta prompts")
    page.wait("#heatmap-0 img")
    page.open_tab("Files")
    page.wait("#files-0 a[href*=image_depth]")
    files = {link.rpartition("/")[2]: urllib.request.urlopen(link).read() for link in page.sources("#files-0 a")}
    assert files == predicted["depth"]
    assert asked_hosts(browser) == {address}


@pytest.mark.slow
def test_classes_and_people_in_their_tabs(browser, address, photo):
    page = Page(browser, address)
    page.open_tab("Segmentation")
    page.upload(photo, index=2)
    page.wait_for_text("#classes-2", r"person \d+%")
    page.open_tab("Pose")
    page.upload(photo, index=1)
    page.wait_for_text("#scores-1", r"1\s+0\.\d\d\s+\d+ of 17")
    assert asked_hosts(browser) == {address}


@pytest.mark.slow
def test_only_a_model_of_several_steps_shows_them(browser, address, photo):
    page = Page(browser, address)
    assert page.tabs().count("Steps") == 0
    page.open_tab("Normals")
    page.upload(photo, index=3)
    # The arriving prediction opens its own tab.
    page.wait("#slider-3 .handle, #slider-3 .outer, #slider-3 [role=slider]")
    page.open_tab("Steps")
    page.wait("#steps-3 img")


def test_bad_uploads_are_one_line_on_the_page(browser, address, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    page = Page(browser, address)
    page.upload(tmp_path / "text.png")
    said = page.wait_for_text(".toast-body", "The uploaded file is not an image: give .*")[0]
    assert "Traceback" not in said
    assert str(tmp_path) not in said
    # The page still works.
    browser.execute_script("document.querySelector('.gallery-item').click()")
    page.wait_for_text("#bar-0", r"\d\.\d\d m")


@pytest.mark.slow
def test_two_pages_at_once(browser, address, tmp_path):
    """Each page gets its own prediction."""
    bars, pages = [], []
    for seed in (36, 16):
        Image.fromarray(generate_scene(seed, 96, 144).image).save(tmp_path / f"{seed}.png")
        pages.append(Page(browser, address))
        pages[-1].upload(tmp_path / f"{seed}.png")
    for page in pages:
        bars.append(page.wait_for_text("#bar-0", r"\d.*m")[0])
    assert bars[0] != bars[1]
    assert asked_hosts(browser) == {address}
