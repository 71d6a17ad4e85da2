"""The helper functions, what the tables refuse, and transactions."""

import contextlib
import gc
import os
import re
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

import db as database
from conftest import PASSWORD, POSIX, ROOT, another_writer, rows
from db import COMP249Db, get_likes, store_like


@pytest.fixture
def key(db):
    """The key of an anonymous session."""
    database.add_session(db, 'k', None, now=0, lifetime=2**40)
    return 'k'


@pytest.fixture
def user_key(db, user):
    """The key of a session of the user."""
    database.add_session(db, 'u', user, now=0, lifetime=2**40)
    return 'u'


@pytest.mark.parametrize('username', [None, 'anna'])
def test_likes_are_returned_in_order_without_repeats(db, user, username):
    database.add_session(db, 'k', username, now=0, lifetime=1)
    for thing in ('walnuts', 'apples', 'walnuts', 'Apples'):
        store_like(db, 'k', thing)
    assert get_likes(db, 'k') == ['apples', 'walnuts', 'Apples']
    assert get_likes(db, 'another') == []


def test_a_database_in_memory_works_as_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(COMP249Db(':memory:')) as db:
        database.add_session(db, 'k', None, now=0, lifetime=1)
        store_like(db, 'k', 'tea')
        assert get_likes(db, 'k') == ['tea']
    assert list(tmp_path.iterdir()) == []


def test_create_table_drops_what_was_there(db, key):
    store_like(db, key, 'tea')
    database.create_table(db)
    assert get_likes(db, key) == []


def test_a_like_has_a_thing(db, key):
    with pytest.raises(sqlite3.IntegrityError):
        store_like(db, key, None)


OWNERS = [(None, None), ('k', 'anna'), ('nobody', None), (None, 'nobody')]


@pytest.mark.parametrize('owner', OWNERS)
def test_a_like_has_one_owner_who_exists(db, key, user_key, owner):
    with pytest.raises(sqlite3.IntegrityError), db:
        db.execute('INSERT INTO likes VALUES (NULL, ?, ?, ?)', ('tea', *owner))


def test_deleting_a_user_takes_sessions_and_likes_along(db, key, user_key):
    store_like(db, key, 'coffee')
    store_like(db, user_key, 'tea')
    database.delete_user(db, 'anna')
    assert get_likes(db, key) == ['coffee']
    assert get_likes(db, user_key) == []
    assert database.load_session(db, user_key, now=0) is None


def test_these_queries_read_no_whole_table(db, key, user_key):
    statements = []
    db.set_trace_callback(statements.append)
    database.add_session(db, 'new', None, 0, 1)
    database.load_session(db, key, 0)
    database.get_user(db, key)
    database.prolong_anonymous(db, key, 1)
    store_like(db, key, 'tea')
    get_likes(db, key)
    database.move_likes(db, key, 'anna')
    database.delete_likes(db, user_key)
    database.delete_session(db, key)
    database.get_password_hash(db, 'anna')
    database.get_failed_logins(db, 'anna', 0, 1)
    database.add_failed_login(db, 'anna', 0, 1)
    database.set_password(db, 'anna', PASSWORD)
    database.delete_user(db, 'anna')
    db.set_trace_callback(None)
    queries = re.findall('^(?:SELECT|UPDATE|DELETE)[^;]*', ';\n'.join(statements), re.M)
    assert len(queries) > 17
    for query in queries:
        plan = db.execute(f'EXPLAIN QUERY PLAN {query}').fetchall()
        assert 'SCAN' not in str(plan)


@POSIX
def test_only_the_owner_reads_the_files(path):
    before = os.umask(0)
    db = COMP249Db(path)
    os.umask(before)
    files = path.parent.glob('likes.db*')
    modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
    db.close()
    assert modes == {0o600}


def test_a_statement_by_itself_is_committed_at_once(db, key, path):
    store_like(db, key, 'tea')
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert rows(other, 'likes') == 1


def test_a_failure_in_a_transaction_leaves_all_as_it_was(db, key):
    with contextlib.suppress(KeyboardInterrupt), db:
        store_like(db, key, 'coffee')
        raise KeyboardInterrupt
    store_like(db, key, 'milk')  # the connection goes on
    assert get_likes(db, key) == ['milk']


def test_nothing_is_written_between_a_read_and_its_write(db, key, path):
    other = sqlite3.connect(path, timeout=0)
    with db:
        get_likes(db, key)
        with pytest.raises(sqlite3.OperationalError, match='locked'):
            other.execute('DELETE FROM sessions')
        store_like(db, key, 'tea')
    other.close()
    assert get_likes(db, key) == ['tea']


def test_a_transaction_waits_for_other_writers(db, path):
    def add_user():
        with db:
            database.add_user(db, 'anna', PASSWORD)

    with ThreadPoolExecutor() as pool:
        with another_writer(path):
            adding = pool.submit(add_user)
            wait([adding], timeout=0.5)  # seconds
            assert not adding.done()
        adding.result()
    assert rows(db, 'users') == 1


def test_what_is_no_lock_is_not_waited_for(db):
    db.execute('PRAGMA query_only = ON')
    tries = []
    db.set_trace_callback(tries.append)
    with pytest.raises(sqlite3.OperationalError, match='readonly'), db:
        pytest.fail('a transaction has begun')
    assert len(tries) == 1


def test_a_slip_in_the_tables_is_told_with_its_statement(db, monkeypatch):
    slip = 'CREATE TABLE friends (nmae TEXT,, name TEXT)'
    monkeypatch.setattr(database, 'SCHEMA', f'{database.SCHEMA};{slip}')
    with pytest.raises(sqlite3.OperationalError, match='nmae'):
        database.create_table(db)


FIRST = """
import sys
from db import COMP249Db, add_session
with COMP249Db(sys.argv[1]) as db:
    add_session(db, sys.argv[2], None, now=0, lifetime=1)
"""


def test_processes_that_start_at_once_make_one_database(path):
    processes = []
    for number in range(12):
        command = [sys.executable, '-c', FIRST, path, str(number)]
        processes.append(subprocess.Popen(command, cwd=ROOT))
    assert {process.wait(60) for process in processes} == {0}
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert rows(db, 'sessions') == 12


def test_sessions_of_other_users_outlive_a_logout_everywhere(db, user_key):
    database.add_user(db, 'ben', PASSWORD)
    database.add_session(db, 'b', 'ben', now=0, lifetime=1)
    database.log_out_everywhere(db, 'ben')
    assert db.execute('SELECT key FROM sessions').fetchall() == [(user_key,)]


def test_a_user_with_more_than_a_full_list_gets_no_more(db, key, user_key, monkeypatch):
    for thing in ('tea', 'milk'):
        store_like(db, user_key, thing)
    store_like(db, key, 'coffee')
    monkeypatch.setattr(database, 'MAX_LIKES', 1)
    database.move_likes(db, key, 'anna')
    assert get_likes(db, user_key) == ['tea', 'milk']


def open_files():
    return len(os.listdir('/proc/self/fd'))


@pytest.mark.skipif(sys.platform != 'linux', reason='counts files by Linux')
def test_a_file_that_is_refused_is_closed(path):
    path.write_text('a diary')
    gc.collect()  # closes the connections of other tests
    before = open_files()
    errors = []
    for _ in range(9):
        with pytest.raises(sqlite3.DatabaseError) as raised:
            COMP249Db(path)
        errors.append(raised.value)  # an error keeps what it met alive
    assert open_files() == before
