"""The cookie, and which session it stands for: lifetimes, ends and the clean-up, with a clock that the test sets."""

import bottle
import pytest

import db as database
import sessions
from conftest import PASSWORD
from sessions import ANONYMOUS_LIFETIME, LOGIN_LIFETIME, UNUSED_LIFETIME


@pytest.fixture
def request_(db):
    """A request without a cookie, for functions called directly."""
    bottle.request.bind({'wsgi.url_scheme': 'http'})
    bottle.response.bind()


def sessions_stored(db):
    return db.execute('SELECT count(*) FROM sessions').fetchone()[0]


def test_new_session_returns_the_key_that_it_stores_and_sends(request_, db):
    key = sessions.new_session(db)
    assert database.find_session(db, key, 0)
    assert f'likes_session={key};' in dict(bottle.response.headerlist)['Set-Cookie']


def test_get_session_makes_one_and_then_returns_it(request_, db):
    key = sessions.get_session(db)
    assert sessions.get_session(db) == key
    assert sessions_stored(db) == 1


def test_get_session_returns_the_cookies_key(db):
    database.add_session(db, key := '0b51fd8e-8a2e-4fd5-ae2c-d0ac7de0d3a6', None, 2**40)
    bottle.request.bind({'wsgi.url_scheme': 'http', 'HTTP_COOKIE': f'likes_session={key}'})
    assert sessions.get_session(db) == key


@pytest.mark.parametrize('key', ['00000000-0000-4000-8000-000000000000', 'made-up', '', "' OR 1=1 --"])
def test_a_made_up_key_gets_a_new_one(browser, db, key):
    browser.key = key
    browser.like('tea')
    assert browser.key != key
    assert browser.likes == ['tea']


def test_a_session_without_likes_ends_after_a_day(browser, clock):
    browser.get('/')
    key = browser.key
    clock.forward(UNUSED_LIFETIME - 1)
    browser.get('/')
    assert browser.key == key
    clock.forward(1)
    browser.get('/')
    assert browser.key != key


def test_an_anonymous_session_ends_thirty_days_after_its_first_like(browser, clock):
    browser.get('/')
    clock.forward(UNUSED_LIFETIME / 2)
    browser.like('tea')
    clock.forward(ANONYMOUS_LIFETIME / 2)
    browser.like('coffee')
    clock.forward(ANONYMOUS_LIFETIME / 2 - 1)
    assert browser.likes == ['tea', 'coffee']
    clock.forward(1)
    assert browser.likes == []


def test_a_like_in_the_last_hours_does_not_extend_the_session(browser, clock):
    browser.like('tea')
    clock.forward(ANONYMOUS_LIFETIME - 10)
    browser.like('coffee')
    clock.forward(10)
    assert browser.likes == []


def test_a_login_ends_after_twelve_hours_whatever_happens_meanwhile(browser, user, clock):
    browser.log_in()
    clock.forward(LOGIN_LIFETIME - 1)
    browser.like('tea')
    assert browser.username == 'anna'
    clock.forward(1)
    assert (browser.username, browser.likes) == (None, [])
    browser.log_in()
    assert browser.likes == ['tea']


def test_a_like_after_the_end_goes_to_a_new_session(browser, user, clock):
    browser.log_in()
    page = browser.get('/')
    clock.forward(LOGIN_LIFETIME)
    page.forms['likeform']['likes'] = 'tea'
    page.forms['likeform'].submit()
    assert (browser.username, browser.likes) == (None, ['tea'])


def test_the_cookie_lasts_as_long_as_the_session(browser, user):
    def max_age(answer):
        return int(answer.headers['Set-Cookie'].partition('Max-Age=')[2].partition(';')[0])

    assert max_age(browser.get('/')) == UNUSED_LIFETIME
    assert max_age(browser.like('tea')) == ANONYMOUS_LIFETIME
    assert 'Set-Cookie' not in browser.like('coffee').headers
    assert max_age(browser.log_in()) == LOGIN_LIFETIME
    assert max_age(browser.log_out()) == 0


def test_expired_sessions_are_removed_a_few_with_each_new_one(browser, other_browser, db, clock):
    with database.writing(db):
        for number in range(2 * database.CLEANUP_BATCH):
            database.add_session(db, f'old {number}', None, clock() - number)
            db.execute('INSERT INTO likes (thing, key) VALUES (?, ?)', ('tea', f'old {number}'))
    browser.get('/')
    assert sessions_stored(db) == database.CLEANUP_BATCH + 1
    other_browser.get('/')
    assert sessions_stored(db) == 2
    assert db.execute('SELECT count(*) FROM likes').fetchone() == (0,)


def test_a_login_takes_its_share_of_the_clean_up(browser, user, db, clock):
    database.add_session(db, 'old', None, clock())
    browser.post('/login', {'username': 'anna', 'password': PASSWORD})
    assert not db.execute("SELECT 1 FROM sessions WHERE key = 'old'").fetchone()


def test_login_makes_a_new_key_and_ends_the_old_session(browser, user, db):
    browser.like('tea')
    old = browser.key
    browser.log_in()
    assert browser.key != old
    assert database.find_session(db, old, 0) is None


ENDS = {
    'logout': lambda browser, **_: browser.log_out(),
    'forget me': lambda browser, **_: browser.forget(),
    'another login': lambda browser, **_: browser.post('/login', {'username': 'anna', 'password': PASSWORD}),
    'expiry': lambda clock, **_: clock.forward(LOGIN_LIFETIME),
    'a password change': lambda db, **_: database.set_password(db, 'anna', PASSWORD),
    'deleting the user': lambda db, **_: database.delete_user(db, 'anna'),
    'the admin ends the sessions': lambda db, **_: database.end_sessions(db, 'anna'),
    'a reset': lambda db, **_: database.create_table(db),
}


@pytest.mark.parametrize('end', ENDS.values(), ids=ENDS)
def test_the_old_key_is_worthless_after(end, browser, other_browser, user, db, clock):
    browser.log_in()
    browser.like('tea')
    stolen = browser.key
    end(browser=browser, db=db, clock=clock)
    other_browser.key = stolen
    assert (other_browser.username, other_browser.likes) == (None, [])
    assert other_browser.key != stolen


FOREIGN = {
    'after ours': '{ours}; prefs=1',
    'before ours': 'prefs=1; {ours}',
    'JSON': 'prefs={{"a":1}}; {ours}',
    'no space between': 'a=1;{ours};b=2',
    'a name that ends like ours': 'not_likes_session=00000000-0000-4000-8000-000000000000; {ours}',
    'garbage under our name': 'likes_session=garbage; {ours}',
    'another key under our name': 'likes_session=00000000-0000-4000-8000-000000000000; {ours}',
    'ours in quotes': 'a=1; likes_session="{key}"',
    'no name': 'garbage; =; ;; "; {ours}',
}


@pytest.mark.parametrize('cookies', FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_cookie_does_not_end_the_session(browser, cookies):
    browser.like('tea')
    key = browser.key
    browser.reset()
    page = browser.get('/', headers={'Cookie': cookies.format(ours=f'likes_session={key}', key=key)})
    assert 'tea' in page
    assert 'Set-Cookie' not in page.headers


@pytest.mark.parametrize('cookie', ['not_likes_session={key}', 'likes_session={key}0', 'a=likes_session={key}'])
def test_only_a_cookie_of_our_name_with_nothing_but_a_key_counts(browser, other_browser, cookie):
    browser.like('tea')
    page = other_browser.get('/', headers={'Cookie': cookie.format(key=browser.key)})
    assert 'tea' not in page
