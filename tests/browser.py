"""A real browser without a window, for tests of the pages that the commands serve or write."""

import base64
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# WebGL by the processor, where there is no graphics card
_FLAGS = "--headless=new --no-sandbox --enable-unsafe-swiftshader"
_PIXELS = """
const canvas = document.querySelector(arguments[0]), gl = canvas.getContext("webgl2");
const {drawingBufferWidth: width, drawingBufferHeight: height} = gl;
const bytes = new Uint8Array(4 * width * height);
gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
let text = "";
for (let i = 0; i < bytes.length; i += 8192) {
  text += String.fromCharCode(...bytes.subarray(i, i + 8192));
}
return [width, height, btoa(text)];
"""


@dataclass(frozen=True)
class Browser:
    """A page that is open, and the folder into which it downloads."""

    driver: Any
    downloads: Path

    def open(self, url: str) -> None:
        """Load a page, and forget what earlier ones said."""
        self.driver.get_log("browser")
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function with this body returns; a promise is waited for."""
        return self.driver.execute_script(script, *arguments)

    def until(self, expression: str, seconds: float = 10) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {expression}")):
            assert time.monotonic() < end, f"{expression} has not come true; {self.complaints()}"
            time.sleep(0.02)
        return value

    def find(self, selector: str) -> Any:
        """The first element that a CSS selector matches."""
        return self.driver.find_element("css selector", selector)

    def set(self, selector: str, value: float) -> None:
        """Move a slider as a person would: its value, then what it tells the page."""
        self.run(
            "const input = document.querySelector(arguments[0]); input.value = arguments[1];"
            "input.dispatchEvent(new Event('input', {bubbles: true}));",
            selector,
            value,
        )

    def drag(self, element: Any, right: int, down: int) -> None:
        """Press the mouse in the middle of an element, move it by so many pixels, let go."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).drag_and_drop_by_offset(element, right, down).perform()

    def pixels(self, selector: str) -> np.ndarray:
        """What a WebGL canvas shows after its next drawing, uint8 (height, width, 4)."""
        self.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")
        width, height, text = self.run(_PIXELS, selector)
        flat = np.frombuffer(base64.b64decode(text), np.uint8)
        return flat.reshape(height, width, 4)[::-1]

    def downloaded(self, name: str, seconds: float = 10) -> Path:
        """The file of that name, as soon as it is whole."""
        end = time.monotonic() + seconds
        while not (self.downloads / name).exists():
            assert time.monotonic() < end, [path.name for path in self.downloads.iterdir()]
            time.sleep(0.02)
        return self.downloads / name

    def complaints(self) -> list[str]:
        """Errors and warnings of the page since it was opened or last asked.

        That `pixels` makes the processor wait for what it draws is no fault of the page.
        """
        entries = self.driver.get_log("browser")
        said = [e["message"] for e in entries if e["level"] in ("SEVERE", "WARNING")]
        return [message for message in said if "stall due to ReadPixels" not in message]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, started once; skips the test where there is none, unless one is required."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver_program = shutil.which("chromedriver")
    if program is None or driver_program is None or find_spec("selenium") is None:
        missing = "Chromium, chromedriver and selenium are not all installed"
        (pytest.fail if os.environ.get("FACEDIS_BROWSER") == "required" else pytest.skip)(missing)
    from selenium import webdriver

    with tempfile.TemporaryDirectory() as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*_FLAGS.split(), "--window-size=1000,640"):
            options.add_argument(flag)
        options.add_experimental_option(
            "prefs",
            {
                "download.default_directory": folder,
                "profile.default_content_setting_values.automatic_downloads": 1,
            },
        )
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # a driver that is named is not looked for, and nothing is fetched
        service = webdriver.ChromeService(executable_path=driver_program)
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield Browser(driver, Path(folder))
        finally:
            driver.quit()
