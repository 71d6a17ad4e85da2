"""Handlers as a student may write them, or miswrite them: what comes of it."""

import gc
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import bottle
import pytest
from webtest import TestApp

import app
import db as database
from conftest import another_writer, rows

INSERT = 'INSERT INTO sessions (key, expires) VALUES (?, ?)'
METHODS = ['GET', 'POST', 'PUT', 'DELETE']


def site(*handlers, **config):
    """A site with these handlers, for all methods; the address of each is its name."""
    site = bottle.Bottle()
    site.install(app.DatabasePlugin())
    for handler in handlers:
        site.route(f'/{handler.__name__}', METHODS, handler, **config)
    return TestApp(site)


@pytest.fixture(autouse=True)
def tables(db):
    """Each test has the tables."""


def store_k(db):
    db.execute(INSERT, ('k', 0))


def without_db():
    return 'a page'


def without_form(db):
    return 'a page'


def without_return(db, form):
    store_k(db)


def with_a_number(db, form):
    store_k(db)
    return 5


def with_rows(db, form):
    store_k(db)
    return db.execute('SELECT * FROM sessions').fetchall()


def with_a_function(db, form):
    store_k(db)
    return app.redirect_home


def with_a_yield(db, form):
    store_k(db)
    yield 'a page'


def with_a_file_that_is_missing(db, form):
    store_k(db)
    return open('no/such/file').read()


def with_a_slip_in_sql(db, form):
    store_k(db)
    return db.execute('SELECT thnig FROM likes').fetchall()


def with_an_exception(db, form):
    store_k(db)
    raise KeyError('slip')


SLIPS = {
    without_db: ('GET', "without_db() got an unexpected keyword argument 'db'"),
    without_form: ('POST', "without_form() got an unexpected keyword argument 'form'"),
    without_return: ('POST', 'without_return() returned NoneType'),
    with_a_number: ('POST', 'with_a_number() returned int'),
    with_rows: ('POST', 'with_rows() returned list'),
    with_a_function: ('POST', 'with_a_function() returned function'),
    with_a_yield: ('POST', 'with_a_yield() returned generator'),
    with_a_file_that_is_missing: ('POST', 'No such file'),
    with_a_slip_in_sql: ('POST', 'no such column: thnig'),
    with_an_exception: ('POST', "KeyError: 'slip'"),
}


@pytest.mark.parametrize('handler', SLIPS)
def test_a_slip_is_told_by_its_name_and_changes_nothing(db, handler):
    method, told = SLIPS[handler]
    browser = site(handler, counts)
    answer = browser.request(f'/{handler.__name__}', method=method, expect_errors=True)
    assert answer.status_code == 500
    assert told in answer.errors
    store_k(db)
    assert browser.get('/counts').text == '1'


def counts(db):
    return str(rows(db, 'sessions'))


@pytest.mark.parametrize('stop', [SystemExit, KeyboardInterrupt])
def test_a_handler_that_ends_the_program_leaves_nothing_behind(db, stop):
    def ends(db, form):
        store_k(db)
        raise stop

    browser = site(ends, as_usual)
    with pytest.raises(stop):
        browser.post('/ends')
    assert browser.post('/as_usual').text == 'done'


def as_usual(db, form=None):
    store_k(db)
    return 'done'


def as_the_chapter_does(db, form=None):
    cursor = db.cursor()
    cursor.execute(INSERT, ('k', 0))
    db.commit()
    return 'done'


def in_a_block(db, form=None):
    with db:
        store_k(db)
    return 'done'


def in_bytes(db, form=None):
    store_k(db)
    return b'done'


WAYS = [as_usual, as_the_chapter_does, in_a_block, in_bytes]


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('handler', WAYS)
def test_a_handler_may_write_whatever_its_method(db, handler, method):
    answer = site(handler).request(f'/{handler.__name__}', method=method)
    assert answer.text == 'done'
    assert rows(db, 'sessions') == 1


def by_redirect(db, form):
    store_k(db)
    bottle.redirect('/')


def by_a_response(db, form):
    store_k(db)
    return bottle.HTTPResponse('done', 303)


@pytest.mark.parametrize('handler', [by_redirect, by_a_response])
def test_a_form_that_ends_in_a_redirect_is_stored(db, handler):
    site(handler).post(f'/{handler.__name__}')
    assert rows(db, 'sessions') == 1


def by_abort(db, form):
    store_k(db)
    bottle.abort(404, 'no')


def test_a_form_that_ends_in_an_error_changes_nothing(db):
    site(by_abort).post('/by_abort', status=404)
    assert rows(db, 'sessions') == 0


def writes_and_fails(db):
    store_k(db)
    db.execute(INSERT, ('k', 0))


def test_a_page_that_fails_changes_nothing(db):
    site(writes_and_fails).get('/writes_and_fails', expect_errors=True)
    assert rows(db, 'sessions') == 0


def commits_and_fails(db, form):
    as_the_chapter_does(db)
    db.execute(INSERT, ('another', 0))
    db.execute(INSERT, ('another', 0))


def test_the_chapters_commit_keeps_what_came_before_it(db):
    answer = site(commits_and_fails).post('/commits_and_fails', expect_errors=True)
    assert answer.status_code == 500
    assert ('k',) in db.execute('SELECT key FROM sessions').fetchall()


def leaves_a_transaction_open(db):
    db.execute('BEGIN')
    db.execute('SELECT * FROM sessions').fetchall()
    return 'a page'


def test_a_transaction_that_a_page_leaves_open_hides_nothing(db):
    browser = site(leaves_a_transaction_open, counts)
    browser.get('/leaves_a_transaction_open')
    store_k(db)
    assert browser.get('/counts').text == '1'


def test_a_form_waits_for_other_writers(db, path):
    browser = site(as_usual)
    with ThreadPoolExecutor() as pool:
        with another_writer(path):
            answer = pool.submit(browser.post, '/as_usual')
            wait([answer], timeout=0.5)  # seconds
            assert not answer.done()
        assert answer.result().text == 'done'


def test_a_lock_that_lasts_is_told_with_its_cause(db, path, monkeypatch, caplog):
    monkeypatch.setattr(database, 'MAX_WAIT', 0)  # seconds
    with another_writer(path):
        site(as_usual).post('/as_usual', status=503)
    assert 'another connection or program has written, and not committed' in caplog.text


def connects_anew_and_writes(db, form):
    store_k(db)
    other = sqlite3.connect(db.path, timeout=0)  # seconds; without, it is five
    other.execute(INSERT, ('another', 0))
    return 'done'


def test_a_second_connection_in_a_handler_is_told(db, caplog):
    browser = site(connects_anew_and_writes)
    browser.post('/connects_anew_and_writes', status=503)
    assert 'another connection or program has written, and not committed' in caplog.text
    assert rows(db, 'sessions') == 0


def test_a_request_has_one_deadline_for_all_that_it_waits_for(db, path, monkeypatch):
    """For the connection, and for the lock: ours, and not SQLite's own besides."""

    def has_waited_already(db, form):
        monkeypatch.setattr(database, 'MAX_WAIT', 60)  # seconds, for later requests
        return in_a_block(db)

    monkeypatch.setattr(database, 'MAX_WAIT', 60)
    browser = site(has_waited_already, as_usual, autocommit=True)
    browser.post('/as_usual')
    monkeypatch.setattr(database, 'MAX_WAIT', 0)
    began = time.monotonic()
    with another_writer(path):
        browser.post('/has_waited_already', status=503)
    assert time.monotonic() - began < 30


def reads_one_row_and_refuses(db):
    cursor = db.cursor()
    cursor.execute('SELECT key FROM sessions')
    cursor.fetchone()
    raise bottle.HTTPError(404)


@pytest.fixture
def no_collector():
    """What is in a reference cycle stays, as it may for long."""
    gc.disable()
    yield
    gc.enable()


def test_a_query_that_was_not_read_to_its_end_hides_nothing(db, no_collector):
    for number in range(9):
        db.execute(INSERT, (f'{number}', 0))
    browser = site(reads_one_row_and_refuses, counts)
    browser.get('/reads_one_row_and_refuses', status=404)
    db.execute(INSERT, ('new', 0))
    assert browser.get('/counts').text == '10'


def test_whoever_finds_the_connection_in_use_is_told(db, monkeypatch, caplog):
    begun = Event()
    done = Event()

    def slow(db):
        begun.set()
        done.wait(60)
        return 'at last'

    browser = site(slow, counts)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(browser.get, '/slow')
        begun.wait(60)
        monkeypatch.setattr(database, 'MAX_WAIT', 0)  # seconds
        browser.get('/counts', status=503)
        assert 'a request before this one has not ended' in caplog.text
        done.set()
    assert first.result().text == 'at last'
    assert browser.get('/counts').text == '0'
