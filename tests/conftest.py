"""What the tests share: a database of their own, browsers without a window, a clock, and the real server."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from hypothesis import settings
from webtest import TestApp

import app
import db as database
import sessions

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = 'correct horse battery'

os.environ['LIKES_DB'] = f'{os.devnull}/none'  # a test without a database of its own fails, and leaves the user's alone

for number in (signal.SIGINT, getattr(signal, 'SIGHUP', signal.SIGINT)):
    if signal.getsignal(number) == signal.SIG_IGN:  # under nohup, or behind a script; what a test starts inherits it
        signal.signal(number, lambda *_: None)

settings.register_profile('long', max_examples=10_000, deadline=None)  # --hypothesis-profile=long


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The path of this test's own database."""
    path = tmp_path / 'likes.db'
    monkeypatch.setenv('LIKES_DB', str(path))
    monkeypatch.setattr(app.plugin, 'local', threading.local())  # connections of earlier tests lead elsewhere
    return path


@pytest.fixture
def db(path):
    """A connection to this test's database."""
    with contextlib.closing(database.COMP249Db(path)) as db:
        yield db


@pytest.fixture
def user(db):
    """The name of a user whose password is PASSWORD."""
    database.add_user(db, 'anna', PASSWORD)
    return 'anna'


class Clock:
    """The time in seconds, standing still until a test moves it."""

    def __init__(self):
        self.time = 1_800_000_000.0

    def __call__(self):
        return self.time

    def forward(self, seconds):
        self.time += seconds


@pytest.fixture
def clock(monkeypatch):
    """The clock that the app reads."""
    clock = Clock()
    monkeypatch.setattr(sessions, 'clock', clock)
    return clock


class Browser(TestApp):
    """A browser without a window: keeps its cookie, and uses the forms of the pages."""

    def __init__(self):
        # A name with a dot: WebTest would keep a cookie that a test sets beside the site's own otherwise.
        super().__init__(app.app, extra_environ={'HTTP_HOST': 'likes.example'})

    def request(self, url_or_req, environ=None, **options):
        """Send any request; WebTest's own leaves extra_environ out."""
        return super().request(url_or_req, environ={**self.extra_environ, **(environ or {})}, **options)

    @property
    def key(self):
        """The session key in the cookie, None if there is no cookie."""
        return self.cookies.get(sessions.COOKIE_NAME)

    @key.setter
    def key(self, key):
        self.set_cookie(sessions.COOKIE_NAME, '')
        for cookie in self.cookiejar:
            cookie.value = key  # set_cookie would put quotes around it

    @property
    def likes(self):
        """What the home page lists."""
        return [str(item.string) for item in self.get('/').html.select('.likes li')]

    @property
    def username(self):
        """Who the home page says is logged in, or None."""
        form = self.get('/').html.find(id='logoutform')
        return form and str(form.strong.string)

    def submit(self, path, form, **fields):
        """Get a page, fill in one of its forms and send it; returns the answer."""
        form = self.get(path).forms[form]
        for name, value in fields.items():
            form[name] = value
        return form.submit(expect_errors=True)

    def like(self, thing):
        return self.submit('/', 'likeform', likes=thing)

    def forget(self):
        return self.submit('/', 'forgetform')

    def log_in(self, username='anna', password=PASSWORD):
        return self.submit('/login', 'loginform', username=username, password=password)

    def log_out(self):
        return self.submit('/', 'logoutform')


@pytest.fixture
def browser(path):
    return Browser()


@pytest.fixture
def other_browser(path):
    return Browser()


class Server:
    """The real server, as a process group of its own."""

    def __init__(self, path, *options):
        self.log = Path(f'{path}.log')
        with self.log.open('ab') as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / 'app.py', '--port', '0', '--db', path, *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        found = re.search(r'http://127\.0\.0\.1:(\d+)/', self.process.stdout.readline())
        if not found:
            self.stop()
            raise AssertionError(f'no server: {self.log.read_text()}')
        self.port = int(found[1])
        self.url = found[0]
        self._wait_until_it_answers()

    def _wait_until_it_answers(self):
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f'{self.url}static/style.css', timeout=5).close()
                return
            time.sleep(0.05)
        raise AssertionError(f'no answer: {self.log.read_text()}')

    def stop(self, signal=15):
        """Send the signal to the first process, as a service manager does; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal)
        try:
            return self.process.wait(20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.stdout.close()


@pytest.fixture
def serve(path):
    """A function that starts the real server on this test's database, with options; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(*options):
            server = Server(path, *options)
            stack.callback(server.stop)
            return server

        yield start
