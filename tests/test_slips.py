"""Handlers as a student may write them, or miswrite them: what comes of it."""

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


def site(*handlers):
    """A site with these handlers, for all methods; the address of each is its name."""
    site = bottle.Bottle()
    site.install(app.DatabasePlugin())
    for handler in handlers:
        site.route(f'/{handler.__name__}', METHODS, handler)
    return TestApp(site)


@pytest.fixture(autouse=True)
def tables(db):
    """Each test has the tables."""


def without_db():
    return 'a page'


def without_form(db):
    return 'a page'


def without_return(db):
    database.get_likes(db, 'k')


def with_a_yield(db, form):
    with db:
        db.execute(INSERT, ('k', 0))
        yield 'a page'


def with_a_file_that_is_missing(db):
    return open('no/such/file').read()


def with_a_slip_in_sql(db):
    return db.execute('SELECT thnig FROM likes').fetchall()


def with_a_block_that_fails(db):
    with db:
        db.execute(INSERT, ('k', 0))
        raise KeyError('slip')


def with_a_transaction_left_open(db):
    db.execute('BEGIN')
    db.execute('SELECT * FROM sessions')
    return 'a page'


def with_a_write_left_open(db, form):
    db.execute('BEGIN')
    db.execute(INSERT, ('k', 0))
    return 'a page'


def counts(db):
    return str(rows(db, 'sessions'))


SLIPS = {
    without_db: ('GET', "without_db() got an unexpected keyword argument 'db'"),
    without_form: ('POST', "without_form() got an unexpected keyword argument 'form'"),
    without_return: ('GET', 'without_return() returned None'),
    with_a_yield: ('POST', 'with_a_yield() returned <generator'),
    with_a_file_that_is_missing: ('GET', 'No such file'),
    with_a_slip_in_sql: ('GET', 'no such column: thnig'),
    with_a_transaction_left_open: ('GET', 'a transaction was begun, and not ended'),
    with_a_write_left_open: ('POST', 'a transaction was begun, and not ended'),
    with_a_block_that_fails: ('GET', "KeyError: 'slip'"),
}


@pytest.mark.parametrize('handler', SLIPS)
def test_a_slip_is_told_by_its_name_and_changes_nothing(db, handler):
    method, told = SLIPS[handler]
    browser = site(handler, counts)
    answer = browser.request(f'/{handler.__name__}', method=method, expect_errors=True)
    assert answer.status_code == 500
    assert told in answer.errors
    with db:
        db.execute(INSERT, ('another', 0))
    assert browser.get('/counts').text == '1'


def in_a_block(db, form=None):
    with db:
        db.execute(INSERT, ('k', 0))
    return 'done'


def as_the_chapter_does(db, form=None):
    cursor = db.cursor()
    cursor.execute(INSERT, ('k', 0))
    db.commit()
    return 'done'


def in_a_block_that_commits(db, form=None):
    with db:
        as_the_chapter_does(db)
    return 'done'


WAYS = [in_a_block, as_the_chapter_does, in_a_block_that_commits]


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('handler', WAYS)
def test_a_handler_may_write_whatever_its_method(db, handler, method):
    answer = site(handler).request(f'/{handler.__name__}', method=method)
    assert answer.text == 'done'
    assert rows(db, 'sessions') == 1


def test_a_statement_outside_a_block_waits_for_other_writers(db, path):
    browser = site(in_a_block, as_the_chapter_does)
    browser.post('/in_a_block')
    db.execute('DELETE FROM sessions')
    with ThreadPoolExecutor() as pool:
        with another_writer(path):
            answer = pool.submit(browser.post, '/as_the_chapter_does')
            wait([answer], timeout=0.5)  # seconds
            assert not answer.done()
        assert answer.result().text == 'done'


def test_a_request_waits_no_longer_for_all_than_its_time(db, path, monkeypatch):
    def has_waited_already(db, form):
        monkeypatch.setattr(database, 'MAX_WAIT', 60)  # seconds, for later requests
        return in_a_block(db)

    browser = site(has_waited_already)
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


def test_a_query_that_was_not_read_to_its_end_hides_nothing(db):
    for number in range(9):
        with db:
            db.execute(INSERT, (f'{number}', 0))
    browser = site(reads_one_row_and_refuses, counts)
    browser.get('/reads_one_row_and_refuses', status=404)
    with db:
        db.execute(INSERT, ('new', 0))
    assert browser.get('/counts').text == '10'


def test_whoever_finds_the_connection_in_use_is_told(db, monkeypatch):
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
        done.set()
    assert first.result().text == 'at last'
    assert browser.get('/counts').text == '0'
