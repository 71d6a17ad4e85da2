"""Whatever people do, and whatever bytes arrive: Hypothesis looks for the story that breaks a promise."""

import html
import io
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import app
import db as database
import sessions
from conftest import Browser, Clock, use_database

HOUR, DAY = 60 * 60, 24 * 60 * 60  # seconds
LIMIT = 6  # things on a list, in place of 1,000
PASSWORDS = {'anna': 'correct horse battery', 'ben': 'another password'}

browsers = st.integers(0, 2)
names = st.sampled_from(sorted(PASSWORDS))
texts = st.sampled_from([' tea\t', 'tea', 'milk', ' ', 'a  b', '\0', 'x' * 201]) | st.text('ab<é🍵', max_size=3)
waits = st.sampled_from([1, 1, HOUR, 5 * 60, 12 * HOUR - 1, 12 * HOUR, DAY - 1, DAY, 30 * DAY - 1, 30 * DAY])


class LikesMachine(RuleBasedStateMachine):
    """Three browsers and two users do as they please; a few dicts say what each should see."""

    @initialize()
    def start(self):
        self.patch, self.folder = pytest.MonkeyPatch(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.clock = Clock()
        self.patch.setattr(sessions, 'clock', self.clock)
        self.patch.setattr(database, 'MAX_LIKES', LIMIT)
        use_database(self.patch, Path(self.folder.name) / 'likes.db')
        self.db = database.COMP249Db()
        for name, password in PASSWORDS.items():
            database.add_user(self.db, name, password)
        self.browsers = [Browser() for _ in range(3)]
        self.sessions = {}  # key: [user or None, when it ends, likes]
        self.likes = {name: [] for name in PASSWORDS}
        self.failures = {name: [] for name in PASSWORDS}

    def teardown(self):
        if hasattr(self, 'db'):
            self.db.close()
            self.patch.undo()
            self.folder.cleanup()

    def session(self, browser):
        """The session of the key in the browser's cookie, None if there is none or its time is over."""
        session = self.sessions.get(browser.key)
        return session if session and session[1] > self.clock.time else None

    def begins(self, browser, user, lifetime):
        assert browser.key not in self.sessions
        likes = self.likes[user] if user else []
        self.sessions[browser.key] = [user, self.clock.time + lifetime, likes]

    @rule(browser=browsers, text=texts, times=st.integers(1, 2))
    def like(self, browser, text, times):
        browser, thing = self.browsers[browser], ' '.join(text.split())
        for _ in range(times):
            session = self.session(browser)
            answer = browser.post('/likes', {'likes': text}, expect_errors=True)
            if '\0' in thing or len(thing) > 200:
                assert answer.status_code == 400
                continue
            if not session:
                self.begins(browser, None, DAY)
                session = self.session(browser)
            user, _, likes = session
            full = thing not in likes and len(likes) >= LIMIT
            assert answer.status_code == (409 if thing and full else 303)
            if thing and thing not in likes and not full:
                if not user and not likes:
                    session[1] = self.clock.time + 30 * DAY
                likes.append(thing)

    @rule(browser=browsers)
    def visit(self, browser):
        session = self.session(self.browsers[browser])
        answer = self.browsers[browser].get('/')
        assert ('Set-Cookie' in answer.headers) == (not session)
        if not session:
            self.begins(self.browsers[browser], None, DAY)

    @rule(browser=browsers, forget=st.booleans())
    def leave(self, browser, forget):
        browser = self.browsers[browser]
        session, key = self.session(browser), browser.key
        assert browser.post('/forget' if forget else '/logout').status_code == 303
        if session:
            del self.sessions[key]
            if forget:
                session[2].clear()
            assert browser.key is None

    @rule(browser=browsers, name=names, right=st.booleans(), times=st.integers(1, 4))
    def log_in(self, browser, name, right, times):
        browser = self.browsers[browser]
        for _ in range(1 if right else times):
            session, key = self.session(browser), browser.key
            answer = browser.log_in(name, PASSWORDS[name] if right else 'guess')
            failures = [at for at in self.failures[name] if at > self.clock.time - 5 * 60]
            if len(failures) >= 5:
                assert answer.status_code == 429
                assert int(answer.headers['Retry-After']) == failures[0] + 5 * 60 - self.clock.time
            elif not right:
                assert answer.status_code == 200
                self.failures[name] = [*failures, self.clock.time]
            else:
                assert answer.status_code == 303
                self.failures[name] = []
                if session:
                    new = [thing for thing in session[2] if not session[0] and thing not in self.likes[name]]
                    self.likes[name] += new[: LIMIT - len(self.likes[name])]
                    del self.sessions[key]
                self.begins(browser, name, 12 * HOUR)

    @rule(name=names)
    def the_administrator_changes_a_password(self, name):
        database.set_password(self.db, name, PASSWORDS[name])
        self.failures[name] = []
        self.sessions = {key: session for key, session in self.sessions.items() if session[0] != name}

    @rule(browser=browsers, other=browsers, made_up=st.booleans())
    def take_a_key(self, browser, other, made_up):
        key = self.browsers[other].key
        if key and browser != other:
            self.browsers[browser].set_cookie('likes_session', key[:-1] + 'x' if made_up else key)

    @rule(seconds=waits)
    def wait(self, seconds):
        self.clock.forward(seconds)

    @invariant()
    def every_browser_sees_its_own(self):
        for browser in getattr(self, 'browsers', ()):
            session = self.session(browser)
            page = html.unescape(browser.get('/' if session else '/login').text)  # /login makes no session
            user, _, likes = session or (None, 0, [])
            assert sorted(re.findall('<li dir="auto">(.*)</li>', page)) == sorted(likes)
            assert re.findall('Logged in as <strong dir="auto">(.*)</strong>', page) == ([user] if user else [])


def test_everybody_always_sees_just_what_is_theirs():
    """ASVS 5.0, 7.2.1, 7.2.4, 7.3.2, 7.4.1, 8.2.2."""
    examples = settings().max_examples // 20  # 500 with --hypothesis-profile=long
    run_state_machine_as_test(LikesMachine, settings=settings(max_examples=examples, deadline=None))


KEY = '01234567-89ab-4cde-8f01-23456789abcd'  # of the one who sends the requests
SEEDS = [b'/likes', b'likes=tea&username=%FF', b'likes_session=' + KEY.encode(), b'multipart/form-data; boundary=x']
parts = st.lists(st.binary(max_size=4) | st.sampled_from(SEEDS), max_size=3)
texts_of_bytes = parts.map(lambda parts: b''.join(parts).decode('latin-1'))
values = texts_of_bytes.map(lambda text: re.sub('[\r\n\0]', '', text)) | st.sampled_from(
    ['9', '100000', '-1', 'chunked', 'cross-site', 'none', 'https', 'Sun, 06 Nov 1994 08:49:37 GMT', 'bytes=0-1']
)
NAMES = ['CONTENT_TYPE', 'CONTENT_LENGTH', 'QUERY_STRING', 'HTTP_COOKIE', 'HTTP_ORIGIN', 'HTTP_HOST', 'HTTP_RANGE']
NAMES += ['HTTP_TRANSFER_ENCODING', 'HTTP_SEC_FETCH_SITE', 'HTTP_X_FORWARDED_PROTO', 'HTTP_IF_MODIFIED_SINCE']
paths = st.sampled_from(['/', '/likes', '/forget', '/login', '/logout', '/static/style.css'])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(['GET', 'HEAD', 'POST', 'POST', 'POST', '!']),
    address=paths | texts_of_bytes.map('/{}'.format),
    headers=st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    body=texts_of_bytes,
)
def test_no_request_breaks_the_app_or_opens_the_session_of_another(path, db, method, address, headers, body):
    """ASVS 5.0, 2.2.1, 7.2.1, 8.2.2, 16.5.3."""
    database.create_table(db)
    for key, thing in ((KEY, 'tea'), ('of another', 'what nobody else may see')):
        database.add_session(db, key, None, sessions.clock(), HOUR)
        database.store_like(db, key, thing)
    body = body.encode('latin-1')
    environ = {'REQUEST_METHOD': method, 'PATH_INFO': address, 'SERVER_NAME': 'x', 'SERVER_PORT': '80'}
    environ |= {'CONTENT_LENGTH': str(len(body)), 'wsgi.url_scheme': 'http', **headers}
    environ |= {'wsgi.input': io.BytesIO(body), 'wsgi.errors': io.StringIO()}
    started = []
    page = b''.join(app.app(environ, lambda *start: started.append(start)))
    ((status, sent, *_),) = started
    assert 200 <= int(status[:3]) < 500
    assert b'nobody else' not in page
    assert all(re.fullmatch(r'[\x20-\x7e]*', f'{name}{value}') for name, value in sent)
    assert database.get_likes(db, 'of another') == ['what nobody else may see']
