"""Whatever people do, and whatever bytes arrive: Hypothesis looks for the story that
breaks a promise.
"""

import io
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

import app
import db as database
import sessions
from conftest import PASSWORD, PASSWORD_HASH, Browser, Clock, likes_of, use_database

HOUR = 60 * 60  # seconds
DAY = 24 * HOUR
USERS = ['anna', 'ben']

browsers = st.integers(0, 1)
things = st.sampled_from(['tea', 'milk', '<b>é🍵'])
waits = st.sampled_from([1, HOUR, DAY - 1, DAY, 30 * DAY - 1, 30 * DAY])


@dataclass
class Session:
    """What the model knows of a session. All of a user's have one list of likes."""

    user: str  # '' while it is anonymous
    ends: float
    likes: list = field(default_factory=list)


class LikesMachine(RuleBasedStateMachine):
    """Two browsers and two users do as they please.

    The model is a dict of sessions by their keys, and the users' lists: after each step
    the key in each browser's cookie must open just what the model says; an ended key,
    or none, opens an empty list.
    """

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.clock = Clock()
        self.patch.setattr(sessions, 'clock', self.clock)
        use_database(self.patch, Path(self.folder.name) / 'likes.db')
        self.db = database.COMP249Db()
        with self.db:
            for user in USERS:
                self.db.execute(
                    'INSERT INTO users VALUES (?, ?)', (user, PASSWORD_HASH)
                )
        self.browsers = [Browser() for _ in range(2)]
        self.sessions = {}
        self.lists = {user: [] for user in USERS}

    def teardown(self):
        self.db.close()
        self.patch.undo()
        self.folder.cleanup()

    def find(self, browser):
        """The session that the browser's key opens; None if there is none."""
        session = self.sessions.get(browser.key)
        is_over = session and session.ends <= self.clock.time
        return None if is_over else session

    @rule(number=browsers, thing=things)
    def like(self, number, thing):
        browser = self.browsers[number]
        browser.post('/likes', {'likes': thing})
        new = Session('', self.clock.time + DAY)
        session = self.sessions.setdefault(browser.key, new)
        assert session.ends > self.clock.time  # no key that is over is used again
        if not session.user:
            session.ends = self.clock.time + 30 * DAY
        if thing not in session.likes:
            session.likes.append(thing)

    @rule(number=browsers)
    def forget(self, number):
        browser = self.browsers[number]
        session = self.find(browser)
        if session:
            session.likes.clear()
            del self.sessions[browser.key]
        browser.post('/forget')

    @rule(number=browsers)
    def log_out(self, number):
        browser = self.browsers[number]
        session = self.find(browser)
        if session and session.user:
            del self.sessions[browser.key]
        browser.post('/logout')

    @rule(number=browsers, user=st.sampled_from(USERS))
    def log_in(self, number, user):
        browser = self.browsers[number]
        session = self.find(browser)
        key = browser.key
        browser.log_in(user, PASSWORD)
        assert browser.key not in self.sessions
        mine = self.lists[user]
        if session:
            del self.sessions[key]
            if not session.user:
                mine.extend(thing for thing in session.likes if thing not in mine)
        ends = self.clock.time + DAY
        self.sessions[browser.key] = Session(user, ends, mine)

    @rule(thief=browsers, victim=browsers)
    def take_a_key(self, thief, victim):
        for cookie in self.browsers[victim].cookiejar:
            self.browsers[thief].cookiejar.set_cookie(cookie)

    @rule(seconds=waits)
    def wait(self, seconds):
        self.clock.forward(seconds)

    @invariant()
    def every_browser_sees_its_own(self):
        for browser in self.browsers:
            session = self.find(browser) or Session('', 0)
            cookie = f'likes_session={browser.key}'
            page = Browser().get('/', headers={'Cookie': cookie})
            assert sorted(likes_of(page.html)) == sorted(session.likes)
            names = [tag.string for tag in page.html.select('#logoutform strong')]
            assert ''.join(names) == session.user


def test_everybody_always_sees_just_what_is_theirs():
    """ASVS 5.0, 7.2.1, 7.2.4, 7.3.2, 7.4.1, 8.2.2."""
    # 10 stories of up to 50 steps; 1,000 with --hypothesis-profile=long.
    examples = settings().max_examples // 10
    settings_ = settings(max_examples=examples, deadline=None)
    run_state_machine_as_test(LikesMachine, settings=settings_)


KEY = '01234567-89ab-4cde-8f01-23456789abcd'  # of the one who sends the requests
SEEDS = [b'/likes', b'likes=tea&username=%FF', b'likes_session=' + KEY.encode()]
VALUES = ['9', '100000', '-1', 'chunked', 'cross-site', 'none', 'https', 'bytes=0-1']
NAMES = [
    'CONTENT_TYPE',
    'CONTENT_LENGTH',
    'HTTP_COOKIE',
    'HTTP_HOST',
    'HTTP_ORIGIN',
    'HTTP_RANGE',
    'HTTP_SEC_FETCH_SITE',
    'HTTP_TRANSFER_ENCODING',
    'HTTP_X_FORWARDED_PROTO',
]
PATHS = ['/', '/likes', '/forget', '/login', '/logout', '/static/style.css']


def as_header(text):
    """Leave out what no server lets through."""
    return re.sub('[\r\n\0]', '', text)


parts = st.lists(st.binary(max_size=4) | st.sampled_from(SEEDS), max_size=3)
texts = parts.map(b''.join).map(lambda it: it.decode('latin-1'))
values = texts.map(as_header) | st.sampled_from(VALUES)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(['GET', 'HEAD', 'POST', 'POST', 'POST', '!']),
    address=st.sampled_from(PATHS) | texts.map('/{}'.format),
    headers=st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    body=texts,
)
def test_no_request_breaks_the_app_or_opens_the_session_of_another(
    path, db, method, address, headers, body
):
    """ASVS 5.0, 2.2.1, 7.2.1, 8.2.2, 16.5.3."""
    database.create_table(db)
    database.add_session(db, KEY, None, sessions.clock(), HOUR)
    database.add_session(db, 'of another', None, sessions.clock(), HOUR)
    database.store_like(db, 'of another', 'what nobody else may see')
    environ = {
        'REQUEST_METHOD': method,
        'PATH_INFO': address,
        'CONTENT_LENGTH': str(len(body)),
        'wsgi.input': io.BytesIO(body.encode('latin-1')),
        **headers,
    }
    setup_testing_defaults(environ)
    started = []
    page = b''.join(app.app(environ, lambda *start: started.append(start)))
    status, sent = started[0][:2]
    assert 200 <= int(status[:3]) < 500
    assert b'nobody else' not in page
    for name, value in sent:
        assert re.fullmatch(r'[\x20-\x7e]*', f'{name}{value}')
    assert database.get_likes(db, 'of another') == ['what nobody else may see']
