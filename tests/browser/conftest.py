"""What the browser tests share: the browser, somebody who uses it, and another site.

They need what requirements.txt beside this file lists, and a Chromium, Chrome or Edge. Where one is missing they are
skipped; with BROWSER_TESTS=required in the environment they fail.
"""

import contextlib
import importlib.util
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import PASSWORD

BROWSERS = [
    'chromium',
    'chromium-browser',
    'google-chrome',
    'chrome',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
    r'C:\Program Files\Google\Chrome\Application\chrome.exe',
    r'C:\Program Files (x86)\Google\Chrome\Application\chrome.exe',
    r'C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe',
]
QUIET = [
    '--disable-gpu',
    '--disable-quic',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
]


def find_browser():
    """Return the path of the browser: $CHROME if that is set, else the first that is on this machine, else None."""
    names = [os.environ['CHROME']] if os.environ.get('CHROME') else BROWSERS
    return next(filter(None, map(shutil.which, names)), None)


def find_missing():
    """Return what is missing on this machine, in words; empty if nothing is."""
    missing = [
        module
        for module in ('pytest_playwright', 'axe_playwright_python', 'html5lib')
        if not importlib.util.find_spec(module)
    ]
    if not find_browser():
        missing.append('Chromium, Chrome or Edge (on the PATH or in $CHROME)')
    return ', '.join(missing)


MISSING = find_missing()


@pytest.hookimpl(tryfirst=True)  # before fixtures are looked for that may not be there
def pytest_runtest_setup(item):
    if MISSING:
        stop = pytest.fail if os.environ.get('BROWSER_TESTS') == 'required' else pytest.skip
        stop(f'the browser tests need {MISSING}; see tests/browser/requirements.txt')


def pytest_collection_modifyitems(items):
    """Put the browser tests last: the quick ones should speak first."""
    items.sort(key=lambda item: Path(__file__).parent in item.path.parents)


# Fixtures of pytest-playwright, set to our needs


@pytest.fixture(scope='session')
def base_url():
    """None: each test has a server of its own. (Pytest 9 warns of how the plugin defines this fixture.)"""


@pytest.fixture(scope='session')
def browser_type_launch_args(browser_type_launch_args):
    return {
        **browser_type_launch_args,
        'executable_path': find_browser(),
        'args': QUIET,
        'ignore_default_args': ['--disable-back-forward-cache'],  # people's browsers have it
    }


@pytest.fixture(scope='session')
def browser(launch_browser):
    """The real browser: tests/conftest.py has the name for one without a window."""
    with contextlib.closing(launch_browser()) as browser:
        yield browser


class Visitor:
    """Somebody who uses the site, in a browser with cookies of its own."""

    def __init__(self, page, url):
        self.page = page
        self.url = url
        self.response = None  # to what was last opened or sent

    def open(self, path='/'):
        self.response = self.page.goto(self.url + path.removeprefix('/'))

    @contextlib.contextmanager
    def leaving(self):
        """What is done in the block leads to another page; wait for it."""
        with self.page.expect_navigation() as navigation:
            yield
        self.response = navigation.value

    def press_enter(self):
        with self.leaving():
            self.page.keyboard.press('Enter')

    def type(self, text):
        """Type where the focus is, as nobody does who has to look for the field first."""
        self.page.locator('input:focus').wait_for()  # autofocus comes a moment after the page
        self.page.keyboard.type(text)

    def click(self, button):
        with self.leaving():
            self.page.get_by_role('button', name=button, exact=True).click()

    def like(self, *things):
        self.open()
        for thing in things:
            self.page.get_by_label('What do you like?').fill(thing)
            self.press_enter()

    def log_in(self, username='anna', password=PASSWORD):
        self.open('/login')
        self.page.get_by_label('Username').fill(username)
        self.page.get_by_label('Password').fill(password)
        self.press_enter()

    @property
    def likes(self):
        """What the page in front of the visitor lists."""
        return self.page.locator('.likes li').all_text_contents()

    @property
    def username(self):
        """Who this page says is logged in, or None."""
        names = self.page.locator('#logoutform strong').all_text_contents()
        return names[0] if names else None

    @property
    def focus(self):
        """The id of the field that has the focus."""
        return self.page.locator(':focus').get_attribute('id')

    @property
    def cookie(self):
        """The session cookie as the browser keeps it."""
        (cookie,) = [cookie for cookie in self.page.context.cookies() if cookie['name'] == 'likes_session']
        return cookie


@pytest.fixture
def visit(serve, new_context):
    """A function that returns a new visitor. Without scripts, unless told otherwise: the site has none."""
    url = serve('--workers', '1').url

    def visit(**options):
        context = new_context(**{'java_script_enabled': False, **options})
        context.set_default_timeout(10_000)  # milliseconds
        return Visitor(context.new_page(), url)

    return visit


@pytest.fixture
def visitor(visit):
    return visit()


@pytest.fixture
def other_site():
    """A function that puts HTML on another site, and returns the port where it is found."""
    pages = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Type', 'text/html')
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the browser may have moved on
                self.wfile.write(pages.get(self.path, '').encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def publish(html):
            pages['/'] = html
            return server.server_port

        yield publish
        server.shutdown()
        thread.join()
