"""The cookie, and which session it stands for: lifetimes with the clock set, and each way that a session ends."""

import re
import uuid

import bottle
import pytest

import db as database
import sessions
from conftest import PASSWORD, Browser, rows
from db import COMP249Db, delete_user, end_sessions, set_password

HOUR, DAY = 60 * 60, 24 * 60 * 60  # seconds
MADE_UP = '01234567-89ab-4cde-8f01-23456789abcd'


def holding(key):
    """The header that a browser with this session key sends."""
    return {'Cookie': f'likes_session={key}'}


def is_worthless(key):
    """Whether the key opens nothing: who brings it gets another."""
    page = Browser().get('/', headers=holding(key))
    return 'tea' not in page.text and 'Logged in' not in page.text and key not in page.headers.get('Set-Cookie', key)


@pytest.fixture
def request_(db):
    """A request without a cookie, for functions called directly."""
    bottle.request.bind({'wsgi.url_scheme': 'http', 'HTTP_HOST': 'likes.example'})
    bottle.response.bind()


def test_get_session_makes_a_session_or_returns_the_cookies_key(request_, db):
    key = sessions.get_session(db)
    assert db.execute('SELECT key, username FROM sessions').fetchall() == [(key, None)]
    assert f'likes_session={key};' in dict(bottle.response.headerlist)['Set-Cookie']
    bottle.request.environ['HTTP_COOKIE'] = f'likes_session={key}'
    assert sessions.get_session(db) == sessions.find_session(db) == key
    assert rows(db, 'sessions') == 1


VISIT, LIKE = lambda browser: browser.get('/'), lambda browser: browser.like('tea')
SCHEMES = {
    'http': ({}, '', ''),
    'https': ({'wsgi.url_scheme': 'https'}, '__Host-', '; Secure'),
    'https at the proxy': ({'HTTP_X_FORWARDED_PROTO': 'https'}, '__Host-', '; Secure'),
}


@pytest.mark.parametrize(('act', 'age'), [(VISIT, 31 * DAY), (Browser.log_in, 12 * HOUR)], ids=['a visit', 'a login'])
@pytest.mark.parametrize(('environ', 'prefix', 'secure'), SCHEMES.values(), ids=SCHEMES)
def test_the_cookie_is_kept_from_scripts_and_other_sites(user, act, age, environ, prefix, secure):
    header = act(Browser(**environ)).headers['Set-Cookie']
    key = re.search('=([^;]*)', header)[1]
    assert header == f'{prefix}likes_session={key}; HttpOnly; Max-Age={age}; Path=/; SameSite=lax{secure}'
    assert str(uuid.UUID(key, version=4)) == key


def test_over_https_a_neighbour_cannot_plant_a_cookie(path):
    attacker, visitor = Browser(), Browser(HTTP_X_FORWARDED_PROTO='https')
    attacker.like('tea')
    assert 'tea' not in visitor.get('/', headers=holding(attacker.key)).text


@pytest.mark.parametrize('end', [Browser.log_out, Browser.forget])
def test_the_cookie_is_cleared_with_its_session(browser, user, end):
    browser.log_in()
    browser.like('tea')
    assert end(browser).headers['Set-Cookie'] == 'likes_session=""; HttpOnly; Max-Age=0; Path=/; SameSite=lax'


@pytest.mark.parametrize('header', [f'{{name}}={MADE_UP}', 'a={key}', '{name}={key}0', 'x{name}={key}', '{key}'])
def test_a_key_that_the_app_did_not_make_or_under_another_name_is_as_none(browser, db, header):
    browser.like('tea')
    page = Browser().get('/', headers={'Cookie': header.format(name='likes_session', key=browser.key)})
    assert 'tea' not in page.text
    assert re.search('=([^;]*)', page.headers['Set-Cookie'])[1] not in header
    assert rows(db, 'sessions') == 2


COOKIES = {
    'after JSON': 'prefs={{"a":1,"b":[2, 3]}}; {ours}',
    'after an open quote': 'a="b; {ours}',
    'after a bare word and odd ones': 'bare; =x;; ;d=é; e=@:/[]?;{ours}',
    'without space between': 'a=b;{ours};c=d',
    'after garbage of the same name': f'likes_session=garbage; likes_session=; likes_session={MADE_UP}; {{ours}}',
    'before garbage of the same name': '{ours}; likes_session=garbage',
}


@pytest.mark.parametrize('header', COOKIES.values(), ids=COOKIES)
def test_a_foreign_cookie_does_not_end_the_session(browser, header):
    browser.like('tea')
    page = Browser().get('/', headers={'Cookie': header.format(ours=f'likes_session={browser.key}')})
    assert page.html.select_one('.likes li').string == 'tea'
    assert 'Set-Cookie' not in page.headers


LIFETIMES = {'a visit': (VISIT, DAY), 'a like': (LIKE, 30 * DAY), 'a login': (Browser.log_in, 12 * HOUR)}


@pytest.mark.parametrize(('act', 'lifetime'), LIFETIMES.values(), ids=LIFETIMES)
def test_the_server_ends_a_session_whatever_the_browser_keeps(browser, user, clock, act, lifetime):
    act(browser)
    key = browser.key
    clock.forward(lifetime - 1)
    assert 'Set-Cookie' not in Browser().get('/', headers=holding(key)).headers
    clock.forward(1)
    assert is_worthless(key)


def test_only_the_first_like_prolongs_a_session_and_only_an_anonymous_one(browser, user, clock):
    for act, lifetime in ((LIKE, 30 * DAY), (Browser.log_in, 12 * HOUR)):
        browser.post('/likes', {'likes': ' '})
        clock.forward(DAY - 1)
        act(browser)
        key = browser.key
        clock.forward(lifetime - 1)
        browser.like(f'{lifetime}')
        assert browser.key == key
        clock.forward(1)
        assert is_worthless(key)
        browser.reset()


@pytest.mark.parametrize('ended', ['by its time', 'by the administrator'])
def test_a_like_on_a_session_that_ended_since_the_page_goes_to_the_new_one(browser, db, clock, ended):
    form = browser.get('/').forms['likeform']
    if ended == 'by its time':
        clock.forward(DAY)
    else:
        database.end_session(db, browser.key)
    form['likes'] = 'tea'
    form.submit()
    assert browser.likes == ['tea']


@pytest.mark.parametrize('act', [VISIT, Browser.log_in])
def test_expired_sessions_go_a_few_at_a_time(browser, user, db, clock, act):
    for number in range(20):
        database.add_session(db, f'old{number}', None, clock.time - number, number)
    left = rows(db, 'sessions')
    act(browser)
    assert left - 5 <= rows(db, 'sessions') - 1 < left
    for _ in range(20):
        Browser().get('/')
    assert not db.execute('SELECT 1 FROM sessions WHERE expires <= ?', (clock.time,)).fetchone()


ENDINGS = {
    'logout': lambda browser, clock: browser.log_out(),
    'forget': lambda browser, clock: browser.forget(),
    'a login in its place': lambda browser, clock: browser.log_in(),
    'its time': lambda browser, clock: clock.forward(13 * HOUR),
    'a new password': lambda browser, clock: set_password(COMP249Db(), 'anna', 'another password'),
    'the end of the account': lambda browser, clock: delete_user(COMP249Db(), 'anna'),
    'the administrator logging the user out': lambda browser, clock: end_sessions(COMP249Db(), 'anna'),
}


@pytest.mark.parametrize('end', ENDINGS.values(), ids=ENDINGS)
def test_the_key_of_an_ended_session_is_worthless_at_once(browser, user, db, clock, end):
    browser.log_in()
    browser.like('tea')
    old = browser.key
    end(browser, clock)
    assert is_worthless(old)
    Browser().post('/likes', {'likes': 'spam'}, headers=holding(old))
    assert not db.execute("SELECT 1 FROM likes WHERE thing = 'spam' AND username IS NOT NULL").fetchone()


@pytest.mark.parametrize('planted', ['an own session', 'a made-up key'])
def test_a_planted_key_does_not_become_the_victims(browser, other_browser, user, planted):
    other_browser.get('/')
    key = other_browser.key if planted == 'an own session' else MADE_UP
    browser.post('/login', {'username': 'anna', 'password': PASSWORD}, headers=holding(key))
    assert browser.key != key
    assert browser.username == 'anna'
    assert is_worthless(key)
