"""What the browser tests share: the browsers, and somebody who uses them.

They need what requirements.txt beside this file lists; Chromium, Chrome or Edge, found
on the PATH or in $CHROME; and Firefox, found on the PATH or in $FIREFOX. What is
missing is skipped; with BROWSER_TESTS=required in the environment it fails.
"""

import contextlib
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from conftest import PASSWORD, likes_of, parse

CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome', 'chrome', 'msedge']
FIREFOX = ['firefox-esr', 'firefox']
PACKAGES = ['playwright', 'axe_playwright_python', 'html5lib']


def pytest_collection_modifyitems(items):
    """Put the browser tests last: the quick ones should speak first."""
    items.sort(key=is_browser_test)


def is_browser_test(item):
    return Path(__file__).parent in item.path.parents


def find_program(variable, names):
    """Return the path of a browser, or skip the tests that need it."""
    chosen = os.environ.get(variable, '')
    programs = [shutil.which(name) for name in [chosen, *names]]
    found = list(filter(None, programs))
    if not found:
        miss(f'these tests need {names[0]}')
    return found[0]


def miss(what):
    """Skip the test, or fail it where none may be skipped."""
    if os.environ.get('BROWSER_TESTS') == 'required':
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope='session')
def playwright():
    """What drives the browsers."""
    if not all(map(importlib.util.find_spec, PACKAGES)):
        miss('these tests need what is in tests/browser/requirements.txt')
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope='session')
def expect(playwright):
    """Playwright's assertions, which wait until they hold."""
    from playwright.sync_api import expect

    return expect


@pytest.fixture(scope='session')
def chromium(playwright):
    """Chromium, one for all tests."""
    program = find_program('CHROME', CHROMIUM)
    return playwright.chromium.launch(
        executable_path=program,
        # Playwright's own option; people's browsers have that cache.
        ignore_default_args=['--disable-back-forward-cache'],
        args=['--disable-gpu'],
    )


@pytest.fixture(scope='session')
def firefox(playwright):
    """Firefox as people have it (not Playwright's own), one for all tests."""
    program = find_program('FIREFOX', FIREFOX)
    return playwright.firefox.launch(channel='moz-firefox', executable_path=program)


@pytest.fixture(scope='session', params=['chromium', 'firefox'])
def engine(request):
    """Each of the two browsers."""
    return request.getfixturevalue(request.param)


only_in_chromium = pytest.mark.parametrize('engine', ['chromium'], indirect=True)


class Visitor:
    """Somebody who uses the site, in a browser with cookies of its own."""

    def __init__(self, context, serve, url):
        context.set_default_timeout(30_000)  # milliseconds
        self.page = context.new_page()
        self.serve = serve
        self.url = url
        self.response = None  # to what was last opened or sent

    def use_debug(self):
        """Go on at a server that was started with --debug, on the same database."""
        self.url = self.serve('--debug').url

    def open(self, path=''):
        self.response = self.page.goto(self.url + path)

    def leave(self, action, *args):
        """Do what leads to another page, and wait for that."""
        with self.page.expect_navigation() as navigation:
            action(*args)
        self.response = navigation.value

    def click(self, name, role='button'):
        self.leave(self.page.get_by_role(role, name=name, exact=True).click)

    def passwords_behind_back(self):
        """Press Back; return what stands in the password fields of the page there."""
        try:
            self.page.go_back()
        except Exception as error:  # Playwright's
            if 'CACHE' not in str(error):
                raise
            return []  # the browser no longer has that page
        fields = self.page.locator('[type=password]')
        return fields.evaluate_all('all => all.map(one => one.value)')

    def press(self, *keys):
        self.page.bring_to_front()
        self.page.locator(':focus').wait_for()  # autofocus comes a moment after
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, words):
        """Press Tab until what has these words has the focus."""
        for _ in range(20):
            self.press('Tab')
            if words in self.page.locator(':focus').text_content():
                return
        pytest.fail(f'Tab does not lead to {words!r}')

    def enter(self, *texts):
        """Type into the field that has the focus, and into those after it."""
        for text in texts:
            self.press()
            self.page.keyboard.insert_text(text)
            self.press('Tab')
        self.leave(self.press, 'Shift+Tab', 'Enter')

    def like(self, *things):
        self.open()
        for thing in things:
            self.enter(thing)

    def forget(self):
        self.page.get_by_text('Forget Me', exact=True).click()
        self.click('Yes, forget me')

    def log_in(self, username, password=PASSWORD):
        self.open('login')
        self.enter(username, password)

    def log_out(self):
        self.open()
        self.click('Log out')

    @property
    def likes(self):
        """What the page in front of the visitor lists."""
        return likes_of(parse(self.page.content()))

    @property
    def username(self):
        """Who this page says is logged in, or None."""
        names = self.page.locator('#logoutform strong').all_text_contents()
        return names[0] if names else None

    def new_tab(self):
        return Visitor(self.page.context, self.serve, self.url)


@pytest.fixture
def visit(engine, serve):
    """A function that returns a new visitor."""
    server = serve('--workers', '1')
    with contextlib.ExitStack() as stack:

        def start():
            context = stack.enter_context(engine.new_context())
            return Visitor(context, serve, server.url)

        yield start


@pytest.fixture
def visitor(visit):
    return visit()
