"""The cookie, and which session it stands for: lifetimes, and each way to end one."""

import re
import uuid

import bottle
import pytest

import db as database
import sessions
from conftest import PASSWORD, Browser, likes_of, rows

DAY = 24 * 60 * 60  # seconds
MADE_UP = '01234567-89ab-4cde-8f01-23456789abcd'


def cookie_header(key):
    """The header that a browser with this session key sends."""
    return {'Cookie': f'likes_session={key}'}


def visit(browser):
    return browser.get('/')


def like_tea(browser):
    return browser.post('/likes', {'likes': 'tea'})


def assert_worthless(key):
    """The key opens nothing: who brings it gets another."""
    browser = Browser()
    page = browser.get('/', headers=cookie_header(key))
    assert 'tea' not in page.text
    assert 'Logged in' not in page.text
    assert browser.key not in (None, key)


@pytest.fixture
def request_():
    """A request without a cookie, for functions called directly."""
    bottle.request.bind({'wsgi.url_scheme': 'http', 'HTTP_HOST': 'likes.example'})
    bottle.response.bind()
    return bottle.request


def test_get_session_makes_a_session(request_, db):
    key = sessions.get_session(db)
    stored = db.execute('SELECT key, username FROM sessions').fetchall()
    assert stored == [(key, None)]
    assert f'likes_session={key};' in dict(bottle.response.headerlist)['Set-Cookie']


def test_get_session_returns_the_key_of_the_cookie(request_, db):
    key = sessions.new_session(db)
    request_.environ['HTTP_COOKIE'] = f'likes_session={key}'
    assert sessions.get_session(db) == key
    assert rows(db, 'sessions') == 1


SCHEMES = {  # what the request says, prefix and flag of the cookie
    'http': ({}, '', ''),
    'https': ({'wsgi.url_scheme': 'https'}, '__Host-', '; Secure'),
    'https at the proxy': ({'HTTP_X_FORWARDED_PROTO': 'https'}, '__Host-', '; Secure'),
    'in capitals': ({'HTTP_X_FORWARDED_PROTO': ' HTTPS'}, '__Host-', '; Secure'),
    'two proxies': ({'HTTP_X_FORWARDED_PROTO': 'https, http'}, '__Host-', '; Secure'),
    'http before https': ({'HTTP_X_FORWARDED_PROTO': 'http, https'}, '', ''),
    'another scheme': ({'HTTP_X_FORWARDED_PROTO': 'httpsfoo'}, '', ''),
}
LIFETIMES = [
    (visit, sessions.UNUSED_LIFETIME),
    (like_tea, sessions.ANONYMOUS_LIFETIME),
    (Browser.log_in, sessions.LOGIN_LIFETIME),
]


def test_a_login_lasts_a_day_and_a_list_thirty():
    assert sessions.LOGIN_LIFETIME == DAY
    assert sessions.ANONYMOUS_LIFETIME == 30 * DAY
    assert sessions.UNUSED_LIFETIME == DAY  # a list of nothing


@pytest.mark.parametrize(('act', 'lifetime'), LIFETIMES)
@pytest.mark.parametrize(('environ', 'prefix', 'flag'), SCHEMES.values(), ids=SCHEMES)
def test_the_cookie_has_a_random_key_its_lifetime_prefix_and_flags(
    user, act, lifetime, environ, prefix, flag
):
    """ASVS 5.0, 3.3.1 to 3.3.4."""
    header = act(Browser(**environ)).headers['Set-Cookie']
    name, key, flags = re.fullmatch('(.*?)=(.*?); (.*)', header).groups()
    assert name == f'{prefix}likes_session'
    assert str(uuid.UUID(key, version=4)) == key  # it is of that version
    assert flags == f'HttpOnly; Max-Age={lifetime}; Path=/; SameSite=lax{flag}'


def test_over_https_a_session_has_the_cookie_with_the_prefix_alone(browser):
    browser.like('tea')
    key = browser.key
    https = Browser(HTTP_X_FORWARDED_PROTO='https')
    assert 'tea' in https.get('/', headers={'Cookie': f'__Host-likes_session={key}'})
    assert 'tea' not in https.get('/', headers=cookie_header(key))


@pytest.mark.parametrize('end', [Browser.log_out, Browser.forget])
def test_the_cookie_is_cleared_with_its_session(browser, user, end):
    browser.log_in()
    browser.like('tea')
    header = end(browser).headers['Set-Cookie']
    assert header == 'likes_session=""; HttpOnly; Max-Age=0; Path=/; SameSite=lax'


UNKNOWN = ['likes_session={made_up}', 'a={key}', 'likes_session={key}0', '{key}']


@pytest.mark.parametrize('header', UNKNOWN)
def test_a_key_that_is_not_ours_or_not_in_its_place_is_as_none(browser, header):
    browser.like('tea')
    other = Browser()
    header = header.format(key=browser.key, made_up=MADE_UP)
    page = other.get('/', headers={'Cookie': header})
    assert 'tea' not in page
    assert other.key not in (None, browser.key, MADE_UP)


COOKIES = {
    'after JSON': 'prefs={{"a":1,"b":[2, 3]}}; {ours}',
    'after an open quote': 'a="b; {ours}',
    'after a bare word and odd ones': 'bare; =x;; ;d=é; e=@:/[]?;{ours}',
    'without space between': 'a=b;{ours};c=d',
    'after garbage of the same name': 'likes_session=garbage; likes_session=; {ours}',
    'after a made-up key': f'likes_session={MADE_UP}; {{ours}}',
    'before garbage of the same name': '{ours}; likes_session=garbage',
    'after as many keys as a browser keeps': f'likes_session={MADE_UP}; ' * 180
    + '{ours}',
}


@pytest.mark.parametrize('header', COOKIES.values(), ids=COOKIES)
def test_a_foreign_cookie_does_not_end_the_session(browser, header):
    browser.like('tea')
    header = header.format(ours=f'likes_session={browser.key}')
    page = Browser().get('/', headers={'Cookie': header})
    assert likes_of(page.html) == ['tea']
    assert 'Set-Cookie' not in page.headers


def test_many_cookies_cost_few_queries(request_, db):
    request_.environ['HTTP_COOKIE'] = f'likes_session={MADE_UP}; ' * 40_000
    queries = []
    db.set_trace_callback(queries.append)
    assert sessions.find_session(db) == (None, None)
    assert len(queries) <= 200


@pytest.mark.parametrize(('act', 'lifetime'), LIFETIMES)
def test_the_server_ends_a_session_whatever_the_browser_keeps(
    browser, user, clock, act, lifetime
):
    act(browser)
    key = browser.key
    clock.forward(lifetime - 1)
    assert 'Set-Cookie' not in Browser().get('/', headers=cookie_header(key)).headers
    clock.forward(1)
    assert_worthless(key)


def test_a_blank_like_does_not_prolong_a_session(browser, clock):
    browser.get('/')
    browser.like(' ')
    clock.forward(DAY)
    assert_worthless(browser.key)


def test_an_anonymous_list_lasts_thirty_days_from_its_last_like(browser, clock):
    for number in range(3):
        browser.like(f'thing {number}')
        clock.forward(30 * DAY - 1)
    assert len(browser.likes) == 3
    browser.like('thing 0')  # once more
    clock.forward(30 * DAY - 1)
    assert browser.likes == ['thing 1', 'thing 2', 'thing 0']
    clock.forward(1)
    assert_worthless(browser.key)


def like_milk(browser):
    return browser.post('/likes', {'likes': 'milk'})


def ends_told(answer, clock):
    """When the cookie that an answer sets ends: a list, empty if it sets none."""
    ages = re.findall(r'Max-Age=(\d+)', str(answer.headers))
    return [clock.time + int(age) for age in ages]


STORY = [visit, visit, like_tea, visit, like_milk, like_tea, Browser.log_in, visit]
STORY += [like_tea, visit, Browser.log_in, visit, like_milk]


def test_the_cookie_ends_when_the_session_ends(browser, user, db, clock):
    """Whoever prolongs the one prolongs the other."""
    told = []
    for act in STORY:
        clock.forward(60)
        told += ends_told(act(browser), clock)
        query = 'SELECT expires FROM sessions WHERE key = ?'
        (ends,) = db.execute(query, (browser.key,)).fetchone()
        assert ends == told[-1], 'row and cookie end at different times'


def test_a_like_does_not_prolong_a_login(browser, user, clock):
    browser.log_in()
    clock.forward(DAY - 1)
    answer = like_tea(browser)
    assert 'Set-Cookie' not in answer.headers
    clock.forward(1)
    assert_worthless(browser.key)


def test_a_like_on_a_session_that_is_over_goes_to_a_new_one(browser, clock):
    form = browser.get('/').forms['likeform']
    key = browser.key
    clock.forward(DAY)
    form['likes'] = 'tea'
    form.submit()
    assert browser.likes == ['tea']
    assert browser.key != key


@pytest.mark.parametrize('act', [visit, Browser.log_in])
def test_expired_sessions_go_a_few_at_a_time(browser, user, db, clock, act):
    for number in range(20):
        database.add_session(db, f'old{number}', None, now=0, lifetime=1)
    act(browser)
    assert rows(db, 'sessions') > 15
    for _ in range(9):
        act(Browser())
    oldest = db.execute('SELECT min(expires) FROM sessions').fetchone()
    assert oldest[0] > clock.time


def by_logout(browser, db):
    browser.log_out()


def by_forget_me(browser, db):
    browser.forget()


def by_another_login(browser, db):
    browser.log_in()


def by_a_new_password(browser, db):
    database.set_password(db, 'anna', 'another password')


def by_the_end_of_the_account(browser, db):
    database.delete_user(db, 'anna')


def by_the_administrator(browser, db):
    database.log_out_everywhere(db, 'anna')


ENDINGS = [by_logout, by_forget_me, by_another_login, by_a_new_password]
ENDINGS += [by_the_end_of_the_account, by_the_administrator]


@pytest.mark.parametrize('end', ENDINGS)
def test_the_key_of_an_ended_session_is_worthless_at_once(browser, user, db, end):
    """ASVS 5.0, 7.4.1, 7.4.2, 7.4.3, 7.4.5."""
    browser.log_in()
    browser.like('tea')
    old = browser.key
    end(browser, db)
    assert_worthless(old)


def test_a_planted_key_does_not_become_the_victims(browser, other_browser, user):
    """ASVS 5.0, 7.2.4: no session fixation."""
    other_browser.get('/')
    fields = {'username': user, 'password': PASSWORD}
    browser.post('/login', fields, headers=cookie_header(other_browser.key))
    assert browser.username == 'anna'
    assert_worthless(other_browser.key)
