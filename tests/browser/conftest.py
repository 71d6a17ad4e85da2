"""What the browser tests share: the browser, and somebody who uses it.

They need what requirements.txt beside this file lists, and a Chromium, Chrome or Edge, found on the PATH or in $CHROME.
Where one is missing they are skipped; with BROWSER_TESTS=required in the environment they fail.
"""

import contextlib
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from conftest import PASSWORD


def pytest_collection_modifyitems(items):
    """Put the browser tests last: the quick ones should speak first."""
    items.sort(key=lambda item: Path(__file__).parent in item.path.parents)


@pytest.fixture(scope='session')
def chromium():
    """The browser, one for all tests."""
    names = os.environ.get('CHROME', ''), 'chromium', 'chromium-browser', 'google-chrome', 'chrome', 'msedge'
    program = next(filter(None, map(shutil.which, names)), None)
    if not (program and all(map(importlib.util.find_spec, ['playwright', 'axe_playwright_python', 'html5lib']))):
        stop = pytest.fail if os.environ.get('BROWSER_TESTS') == 'required' else pytest.skip
        stop('the browser tests need Chromium, and what is in tests/browser/requirements.txt')

    from playwright.sync_api import sync_playwright

    wrong = ['--disable-back-forward-cache']  # Playwright's own option; people's browsers have that cache
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, ignore_default_args=wrong, args=['--disable-gpu'])


class Visitor:
    """Somebody who uses the site, in a browser with cookies of its own."""

    def __init__(self, context, url):
        context.set_default_timeout(30_000)  # milliseconds
        self.page = context.new_page()
        self.url = url
        self.response = None  # to what was last opened or sent

    def open(self, path=''):
        self.response = self.page.goto(self.url + path)

    def leave(self, action, *args):
        """Do what leads to another page, and wait for that."""
        with self.page.expect_navigation() as navigation:
            action(*args)
        self.response = navigation.value

    def click(self, name, role='button'):
        self.leave(self.page.get_by_role(role, name=name, exact=True).click)

    def press(self, *keys):
        self.page.locator(':focus').wait_for()  # autofocus comes a moment after the page
        for key in keys:
            self.page.keyboard.press(key)

    def enter(self, *texts):
        """Type into the field that has the focus, as nobody does who has to look for it first, and those after it."""
        for number, text in enumerate(texts):
            keys = ['Tab'] if number else []
            self.press(*keys)
            self.page.keyboard.insert_text(text)
        self.leave(self.press, 'Enter')

    def like(self, *things):
        self.open()
        for thing in things:
            self.enter(thing)

    def log_in(self, username, password=PASSWORD):
        self.open('login')
        self.enter(username, password)

    @property
    def likes(self):
        """What the page in front of the visitor lists."""
        return self.page.locator('.likes li').all_text_contents()

    @property
    def username(self):
        """Who this page says is logged in, or None."""
        return next(iter(self.page.locator('#logoutform strong').all_text_contents()), None)


@pytest.fixture
def visit(chromium, serve):
    """A function that returns a new visitor."""
    url = serve('--workers', '1').url
    with contextlib.ExitStack() as stack:
        yield lambda: Visitor(stack.enter_context(chromium.new_context()), url)


@pytest.fixture
def visitor(visit):
    return visit()
