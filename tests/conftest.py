"""What the tests share: functions, classes, and fixtures.

A test names the fixtures that it needs as its parameters: `browser` and `other_browser`
(browsers without a window), `user`, `clock`, `db`, `path`, and `serve` (the real
server). Each test has a database of its own, which they use together.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from hypothesis import Phase, settings
from webtest import TestApp
from webtest.forms import Hidden, Submit

import app
import sessions
from db import COMP249Db

ROOT = Path(__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(os.name == 'nt', reason='Windows has no such files')
PASSWORD = 'correct horse battery'
PASSWORD_HASH = (
    '$argon2id$v=19$m=19456,t=2,p=1$hmiGefXTrh5kayyfttOfng$'
    'iXGATDnwfBFaZ2qf8YZT8HDltbuJ63lel0ex58yCL+Y'
)

# A test that asks for none of the fixtures must not use the database beside the app:
# this one cannot be opened.
os.environ['LIKES_DB'] = str(ROOT / 'app.py' / 'likes.db')
os.environ['no_proxy'] = '*'  # for what the real server is asked
# These would change what programs print.
for name in ('PYTHONWARNINGS', 'PYTHONDEVMODE', 'FORCE_COLOR'):
    os.environ.pop(name, None)
# A script, or nohup, may have these ignored, and servers inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, 'SIGHUP'):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# A failure is told at once; to look for the shortest story may take minutes.
settings.register_profile('long', max_examples=10_000, deadline=None)
settings.register_profile('quick', phases=[Phase.reuse, Phase.generate])
settings.load_profile('quick')


def until(condition, seconds=60):
    """Wait until the condition holds, and return what it returns."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)
    return found


def use_database(patch, path):
    """Let the app use the database at `path`.

    The connections to that of another test are in the old plugin.
    """
    patch.setenv('LIKES_DB', str(path))
    app.app.uninstall(app.DatabasePlugin)
    app.app.install(app.DatabasePlugin())


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The path of this test's own database, which the app uses from now on."""
    use_database(monkeypatch, tmp_path / 'likes.db')
    return tmp_path / 'likes.db'


@pytest.fixture
def db(path):
    """A connection to this test's database."""
    with contextlib.closing(COMP249Db(path)) as db:
        yield db


@contextlib.contextmanager
def another_writer(path):
    """Another program, in the middle of changing the database."""
    other = sqlite3.connect(path, isolation_level=None, timeout=60)
    with contextlib.closing(other):
        other.execute('BEGIN IMMEDIATE')
        yield


def rows(db, table):
    """Return how many rows the table has."""
    return db.execute(f'SELECT count(*) FROM {table}').fetchone()[0]


@pytest.fixture
def user(db):
    """A user's name, 'anna'. The password is PASSWORD."""
    with db:
        db.execute('INSERT INTO users VALUES (?, ?)', ('anna', PASSWORD_HASH))
    return 'anna'


class Clock:
    """The time in seconds, standing still until a test moves it."""

    time = 1_800_000_000.0

    def __call__(self):
        return self.time

    def forward(self, seconds):
        self.time += seconds


@pytest.fixture
def clock(monkeypatch):
    """The clock that the app reads."""
    monkeypatch.setattr(sessions, 'clock', Clock())
    return sessions.clock


def parse(text):
    """Return a page as WebTest's `html` is, to search it."""
    return BeautifulSoup(text, 'html.parser')


def likes_of(html):
    """Return what a page lists, without what stands beside: buttons, say."""
    items = html.select('.likes li')
    for item in items:
        for other in item.find_all(['form', 'button', 'details', 'a']):
            other.decompose()
    return [item.get_text().strip() for item in items]


def can_send(form, name, value):
    """Return whether somebody at a form can send this value in this field.

    A hidden field and a button must have it already; all others can be typed into.
    """
    for field in form.fields.get(name, []):
        if isinstance(field, Submit):
            held = field.value_if_submitted()
        elif isinstance(field, Hidden):
            held = field.value
        else:
            held = value
        if held == value:
            return True
    return False


class Browser(TestApp):
    """A browser without a window: keeps its cookie, and uses the forms of the pages."""

    def __init__(self, **environ):
        # A name with a dot: else WebTest keeps a cookie that a test sets beside ours.
        environ = {'HTTP_HOST': 'likes.example', **environ}
        super().__init__(app.app, extra_environ=environ, lint=False)

    def request(self, url_or_req, environ=None, **options):
        """Send any request; WebTest's own leaves extra_environ out."""
        environ = {**self.extra_environ, **(environ or {})}
        return super().request(url_or_req, environ=environ, **options)

    @property
    def key(self):
        """The session key in the cookie, or None. A cleared cookie is two quotes."""
        value = self.cookies.get(sessions.COOKIE_NAME, '')
        return value.strip('"') or None

    @property
    def likes(self):
        """What the home page lists."""
        return likes_of(self.get('/').html)

    @property
    def username(self):
        """Who the home page says is logged in, or None."""
        form = self.get('/').html.find(id='logoutform')
        return form and str(form.strong.string)

    def _check_status(self, status, res):
        """Show what went wrong, where a handler has raised an error by mistake."""
        if res.status_code == 500 != status:
            pytest.fail(res.errors)
        super()._check_status(status, res)

    def submit(self, path, target, **fields):
        """Get a page, fill in one of its forms and send it; returns the answer.

        `target` is the form's id, or the address that it is sent to. Of several with
        one address, it is the one that can send these fields.
        """
        forms = self.get(path).forms.values()
        forms = [form for form in forms if target in (form.id, form.action)]
        assert forms, f'{path} has no form to {target}'
        for name, value in fields.items():
            forms = [form for form in forms if can_send(form, name, value)]
            assert forms, f'{path} has no form to {target} whose {name} is {value!r}'
        form = forms[0]
        button = {}
        for name, value in fields.items():
            if isinstance(form.fields[name][0], Submit):
                button = {'name': name, 'value': value}
            else:
                form[name] = value
        return form.submit(**button, status='*')

    def like(self, thing):
        return self.submit('/', 'likeform', likes=thing)

    def forget(self):
        return self.submit('/', 'forgetform')

    def log_in(self, username='anna', password=PASSWORD):
        """Send a login, from any page."""
        fields = {'username': username, 'password': password}
        return self.post('/login', fields, status='*')

    def log_out(self):
        return self.submit('/', 'logoutform')


@pytest.fixture
def browser(path):
    return Browser()


@pytest.fixture
def other_browser(path):
    return Browser()


def free_port():
    """Return a port that nobody uses, nor any client is given by the system.

    With port 0 a client might be given it before the server's workers have it.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(('127.0.0.1', port)):
            return port


class Server:
    """The real server, as a process group of its own.

    `under` is the command of another program that starts it; `folder` has the code.
    """

    def __init__(self, path, *options, under=(), folder=ROOT):
        self.log = Path(f'{path}.log')
        with self.log.open('wb') as log:
            self.process = subprocess.Popen(
                [
                    *under,
                    sys.executable,
                    folder / 'app.py',
                    f'--port={free_port()}',
                    f'--db={path}',
                    *options,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self):
        """What it has printed."""
        return self.log.read_text(encoding='utf-8')

    def wait_to_say(self, words, times=1, seconds=60):
        """Wait until it has printed something so many times."""
        until(lambda: self.said.count(words) >= times, seconds)

    def wait_until_it_is_gone(self):
        """Wait until nobody answers."""
        until(lambda: not self.answers())

    def wait_until_it_answers(self):
        """Find out where it listens."""
        until(lambda: 'http://' in self.said or self.process.poll() is not None)
        address = re.search(r'http://(.*):(\d+)/', self.said)
        assert address, self.said
        self.host = address[1]
        self.port = int(address[2])
        self.url = address[0]
        until(self.answers)

    def listens(self):
        """Whether it can be connected to."""
        with contextlib.suppress(OSError):
            socket.create_connection((self.host, self.port), timeout=20).close()
            return True
        return False

    def answers(self):
        """Whether it sends a page.

        Granian may start a thread too few: a request then waits for the next one, so
        it is asked again.
        """
        try:
            urllib.request.urlopen(f'{self.url}login', timeout=20).close()
        except OSError:
            return False
        return True

    def kill(self):
        """End whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture
def code(path):
    """A folder with a copy of the code, for a test that edits it."""
    folder = path.with_name('copy')
    shutil.copytree(ROOT / 'views', folder / 'views')
    shutil.copytree(ROOT / 'static', folder / 'static')
    for file in ROOT.glob('*.py'):
        shutil.copy(file, folder)
    return folder


def replace(file, old, new):
    """Edit a file."""
    text = file.read_text(encoding='utf-8')
    assert old in text
    file.write_text(text.replace(old, new), encoding='utf-8')


@pytest.fixture
def impatient(code):
    """A copy of the app in which nothing waits for more than a second or two."""
    replace(code / 'db.py', 'MAX_WAIT = 5', 'MAX_WAIT = 1')
    return code


@pytest.fixture
def serve(path):
    """A function that starts the real server on this test's database, with options.

    It ends with the test.
    """
    with contextlib.ExitStack() as stack:

        def start(*options, **more):
            server = Server(path, *options, **more)
            stack.callback(server.kill)
            server.wait_until_it_answers()
            return server

        yield start
