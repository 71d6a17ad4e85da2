"""The defences, each shown by a test that fails without it.

The numbers are requirements of OWASP ASVS 5.0.
"""

import logging
import time

import pytest
from argon2 import PasswordHasher

import db as database
from conftest import PASSWORD, Browser, another_writer, rows

TODAY = '$argon2id$v=19$m=19456,t=2,p=1$'


def stored_hash(db):
    return db.execute('SELECT password FROM users').fetchone()[0]


def set_hash(db, stored):
    with db:
        db.execute('UPDATE users SET password = ?', (stored,))


def test_a_password_is_stored_as_an_argon2id_hash_of_todays_strength(db):
    """ASVS 11.4.2."""
    database.add_user(db, 'anna', PASSWORD)
    assert stored_hash(db).startswith(TODAY)


def test_a_login_renews_a_hash_of_other_strength(browser, db, user):
    """ASVS 11.4.2."""
    weak = PasswordHasher(memory_cost=64, time_cost=1, parallelism=1)
    set_hash(db, weak.hash(PASSWORD))
    browser.log_in()
    assert stored_hash(db).startswith(TODAY)
    assert browser.log_in().status_code == 303


def test_a_login_leaves_a_hash_of_todays_strength_as_it_is(browser, db, user):
    before = stored_hash(db)
    browser.log_in()
    assert stored_hash(db) == before


def test_an_unknown_name_reads_the_same_as_a_wrong_password(browser, user):
    """ASVS 6.3.8."""
    known = browser.log_in('anna', 'guess')
    unknown = browser.log_in('otto', 'guess')
    assert known.status_code == 200
    assert unknown.status_code == 200
    assert known.headerlist == unknown.headerlist
    assert known.text.replace('anna', 'otto') == unknown.text


def cost_of_a_guess(browser, name):
    """The processor time of a guess, in seconds."""
    began = time.process_time()
    browser.log_in(name, 'guess')
    return time.process_time() - began


def test_an_unknown_name_costs_the_same_as_a_wrong_password(browser, user):
    """ASVS 6.3.8. The least of four: at times something else takes time as well."""
    anna = min(cost_of_a_guess(browser, 'anna') for _ in range(4))
    otto = min(cost_of_a_guess(browser, 'otto') for _ in range(4))
    assert anna / 1.7 < otto < anna * 1.7


@pytest.fixture
def changed_meanwhile(db, monkeypatch):
    """The password is changed by the administrator while a login checks the old one."""
    check = database.verify_password

    def check_and_change(*args):
        is_right = check(*args)
        database.set_password(db, 'anna', 'another password')
        return is_right

    monkeypatch.setattr(database, 'verify_password', check_and_change)


def test_a_password_changed_while_it_is_checked_opens_no_more(
    browser, user, changed_meanwhile
):
    """ASVS 7.4.3."""
    assert browser.log_in().status_code == 200
    assert browser.username is None


def test_a_hash_that_is_renewed_does_not_undo_a_change(
    browser, db, user, changed_meanwhile
):
    """ASVS 7.4.3."""
    weak = PasswordHasher(memory_cost=64, time_cost=1, parallelism=1)
    set_hash(db, weak.hash(PASSWORD))
    browser.log_in()
    assert PasswordHasher().verify(stored_hash(db), 'another password')


PASSWORDS = ['password', 'Café אבג', '\0\t' * 4]
LONG = pytest.param('🔑' * 999, id='999 keys')


@pytest.mark.parametrize('password', [*PASSWORDS, LONG], ids=ascii)
def test_a_password_of_any_characters_opens_exactly_as_typed(browser, db, password):
    """ASVS 6.2.5, 6.2.8, 6.2.9."""
    password += ' x '
    database.add_user(db, 'anna', password)
    for wrong in (password.strip(), password[:72] + '?'):  # bcrypt reads no further
        assert browser.log_in(password=wrong).status_code == 200
    assert browser.log_in(password=password).status_code == 303


def guess(browser, name='anna', times=1):
    """Send so many wrong passwords; returns the status codes."""
    return [browser.log_in(name, 'guess').status_code for _ in range(times)]


@pytest.mark.parametrize('name', ['anna', 'nobody'])
def test_after_five_failures_no_password_opens(browser, user, clock, name):
    """ASVS 6.3.1, 6.3.8."""
    assert guess(browser, name, 5) == [200] * 5
    answer = browser.log_in(name, PASSWORD)  # right for anna
    assert answer.status_code == 429
    assert answer.headers['Retry-After'] == '300'
    assert 'For 5 min. even the right password' in answer
    assert guess(browser, f' {name}\t') == [429]


def test_each_failure_that_gets_five_minutes_old_makes_room(browser, user, clock):
    """ASVS 6.3.1."""
    guess(browser)
    clock.forward(10)
    guess(browser, times=4)
    clock.forward(300 - 10.5)  # the first is half a second short of five minutes
    answer = browser.log_in()
    assert answer.headers['Retry-After'] == '1'
    assert 'For 1 min.' in answer
    clock.forward(0.5)
    assert guess(browser, times=2) == [200, 429]


def test_guesses_of_one_name_lock_no_other(browser, user, clock):
    guess(browser, 'otto', times=5)
    assert browser.log_in().status_code == 303


def test_a_success_clears_no_failures_of_another_name(browser, user, clock):
    guess(browser, 'otto', times=5)
    browser.log_in()
    assert guess(browser, 'otto') == [429]


def test_a_success_clears_the_failures(browser, user, clock):
    guess(browser, times=4)
    browser.log_in()
    assert guess(browser, times=5) == [200] * 5


def test_who_is_logged_in_is_not_touched_by_guesses(browser, other_browser, user):
    browser.log_in()
    guess(other_browser, times=6)
    assert browser.username == 'anna'


def test_failures_of_a_clock_that_was_ahead_count_for_nothing(browser, user, clock):
    clock.forward(365 * 24 * 60 * 60)
    guess(browser, times=6)
    clock.forward(-365 * 24 * 60 * 60)
    assert browser.log_in().status_code == 303


@pytest.mark.parametrize('seconds', [300, -1])
def test_failures_that_count_no_more_go_as_new_ones_come(browser, db, clock, seconds):
    """ASVS 6.3.1: the table of failures is no place to fill."""
    for number in range(9):
        guess(browser, f'name{number}')
    clock.forward(seconds)
    guess(browser, 'new')
    guess(browser, 'x' * 101)  # too long for a name
    assert rows(db, 'failed_logins') == 1


HOST = 'likes.example:8080'
SITE = 'Sec-Fetch-Site'  # old browsers do not send it
OURS = {
    'a form of our own': {SITE: 'same-origin', 'Origin': f'http://{HOST}'},
    'an address typed in, or a bookmark': {SITE: 'none'},
    'no browser': {},
    'an old browser, a form of our own': {'Origin': f'http://{HOST}'},
    'an old browser, behind a proxy that adds https': {'Origin': f'https://{HOST}'},
}
NOT_OURS = {
    'a page of a sister site': {SITE: 'same-site', 'Origin': f'http://sister.{HOST}'},
    'a page that says it is ours': {SITE: 'cross-site', 'Origin': f'http://{HOST}'},
    'a page that does not say where it is': {SITE: 'cross-site'},
    'an old browser, another site': {'Origin': 'http://evil.example'},
    'an old browser, a host that begins as ours': {'Origin': f'http://{HOST}.evil'},
    'an old browser, a page without an origin': {'Origin': 'null'},
}
ADDRESSES = pytest.mark.parametrize(
    'address', ['/likes', '/forget', '/login', '/logout']
)


def send(browser, address, headers):
    """Send a form with these headers; returns the answer."""
    cookie = f'likes_session={browser.key}'  # of another host, to WebTest
    headers = {'Host': HOST, 'Cookie': cookie, **headers}
    return browser.post(address, {'likes': 'milk'}, headers, expect_errors=True)


@ADDRESSES
@pytest.mark.parametrize('headers', OURS.values(), ids=OURS)
def test_a_form_of_our_own_page_is_not_refused(browser, user, address, headers):
    """ASVS 3.5.1."""
    browser.log_in()
    assert send(browser, address, headers).status_code < 400


@ADDRESSES
@pytest.mark.parametrize('headers', NOT_OURS.values(), ids=NOT_OURS)
def test_a_form_of_another_page_is_refused(browser, db, address, headers):
    """ASVS 3.5.1."""
    browser.like('tea')
    before = list(db.iterdump())
    answer = send(browser, address, headers)
    assert answer.status_code == 403
    assert 'from another site' in answer
    assert 'Set-Cookie' not in answer.headers
    assert list(db.iterdump()) == before


def test_a_link_on_another_page_opens_ours(browser):
    browser.get('/', headers={SITE: 'cross-site'})  # 200, else it fails


def a_page(browser, db):
    return browser.get('/')


def a_redirect(browser, db):
    return browser.log_in()


def a_failed_login(browser, db):
    return browser.log_in(password='wrong')


def a_file(browser, db):
    return browser.get('/static/style.css')


def a_forged_form(browser, db):
    return browser.post('/', headers={'Origin': 'x'}, status=403)


def no_such_method(browser, db):
    return browser.put('/likes', status=405)


def a_bug(browser, db):
    set_hash(db, 'not a hash')
    fields = {'username': 'anna', 'password': PASSWORD}
    return browser.post('/login', fields, expect_errors=True)


def a_slip_in_sql(browser, db):
    db.execute('ALTER TABLE sessions RENAME COLUMN expires TO expirse')
    return browser.get('/', expect_errors=True)


HEADERS = {
    'Content-Security-Policy': "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
PAGES = [a_page, a_redirect, a_failed_login, a_forged_form, no_such_method]
PAGES += [a_bug, a_slip_in_sql]


@pytest.mark.parametrize('act', [*PAGES, a_file])
def test_every_answer_has_the_security_headers(user, browser, db, act):
    """ASVS 3.4.3 to 3.4.6, 3.4.8."""
    headers = act(browser, db).headers
    assert HEADERS.items() <= dict(headers).items()
    assert 'Strict-Transport-Security' not in headers


@pytest.mark.parametrize('scheme', ['https', 'https, http'])
def test_an_answer_over_https_asks_for_https_from_then_on(path, scheme):
    """ASVS 3.4.1."""
    answer = Browser(HTTP_X_FORWARDED_PROTO=scheme).get('/')
    assert answer.headers['Strict-Transport-Security'] == 'max-age=31536000'


@pytest.mark.parametrize('act', PAGES)
def test_no_page_is_kept_by_the_browser(user, browser, db, act):
    """ASVS 14.3.2."""
    assert act(browser, db).headers['Cache-Control'] == 'no-store'


def test_a_file_is_kept_for_a_minute(browser, db):
    assert a_file(browser, db).headers['Cache-Control'] == 'max-age=60'


@pytest.mark.parametrize(
    ('act', 'cause'), [(a_bug, 'InvalidHash'), (a_slip_in_sql, 'OperationalError')]
)
def test_a_bug_shows_nothing_of_it_and_is_logged(browser, user, db, act, cause):
    """ASVS 16.5.1, 16.3.4."""
    answer = act(browser, db)
    assert 'an error of the site' in answer
    assert 'Traceback' not in answer
    assert cause not in answer
    assert 'Traceback' in answer.errors
    assert cause in answer.errors


MARKUP = '<b>&"\'</b>'.ljust(100, 'x')  # the longest name


def test_what_people_type_is_shown_as_text(browser, db):
    """ASVS 1.2.1, 3.2.2."""
    database.add_user(db, MARKUP, PASSWORD)
    browser.like(MARKUP)
    failed = browser.log_in(MARKUP, 'guess')
    assert failed.forms['loginform']['username'].value == MARKUP
    browser.log_in(MARKUP)
    assert browser.likes == [MARKUP]
    assert browser.username == MARKUP
    assert '<b>' not in browser.get('/')


def test_what_matters_is_logged_with_the_name_and_no_secret(browser, user, caplog):
    """ASVS 14.2.1, 16.2.5, 16.3.1."""
    caplog.set_level(logging.DEBUG)
    browser.log_in()
    key = browser.key
    browser.log_out()
    browser.log_in(password='a wrong guess')
    browser.like('tea')
    anonymous_key = browser.key
    browser.forget()
    names = ["login: 'anna'", "logout: 'anna'", "login failed: 'anna'", 'forget: None']
    assert caplog.messages == names
    for secret in (PASSWORD, 'a wrong guess', key, anonymous_key):
        assert secret not in caplog.text


def test_a_throttled_login_is_logged_as_such(browser, caplog):
    caplog.set_level(logging.INFO)
    guess(browser, times=6)
    assert caplog.messages == ["login failed: 'anna'"] * 5 + ["login throttled: 'anna'"]


@pytest.mark.parametrize('address', ['/logout', '/forget'])
def test_a_form_that_met_a_lock_is_logged_as_nothing_else(
    browser, user, path, caplog, monkeypatch, address
):
    browser.log_in()
    browser.like('tea')
    monkeypatch.setattr(database, 'MAX_WAIT', 0)  # seconds
    caplog.clear()
    with another_writer(path):
        browser.post(address, status=503)
    (line,) = caplog.messages
    assert 'database is locked' in line


NAMES = ["otto'\nINFO login: 'anna", 'otto\x1b[2J', 'otto\u2028', 'o' * 300]


@pytest.mark.parametrize('name', NAMES, ids=ascii)
def test_a_name_cannot_forge_or_fill_the_log(browser, caplog, name):
    """ASVS 16.4.1."""
    caplog.set_level(logging.INFO)
    guess(browser, name)
    (line,) = caplog.messages
    assert line.isprintable()
    assert line.startswith('login failed: ')
    assert len(line) < 200
