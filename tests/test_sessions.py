"""The cookie, and which session it stands for, with a clock that the test sets. How it ends: test_security.py."""

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


def test_a_login_and_its_end_hold_for_the_rest_of_the_request(request_, db, user):
    old_key = sessions.get_session(db)
    assert sessions.log_in(db, 'anna', PASSWORD)
    key = sessions.get_session(db)
    assert key != old_key
    assert sessions.get_user(db) == 'anna'
    assert database.store_like(db, key, 'tea')
    sessions.log_out(db)
    assert sessions.get_user(db) is None
    assert sessions.get_session(db) not in (old_key, key)


def test_forget_does_all_or_nothing(request_, db, user, monkeypatch):
    sessions.log_in(db, 'anna', PASSWORD)
    key = sessions.get_session(db)
    database.store_like(db, key, 'tea')

    def disk_full(*_):
        raise database.OperationalError('database or disk is full')

    monkeypatch.setattr(database, 'end_session', disk_full)
    with pytest.raises(database.OperationalError):
        sessions.forget(db)
    assert database.get_likes(db, key) == ['tea']
    assert sessions.get_user(db) == 'anna'


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


def test_a_like_after_the_end_goes_to_a_new_session(browser, user, clock):
    browser.log_in()
    page = browser.get('/')
    clock.forward(LOGIN_LIFETIME)
    page.forms['likeform']['likes'] = 'tea'
    page.forms['likeform'].submit()
    assert (browser.username, browser.likes) == (None, ['tea'])
