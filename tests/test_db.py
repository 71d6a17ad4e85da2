"""The helper functions, what the tables refuse, transactions, and the admin command, each called as a program may."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys

import pytest

import db as database
from conftest import PASSWORD, ROOT
from db import COMP249Db, get_likes, store_like, writing

POSIX = pytest.mark.skipif(os.name == 'nt', reason='Windows has no file modes and no terminals of this kind')


@pytest.fixture
def key(db):
    """The key of an anonymous session."""
    database.add_session(db, 'k', None, 0, 2**40)
    return 'k'


@pytest.fixture
def user_key(db, user):
    """The key of a session of the user."""
    database.add_session(db, 'u', user, 0, 2**40)
    return 'u'


@pytest.mark.parametrize('owner', ['key', 'user_key'])
def test_likes_are_returned_in_order_without_repeats(db, owner, request):
    key = request.getfixturevalue(owner)
    for thing in ('walnuts', 'apples', 'walnuts', 'Apples'):
        assert store_like(db, key, thing) is None
    assert get_likes(db, key) == ['walnuts', 'apples', 'Apples']
    assert get_likes(db, 'another') == []


@pytest.mark.parametrize('owners', [(None, None), ('k', 'anna'), ('nobody', None), (None, 'nobody')])
def test_a_like_has_one_owner_who_exists(db, key, user_key, owners):
    with pytest.raises(sqlite3.IntegrityError), writing(db):
        db.execute('INSERT INTO likes (thing, key, username) VALUES (?, ?, ?)', ('tea', *owners))


def test_deleting_a_user_takes_sessions_and_likes_along_and_nothing_else(db, key, user_key):
    store_like(db, key, 'coffee')
    store_like(db, user_key, 'tea')
    database.delete_user(db, 'anna')
    assert db.execute('SELECT key FROM sessions').fetchall() == [(key,)]
    assert db.execute('SELECT thing FROM likes').fetchall() == [('coffee',)]


@pytest.mark.parametrize('where', ["key = 'x'", "username = 'x'", "key = 'x' OR username = 'x'"])
@pytest.mark.parametrize('table', ['likes', 'sessions'])
def test_no_owner_is_looked_for_in_a_whole_table(db, table, where):
    plan = [row[3] for row in db.execute(f'EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {where}')]
    assert not any(step.startswith('SCAN') for step in plan), plan


@POSIX
def test_only_the_owner_reads_the_files(path, monkeypatch):
    before = os.umask(0)
    try:
        with contextlib.closing(COMP249Db(path)) as db:
            database.add_session(db, 'k', None, 0, 0)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes.pop('likes.db') == 0o600
    assert set(modes.values()) == {0o600}


def test_a_failure_leaves_all_as_it_was(db, key):
    store_like(db, key, 'tea')
    with contextlib.suppress(KeyboardInterrupt), writing(db):
        database.forget_likes(db, key)
        store_like(db, key, 'coffee')
        raise KeyboardInterrupt
    assert get_likes(db, key) == ['tea']
    store_like(db, key, 'milk')
    assert get_likes(db, key) == ['tea', 'milk']


def test_nothing_is_written_between_a_read_and_the_write_that_depends_on_it(db, key, path):
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as other, writing(db):
        get_likes(db, key)
        with pytest.raises(sqlite3.OperationalError, match='locked'):
            other.execute('DELETE FROM sessions')
        store_like(db, key, 'tea')
    assert get_likes(db, key) == ['tea']


def test_a_plain_with_is_refused_since_it_would_be_no_transaction(db, key):
    with pytest.raises((TypeError, AttributeError)), db:
        store_like(db, key, 'tea')
    assert get_likes(db, key) == []


def test_what_was_answered_is_on_the_disk(db):
    assert [db.execute(f'PRAGMA {name}').fetchone()[0] for name in ('journal_mode', 'synchronous')] == ['wal', 2]


def admin(path, *arguments, given=''):
    """Run `python db.py` in another folder; returns (exit status, standard output, standard error)."""
    command = [sys.executable, str(ROOT / 'db.py'), '--db', str(path), *arguments]
    environ = {**os.environ, 'PYTHONUTF8': '1'}
    done = subprocess.run(command, input=given, capture_output=True, encoding='utf-8', cwd=path.parent, env=environ)
    return done.returncode, done.stdout, done.stderr


def test_adduser_makes_a_user_who_can_log_in(path, browser):
    assert admin(path, 'adduser', 'zoe\u0308 ', given=' in spaces \r\n') == (0, '', '')
    browser.log_in('zoë', 'in spaces')
    assert browser.username is None
    browser.log_in('zoë', ' in spaces ')
    assert browser.username == 'zoë'


def test_passwd_changes_the_password_and_lets_the_user_in_again(path, browser, user):
    for _ in range(6):
        browser.log_in(password='guess')
    assert admin(path, 'passwd', 'anna', given='eight ch\n') == (0, '', '')
    assert browser.log_in().status_code == 200
    assert browser.log_in(password='eight ch').status_code == 303


@pytest.mark.parametrize(('answer', 'likes'), [('y\n', []), ('n\n', ['tea']), ('\n', ['tea']), ('', ['tea'])])
def test_reset_asks_first(path, browser, answer, likes):
    browser.like('tea')
    admin(path, 'reset', given=answer)
    assert browser.likes == likes


def test_show_prints_the_tables_but_no_secret_and_plays_no_tricks(path, browser, user, db):
    browser.like('crème brûlée 🍮')
    browser.log_in('\x1b]0;owned\x07\n    root')
    status, output, _ = admin(path, 'show')
    assert status == 0
    for shown in ('users: 1', 'sessions: 1', 'likes: 1', 'crème brûlée 🍮', browser.key[:8], r'\x1b]0;owned\x07\n'):
        assert shown in output
    for secret in ('\x1b', browser.key, database.get_password_hash(db, 'anna')):
        assert secret not in output


MISTAKES = {
    'a short new password': (['passwd', 'anna'], 'seven77\n', 'at least 8'),
    'a name that is taken': (['adduser', ' anna'], f'{PASSWORD}\n', 'already'),
    'an empty name': (['adduser', ' '], f'{PASSWORD}\n', 'username'),
    'a name with a line break': (['adduser', 'a\nb'], f'{PASSWORD}\n', 'username'),
    'a name too long': (['adduser', 'b' * 101], f'{PASSWORD}\n', 'username'),
    'deleting nobody': (['deluser', 'ben'], '', 'no user'),
    'a file in no folder': (['--db', 'no/such/folder/likes.db', 'adduser', 'ben'], '', 'No such file or directory'),
    'a file that is not there': (['--db', 'typo.db', 'deluser', 'anna'], '', 'no file typo.db'),
    'an empty path': (['--db', '', 'show'], '', 'no file'),
    'an empty path to reset': (['--db', '', 'reset', '--yes'], '', 'open'),
}


@pytest.mark.parametrize(('arguments', 'given', 'words'), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(path, user, db, arguments, given, words):
    before = list(db.iterdump())
    status, output, error = admin(path, *arguments, given=given)
    assert (status, output, error.count('\n')) == (1, '', 1)
    assert words in error
    assert list(db.iterdump()) == before
    assert not path.with_name('typo.db').exists()
