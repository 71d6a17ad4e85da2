"""What holds for any input and any order of events, tried with what Hypothesis thinks up.

`python -m pytest tests/test_properties.py --hypothesis-profile=long` tries a hundred times as much.
"""

import html
import io
import re
import tempfile
import threading
from collections import defaultdict
from itertools import count
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import app
import db as database
import sessions
from conftest import Browser, Clock

EXAMPLES = settings().max_examples  # of the profile in force
MAX_LIKES = 4  # so that lists get full
PASSWORDS = {'anna': 'correct horse battery', 'Бob': 'пароль ' * 3}
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def prepare(patch, folder):
    """Give the app a new database with two users, a clock that stands still, and a quick hash."""
    patch.setenv('LIKES_DB', str(Path(folder, 'likes.db')))
    patch.setattr(app.plugin, 'local', threading.local())
    patch.setattr(sessions, 'clock', Clock())
    patch.setattr(database, 'HASHER', QUICK_HASHER)
    patch.setattr(database, 'NOBODYS_HASH', QUICK_HASHER.hash("nobody's"))
    patch.setattr(database, 'MAX_LIKES', MAX_LIKES)
    db = app.plugin.connection()
    db.execute('PRAGMA synchronous = OFF')  # nobody pulls the plug here
    for username, password in PASSWORDS.items():
        database.add_user(db, username, password)
    return db


# Any order of events


class Session:
    """What a session should be."""

    def __init__(self, username, expires):
        self.username = username
        self.expires = expires
        self.likes = {}  # thing: when it was liked, as a running number


browsers = st.integers(0, 2)
usernames = st.sampled_from(sorted(PASSWORDS))
usual_texts = st.sampled_from(['tea', ' tea\t', 'milk', 'a  b'])  # again and again
odd_texts = st.sampled_from([' ', "'; --", '<b>&amp;', '\0', '\x7f', 'x' * 200, 'x' * 201])
texts = st.one_of(usual_texts, usual_texts, usual_texts, odd_texts, st.text(st.characters(exclude_categories=['Cs'])))
waits = st.sampled_from([1, 1, 1, sessions.THROTTLE_TIME - 1, sessions.THROTTLE_TIME, sessions.HOUR]) | st.sampled_from(
    [
        lifetime - seconds
        for lifetime in (sessions.LOGIN_LIFETIME, sessions.UNUSED_LIFETIME, sessions.ANONYMOUS_LIFETIME)
        for seconds in (0, 1)
    ]
)


class LikesMachine(RuleBasedStateMachine):
    """Three browsers and two users do as they please; a few dicts say what each should see."""

    keys = Bundle('keys')  # every session key that there has ever been

    @initialize()
    def start(self):
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.db = prepare(self.patch, self.folder.name)
        self.clock = sessions.clock
        self.browsers = [Browser() for _ in range(3)]
        self.sessions = {}  # key: Session
        self.likes = {username: {} for username in PASSWORDS}  # as Session.likes
        self.failed_logins = defaultdict(list)
        self.order = count()

    def teardown(self):
        if hasattr(self, 'db'):
            self.db.close()
            self.patch.undo()
            self.folder.cleanup()

    # What is so

    def current(self, browser):
        """The key that the browser's cookie holds if there is such a session now, else None."""
        session = self.sessions.get(browser.key)
        return browser.key if session and session.expires > self.clock.time else None

    def list_of(self, key):
        session = self.sessions[key]
        return self.likes[session.username] if session.username else session.likes

    def forget_list(self, key):
        self.list_of(key).clear()
        del self.sessions[key]

    def expect_session(self, browser, answer, key):
        """`key` is what was current before the answer; if it was None, a new session has been made."""
        if key:
            return key, ()
        assert len(answer.headers.getall('Set-Cookie')) == 1
        assert browser.key not in self.sessions
        self.sessions[browser.key] = Session(None, self.clock.time + sessions.UNUSED_LIFETIME)
        return browser.key, (browser.key,)

    # What happens

    @rule(browser=browsers, target=keys)
    def visit(self, browser):
        browser = self.browsers[browser]
        before = self.current(browser)
        answer = browser.get('/')
        _, new = self.expect_session(browser, answer, before)
        assert bool(new) == ('Set-Cookie' in answer.headers)
        return multiple(*new)

    @rule(browser=browsers, texts=st.lists(texts, min_size=1, max_size=3), target=keys)
    def like(self, browser, texts):
        browser = self.browsers[browser]
        return multiple(*(key for text in texts for key in self.like_one(browser, text)))

    def like_one(self, browser, text):
        """Returns the keys of new sessions."""
        before = self.current(browser)
        answer = browser.post('/likes', {'likes': text}, expect_errors=True)
        thing = ' '.join(text.split())
        if len(thing) > 200 or re.search(r'[\0-\x1f\x7f-\x9f]', thing):
            assert answer.status_code == 400
            assert 'Set-Cookie' not in answer.headers
            return ()
        key, new = self.expect_session(browser, answer, before)
        session, things = self.sessions[key], self.list_of(key)
        if thing and thing not in things and len(things) >= MAX_LIKES:
            assert answer.status_code == 409
            return ()
        assert answer.status_code == 303
        if thing:
            if not session.username and not things:
                session.expires = self.clock.time + sessions.ANONYMOUS_LIFETIME
            things.setdefault(thing, next(self.order))
        return new

    @rule(browser=browsers)
    def forget(self, browser):
        browser = self.browsers[browser]
        key = self.current(browser)
        assert browser.post('/forget').status_code == 303
        if key:
            self.forget_list(key)
            assert browser.key is None

    @rule(browser=browsers)
    def log_out(self, browser):
        browser = self.browsers[browser]
        key = self.current(browser)
        assert browser.post('/logout').status_code == 303
        if key:
            del self.sessions[key]
            assert browser.key is None

    @rule(browser=browsers, username=usernames, target=keys)
    def log_in(self, browser, username):
        browser = self.browsers[browser]
        old = self.current(browser)
        answer = browser.post('/login', {'username': username, 'password': PASSWORDS[username]}, expect_errors=True)
        return self.after_login(browser, answer, old, username, True)

    @rule(browser=browsers, username=usernames | st.just('nobody'), times=st.integers(1, 6))
    def guess_passwords(self, browser, username, times):
        browser = self.browsers[browser]
        for _ in range(times):
            answer = browser.post('/login', {'username': username, 'password': 'guess'}, expect_errors=True)
            self.after_login(browser, answer, None, username, False)

    def after_login(self, browser, answer, old, username, right):
        failed = self.failed_logins[username]
        failed[:] = [at for at in failed if at > self.clock.time - sessions.THROTTLE_TIME]
        if len(failed) >= 5:
            assert answer.status_code == 429
            assert int(answer.headers['Retry-After']) == failed[-5] + sessions.THROTTLE_TIME - self.clock.time
            assert 'Set-Cookie' not in answer.headers
            return multiple()
        if not right:
            assert answer.status_code == 200
            assert 'Set-Cookie' not in answer.headers
            failed.append(self.clock.time)
            return multiple()
        assert answer.status_code == 303
        assert browser.key not in self.sessions
        failed.clear()
        if old:
            for thing, order in self.sessions[old].likes.items():
                self.likes[username].setdefault(thing, order)
            del self.sessions[old]
        self.sessions[browser.key] = Session(username, self.clock.time + sessions.LOGIN_LIFETIME)
        return browser.key

    @rule(username=usernames, how=st.sampled_from(['logout', 'passwd']))
    def the_administrator_ends_the_sessions(self, username, how):
        if how == 'logout':
            database.end_sessions(self.db, username)
        else:
            database.set_password(self.db, username, PASSWORDS[username])
        self.sessions = {key: session for key, session in self.sessions.items() if session.username != username}

    @rule(browser=browsers)
    def lose_the_cookie(self, browser):
        self.browsers[browser].reset()

    @rule(browser=browsers, key=keys, made_up=st.booleans())
    def take_a_key(self, browser, key, made_up):
        """Of another browser, or an old one; or one that is nobody's."""
        self.browsers[browser].key = key if not made_up else key[:-1] + ('0' if key[-1] != '0' else '1')

    @rule(seconds=waits)
    def wait(self, seconds):
        self.clock.forward(seconds)

    # What must hold after each

    @invariant()
    def every_browser_sees_its_own(self):
        for browser in self.browsers:
            key = self.current(browser)
            page = browser.get('/' if key else '/login').text  # /login makes no session
            seen = [html.unescape(thing) for thing in re.findall('<li dir="auto">(.*)</li>', page)]
            username = re.search('Logged in as <strong dir="auto">(.*)</strong>', page)
            if not key:
                assert not seen
                assert not username
                continue
            things = self.list_of(key)
            assert seen == sorted(things, key=things.get)
            assert (html.unescape(username[1]) if username else None) == self.sessions[key].username

    @invariant()
    def the_tables_hold_what_they_should(self):
        now = self.clock.time
        rows = self.db.execute('SELECT key, username, expires FROM sessions WHERE expires > ?', (now,))
        live = {key: session for key, session in self.sessions.items() if session.expires > now}
        assert {key: rest for key, *rest in rows} == {key: [s.username, s.expires] for key, s in live.items()}
        rows = self.db.execute('SELECT thing, key, username FROM likes')
        expected = {(thing, key, None) for key, session in live.items() for thing in session.likes}
        expected |= {(thing, None, username) for username, things in self.likes.items() for thing in things}
        assert {row for row in rows if row[1] is None or row[1] in live} == expected


def test_everybody_always_sees_just_what_is_theirs():
    """ASVS 5.0, 7.2.1, 7.2.4, 7.3.2, 7.4.1, 8.2.2."""
    run_state_machine_as_test(
        LikesMachine, settings=settings(max_examples=max(EXAMPLES // 20, 20), stateful_step_count=50, deadline=None)
    )


# Any request

KEY = '01234567-89ab-4cde-8f01-23456789abcd'  # of the one who sends the requests
COOKIE = f'{sessions.COOKIE_NAME}={KEY}'.encode()
SECRET = 'what nobody else may see'
MULTIPART = (
    b'--edge\r\nContent-Disposition: form-data; name="likes"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n'
    b'tea\r\n--edge\r\nContent-Disposition: form-data; name="x"; filename="y"\r\nContent-Length: 1\r\n\r\nz\r\n'
    b'--edge--\r\n'
)


@st.composite
def changed(draw, seeds):
    """One of the seeds (bytes), with some of it replaced by anything: nearly valid, so that it gets far."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 3))):
        start, end = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
        end = draw(st.sampled_from([start, start + 1, end]))
        text = text[:start] + draw(st.binary(max_size=8) | st.sampled_from(seeds)) + text[end:]
    return text


def latin1(strategy):
    """As a WSGI server hands the bytes of a request on."""
    return strategy.map(lambda text: text.decode('latin-1'))


def header(strategy):
    """Without the bytes that end a header; servers let no others through."""
    return latin1(strategy).map(lambda text: re.sub(r'[\r\n\0]', '', text).strip())


requests = st.fixed_dictionaries(
    {
        'REQUEST_METHOD': st.sampled_from(['GET', 'HEAD', 'POST', 'POST', 'POST', 'PUT', 'OPTIONS'])
        | st.text('AZaz-!', min_size=1, max_size=8),
        'PATH_INFO': latin1(
            changed([b'/', b'/likes', b'/forget', b'/login', b'/logout', b'/static/style.css', b'/static/../db.py'])
        ),
        'QUERY_STRING': header(changed([b'', b'likes=tea', b'a=%ff&b=%00&c', COOKIE])),
        'wsgi.input': changed(
            [
                b'',
                b'likes=tea&likes=%F0%9F%8D%B5',
                b'username=anna&password=guess',
                MULTIPART,
                b'4\r\ntea!\r\n0\r\n\r\n',
            ]
        ),
    },
    optional={
        'HTTP_COOKIE': header(changed([b'', COOKIE, b'a={"b":1}; ' + COOKIE])),
        'CONTENT_TYPE': header(
            changed(
                [
                    b'application/x-www-form-urlencoded; charset=utf-8',
                    b'multipart/form-data; boundary=edge',
                    b'multipart/form-data; boundary="edge"; charset=utf-16',
                    b'text/plain',
                ]
            )
        ),
        'CONTENT_LENGTH': header(changed([b'0', b'9', b'100000', b'-1'])),
        'HTTP_TRANSFER_ENCODING': st.sampled_from(['chunked', 'gzip, chunked', 'identity']),
        'HTTP_HOST': header(changed([b'localhost', b'localhost:8080', b'evil.example'])),
        'HTTP_ORIGIN': header(changed([b'http://localhost', b'null', b'https://evil.example'])),
        'HTTP_SEC_FETCH_SITE': st.sampled_from(['same-origin', 'none', 'cross-site', '?']),
        'HTTP_X_FORWARDED_PROTO': header(changed([b'https', b'http', b'https, http'])),
        'HTTP_IF_MODIFIED_SINCE': header(changed([b'Sun, 06 Nov 1994 08:49:37 GMT', b'0'])),
        'HTTP_RANGE': header(changed([b'bytes=0-1', b'bytes=-5', b'bytes=9-', b'items=0-1'])),
    },
)


def send(environ):
    """Return (status, headers, body) of the answer, as a WSGI server gets it."""
    body = environ.get('wsgi.input', b'')
    environ = {
        'SCRIPT_NAME': '',
        'SERVER_NAME': 'localhost',
        'SERVER_PORT': '80',
        'SERVER_PROTOCOL': 'HTTP/1.1',
        'CONTENT_LENGTH': str(len(body)),
        'CONTENT_TYPE': 'application/x-www-form-urlencoded',
        'HTTP_COOKIE': COOKIE.decode(),
        'wsgi.version': (1, 0),
        'wsgi.url_scheme': 'http',
        'wsgi.errors': io.StringIO(),
        'wsgi.multithread': True,
        'wsgi.multiprocess': True,
        'wsgi.run_once': False,
        **environ,
        'wsgi.input': io.BytesIO(body),
    }
    start = []
    chunks = app.app(environ, lambda status, headers, exc_info=None: start.append((int(status[:3]), headers)))
    body = b''.join(chunks)
    getattr(chunks, 'close', bool)()
    ((status, headers),) = start
    return status, headers, body


@pytest.fixture
def victims(tmp_path, monkeypatch):
    """A connection to a database with an anonymous visitor and a user, who like what nobody else may see."""
    db = prepare(monkeypatch, tmp_path)
    for username in (None, 'anna'):
        key = str(sessions.uuid.uuid4())
        database.add_session(db, key, username, sessions.clock() + sessions.HOUR)
        database.store_like(db, key, SECRET)
    yield db
    db.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(environ=requests)
def test_no_request_breaks_the_app_or_opens_the_session_of_another(victims, environ):
    """ASVS 5.0, 2.2.1, 7.2.1, 8.2.2, 16.5.3."""
    db, now = victims, sessions.clock()
    database.end_session(db, KEY)
    database.add_session(db, KEY, None, now + sessions.HOUR)
    status, headers, body = send(environ)
    assert 200 <= status < 500
    assert SECRET.encode() not in body
    assert b'Traceback' not in body
    for name, value in headers:
        assert re.fullmatch(r'[\x20-\x7e]*', f'{name}{value}')
    assert db.execute('SELECT count(*) FROM likes WHERE thing = ?', (SECRET,)).fetchone() == (2,)
    assert db.execute('SELECT count(*) FROM sessions WHERE username = ?', ('anna',)).fetchone() == (1,)
