"""The dashboard in Chromium, from a first sign-in to a client key at its limit; `.ci/full browser` runs it.

Pictures of every page, light and dark, on a desk and on a phone, are left below .work/browser.  Exit status: 0 if all
was as promised, 1 if not, 2 where there is no browser.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.clients.environments import REPOSITORY
from tests.house import MODEL, PASSWORD, House, ask

PICTURES = REPOSITORY / ".work" / "browser"
PAGES = ("overview", "accounts", "keys", "requests", "models", "playground", "clients")
LONG = ("requests", "models")
"""Of which the beginning is enough."""
WAIT = 15_000
_HEARD = """
window.cspReports = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.cspReports.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""
_NAMELESS = """() => {
  const controls = document.querySelectorAll("button, a[href], input, select, textarea, [role=meter]");
  return [...controls].filter((one) => {
    if (one.hidden || one.closest("[hidden]")) return false;
    const labels = [...(one.labels ?? [])].map((label) => label.textContent).join("");
    return !(one.getAttribute("aria-label") || one.textContent.trim() || labels);
  }).map((one) => one.outerHTML.slice(0, 120));
}"""


class Visit:
    """A browser's page, and what must not happen in it."""

    def __init__(self, browser: Any, house: House, **settings: Any) -> None:
        self.house = house
        self.context = browser.new_context(**settings)
        self.context.add_init_script(_HEARD)
        self.context.set_default_timeout(WAIT)
        self.page = self.context.new_page()
        self.offences: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.offences.append(f"uncaught: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.offences.append(f"console: {message.text}")

    def _asked(self, request: Any) -> None:
        place = urlsplit(request.url)
        ours = [f"127.0.0.1:{port}" for port in (self.house.admin_port, self.house.port)]
        if place.scheme not in ("data", "blob") and place.netloc not in ours:
            self.offences.append(f"a request to {request.url}")

    def go(self, name: str) -> None:
        """Show a page."""
        self.page.goto(f"{self.house.admin}/dashboard/#/{name}")
        self.page.locator("main h1").wait_for()

    def checked(self) -> None:
        """Take what the page itself heard into account."""
        self.offences += [f"CSP: {one}" for one in self.page.evaluate("window.cspReports")]
        self.offences += [f"without a name: {one}" for one in self.page.evaluate(_NAMELESS)]
        wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wide > 0:
            self.offences.append(f"{self.page.url} is {wide} px wider than the screen")

    def signed_in(self) -> None:
        """Sign in with the password."""
        self.page.goto(f"{self.house.admin}/dashboard/")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.locator("nav").wait_for()

    def expect(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is to be seen."""
        try:
            self.house.until(lambda: condition() or self.page.wait_for_timeout(50))
        except AssertionError:
            self.page.screenshot(path=str(PICTURES / "failed.png"), full_page=True)
            raise AssertionError(f"not to be seen: {what}") from None


def first_sign_in(visit: Visit) -> None:
    """An address that is printed signs in once; then one signs out, and in with the password."""
    page, house = visit.page, visit.house
    page.goto(f"{house.admin}/dashboard/")
    page.get_by_label("Password").wait_for()
    visit.checked()
    page.screenshot(path=str(PICTURES / "sign-in.png"))
    page.goto(house.command("dashboard"))
    page.locator("nav").wait_for()
    assert "code=" not in page.url, "the code stays in the address"
    page.get_by_role("button", name="Sign out").click()
    visit.signed_in()


def credential_is_added(visit: Visit) -> None:
    """A key is typed in, and its card appears."""
    visit.go("accounts")
    page = visit.page
    page.get_by_role("button", name="Add API key").click()
    page.get_by_label("Name").fill("third")
    page.locator("dialog input[name=api_key]").fill("good-3")
    page.screenshot(path=str(PICTURES / "add.png"))
    page.locator("dialog").get_by_role("button", name="Add").click()
    page.get_by_role("heading", name="studio/third").wait_for()
    page.get_by_role("button", name="Test studio/third").click()
    page.locator(".toast", has_text="studio/third").first.wait_for()
    visit.checked()


def account_is_signed_in(visit: Visit) -> None:
    """The owner's last page is pasted, and the account's card appears."""
    visit.go("accounts")
    page = visit.page
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.locator("dialog").get_by_role("button", name="Begin").click()
    link = page.get_by_role("link", name="Open Google's sign-in")
    link.wait_for()
    where = link.get_attribute("href")
    import urllib.error
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *arguments: Any) -> None:
            return None

    try:
        urllib.request.build_opener(Stay).open(f"{where}&login_hint=zoe")
        raise AssertionError("the simulator did not send the browser back")
    except urllib.error.HTTPError as error:
        back = error.headers["location"]
    page.get_by_label("Address of the last page").fill(back)
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("heading", name=re.compile("zoe")).wait_for()
    visit.checked()


def request_arrives_live(visit: Visit) -> None:
    """A client's request is there without anything being loaded anew, with the record of its routing."""
    visit.go("requests")
    page, house = visit.page, visit.house
    visit.expect(lambda: "ready" in page.locator(".status").inner_text(), "that the feed is open")
    status, credential = house.request("a request to be seen", session="seen")
    assert status == 200, status
    row = page.locator("tbody tr").first
    row.wait_for()
    assert credential in row.inner_text()
    row.get_by_role("button").click()
    page.locator("dialog .record li").first.wait_for()
    told = page.locator("dialog").inner_text()
    assert "Choice 1" in told, told
    assert "chosen" in told, told
    page.screenshot(path=str(PICTURES / "record.png"))
    visit.checked()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")


def disabled_credential_is_passed_over(visit: Visit) -> None:
    """Whoever served is taken out with one click, and others serve."""
    page, house = visit.page, visit.house
    _, before = house.request("first", session="s")
    visit.go("accounts")
    page.get_by_role("button", name=f"Disable {before}").click()
    page.get_by_role("button", name=f"Enable {before}").wait_for()
    served = {house.request("again", session="s")[1] for _ in range(4)}
    assert before not in served, served
    visit.go("requests")
    visit.expect(lambda: next(iter(served)) in page.locator("tbody tr").first.inner_text(), "who serves now")
    visit.go("accounts")
    page.get_by_role("button", name=f"Enable {before}").click()
    page.get_by_role("button", name=f"Disable {before}").wait_for()
    visit.checked()


def key_reaches_its_limit(visit: Visit) -> None:
    """A client key is made, shown once, used, and at its limit refused, all of which is to be seen."""
    visit.go("keys")
    page, house = visit.page, visit.house
    page.get_by_role("button", name="Make a key").click()
    page.get_by_label("Name").fill("team-a")
    page.get_by_label("Requests a minute").fill("3")
    page.locator("dialog").get_by_role("button", name="Make").click()
    shown = page.locator("#made-key")
    shown.wait_for()
    key = shown.inner_text()
    page.screenshot(path=str(PICTURES / "made.png"))
    page.get_by_role("button", name="Close").click()
    shown.wait_for(state="detached")
    assert key not in page.content(), "the key is still in the page"
    statuses = [house.request("with a key", key)[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429], statuses
    visit.expect(lambda: page.locator("article", has_text="team-a").locator(".meter").count() > 0, "the key's limit")
    visit.go("requests")
    visit.expect(lambda: "429" in page.locator("tbody tr").first.inner_text(), "the refused request")
    visit.checked()


def holder_sees_what_is_left(visit: Visit) -> None:
    """On the clients' own port: the key that is pasted is shown what is left of it, and nothing of it stays."""
    page, house = visit.page, visit.house
    limits = ("--concurrent", "5", "--budget-per-month", "7")
    made = json.loads(house.command("keys", "create", "a-holder", "--json", *limits))
    key = made["secret"]
    assert house.request("by a holder", key)[0] == 200
    page.goto(f"http://127.0.0.1:{house.port}/antigravity/usage")
    page.get_by_label("Client key").fill(key)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="a-holder").wait_for()
    told = page.locator("main").inner_text()
    for words in ("Requests at a time", "Budget a month", "$7.00", made["key"]["id"]):
        assert words in told, told
    for scheme in ("light", "dark"):
        for name, width in (("desk", 1280), ("phone", 360)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 860})
            visit.checked()
            page.screenshot(path=str(PICTURES / f"usage-{name}-{scheme}.png"), full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 860})
    assert key not in page.content() + page.url, "the key is in the page's text or address"
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.get_by_role("button", name="Forget the key").click()
    assert page.get_by_label("Client key").input_value() == ""
    assert page.locator("#result").is_hidden()


def prompt_is_streamed(visit: Visit) -> None:
    """The playground shows an answer, and who gave it."""
    visit.go("playground")
    page = visit.page
    page.get_by_label("Prompt", exact=True).fill("Tell me of Saturn's rings.")
    page.keyboard.press("Control+Enter")
    visit.expect(lambda: len(page.locator(".answer").inner_text()) > 20, "an answer")
    visit.expect(lambda: "tokens in" in page.locator("main").inner_text(), "what it took")
    visit.checked()


def keyboard_is_enough(visit: Visit) -> None:
    """The first stop leads past the navigation, and whatever has the focus shows it."""
    page = visit.page
    page.goto("about:blank")
    visit.go("accounts")
    page.get_by_role("button", name="Add API key").wait_for()
    page.evaluate("document.activeElement?.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none", page.evaluate("document.activeElement.outerHTML")
    page.get_by_role("button", name="Add API key").focus()
    page.keyboard.press("Enter")
    page.locator("dialog").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")


def pictures(browser: Any, house: House) -> list[str]:
    """Show every page on a desk and on a phone, light and dark; return what was wrong in them."""
    offences = []
    for name, settings in (
        ("desk", {"viewport": {"width": 1280, "height": 860}}),
        ("phone", {"viewport": {"width": 360, "height": 740}, "has_touch": True}),
    ):
        for scheme in ("light", "dark"):
            visit = Visit(browser, house, color_scheme=scheme, reduced_motion="reduce", **settings)
            visit.signed_in()
            for page in PAGES:
                visit.go(page)
                visit.page.wait_for_timeout(5000 if page == "overview" else 700)
                visit.page.screenshot(path=str(PICTURES / f"{page}-{name}-{scheme}.png"), full_page=page not in LONG)
                if page == "overview":
                    visit.page.get_by_text("24 hours", exact=True).click()
                    visit.page.wait_for_timeout(900)
                    visit.page.screenshot(path=str(PICTURES / f"day-{name}-{scheme}.png"), full_page=True)
                visit.checked()
            offences += [f"{name}, {scheme}: {one}" for one in visit.offences]
            visit.context.close()
    return offences


def traffic(house: House) -> None:
    """Something to be seen: two accounts, some models, and some that fail."""
    for number in range(24):
        house.request(f"Question {number}", model=("fast", MODEL, "gemini-2.5-pro")[number % 3], session=str(number))
    for reason, credential in (("PER_DAY", "good-2"), ("API_KEY_INVALID", "good-3"), ("PER_MINUTE", "good-1")):
        house.fault(match={"credential": credential}, do={"action": "status", "reason": reason}, times=1)
    ask("POST", f"{house.google}/_simulator/quota", {"credential": "ann", "requests": 5, "window": 60, "daily": 8})
    for number in range(12):
        house.request("More", model="gemini-2.5-pro", session=f"m{number}")
        house.request("More", model="gemini-3-pro-preview", session=f"n{number}")


def pulse(house: House, ended: threading.Event) -> None:
    """Send a request now and then, while pictures are taken."""
    number = 0
    while not ended.wait(0.3):
        number += 1
        house.request(f"Pulse {number}", model=("fast", "gemini-2.5-pro")[number % 2], session=str(number))


STEPS = (
    first_sign_in,
    credential_is_added,
    account_is_signed_in,
    request_arrives_live,
    disabled_credential_is_passed_over,
    key_reaches_its_limit,
    holder_sees_what_is_left,
    prompt_is_streamed,
    keyboard_is_enough,
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield the machine's Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        print("no chromium is installed")
        sys.exit(2)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def main() -> int:
    """Run it."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        house = House(Path(directory) / "house")
        try:
            house.begin()
            with chromium() as browser:
                visit = Visit(browser, house, viewport={"width": 1280, "height": 860})
                visit.context.grant_permissions(["clipboard-write"])
                for step in STEPS:
                    try:
                        step(visit)
                    except Exception as error:
                        visit.page.screenshot(path=str(PICTURES / f"failed-{step.__name__}.png"))
                        visit.offences.append(f"{type(error).__name__}: {error}")
                        # The next step begins anew.
                        visit.page.goto("about:blank")
                    failed += bool(visit.offences)
                    print(f"{'FAIL' if visit.offences else 'pass'} {step.__name__}", *visit.offences, sep="\n     ")
                    visit.offences.clear()
                visit.context.close()
                traffic(house)
                ended = threading.Event()
                beat = threading.Thread(target=pulse, args=(house, ended))
                beat.start()
                offences = pictures(browser, house)
                ended.set()
                beat.join()
                failed += bool(offences)
                print(f"{'FAIL' if offences else 'pass'} pictures", *offences, sep="\n     ")
        finally:
            house.end()
            for log in house.home.glob("*.log"):
                if b"Traceback" in log.read_bytes():
                    failed += 1
                    print(f"FAIL {log.name}:", log.read_text("utf-8", "replace")[-4000:])
    print("FAIL" if failed else "pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
