"""The helper functions, what the tables refuse, transactions, and the admin command."""

import contextlib
import os
import re
import select
import signal
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import db as database
from conftest import PASSWORD, ROOT, another_writer
from db import COMP249Db, get_likes, store_like

POSIX = pytest.mark.skipif(os.name == 'nt', reason='Windows has no such files')


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


@pytest.mark.parametrize('owner', ['key', 'user_key'])
def test_likes_are_returned_in_order_without_repeats(db, owner, request):
    key = request.getfixturevalue(owner)
    for thing in ('walnuts', 'apples', 'walnuts', 'Apples'):
        store_like(db, key, thing)
    assert get_likes(db, key) == ['walnuts', 'apples', 'Apples']
    assert get_likes(db, 'another') == []


def test_a_database_in_memory_works_as_any_other():
    db = COMP249Db(':memory:')
    database.add_session(db, 'k', None, now=0, lifetime=1)
    store_like(db, 'k', 'tea')
    assert get_likes(db, 'k') == ['tea']


def test_create_table_drops_what_was_there(db, key):
    store_like(db, key, 'tea')
    database.create_table(db)
    assert get_likes(db, key) == []


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
    assert database.get_sessions(db, [user_key]) == []


def test_these_queries_read_no_whole_table(db, key, user_key):
    statements = []
    db.set_trace_callback(statements.append)
    database.add_session(db, 'new', None, 0, 1)
    database.get_sessions(db, [key])
    database.extend_session(db, key, 1)
    store_like(db, key, 'tea')
    get_likes(db, key)
    database.move_likes(db, key, 'anna')
    database.delete_likes(db, user_key)
    database.delete_session(db, key)
    database.is_password(db, 'anna', PASSWORD)
    database.get_failed_logins(db, 'anna', 0, 1)
    database.add_failed_login(db, 'anna', 0, 1)
    database.set_password(db, 'anna', PASSWORD)
    database.delete_user(db, 'anna')
    db.set_trace_callback(None)
    queries = re.findall('^(?:SELECT|UPDATE|DELETE)[^;]*', ';\n'.join(statements), re.M)
    assert len(queries) > 17
    for query in queries:
        query = re.sub(r'\?|:\w+', '1', query)  # before Python 3.11 without values
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


def test_whoever_finds_all_connections_in_use_is_told(path, monkeypatch):
    monkeypatch.setattr(database, 'MAX_WAIT', 0)  # seconds
    pool = database.Pool(1)
    with pool.connection(), pytest.raises(database.Unavailable), pool.connection():
        pass


def test_a_failure_leaves_all_as_it_was(db, key):
    with contextlib.suppress(KeyboardInterrupt), db:
        store_like(db, key, 'coffee')
        raise KeyboardInterrupt
    store_like(db, key, 'milk')  # the connection goes on
    assert get_likes(db, key) == ['milk']


def test_a_block_inside_another_is_a_part_of_it(db, key):
    with contextlib.suppress(KeyboardInterrupt), db:
        with db:
            store_like(db, key, 'tea')
        raise KeyboardInterrupt
    assert get_likes(db, key) == []


def test_nothing_is_written_between_a_read_and_its_write(db, key, path):
    other = sqlite3.connect(path, timeout=0)
    with db:
        get_likes(db, key)
        with pytest.raises(sqlite3.OperationalError, match='locked'):
            other.execute('DELETE FROM sessions')
        store_like(db, key, 'tea')
    other.close()
    assert get_likes(db, key) == ['tea']


def test_whoever_has_waited_long_is_told_before_those_who_have_not(db, path):
    late = COMP249Db(path)
    late.waited = database.MAX_WAIT
    with ThreadPoolExecutor() as pool, another_writer(path):
        early = pool.submit(database.delete_session, db, 'k')
        with pytest.raises(sqlite3.OperationalError), late:
            pass
        assert not early.done()
    late.close()


def command(path, *arguments):
    """The command line of `python db.py`."""
    return [sys.executable, ROOT / 'db.py', '--db', path, *arguments]


def admin(path, *arguments, given='', encoding='utf-8'):
    """Run `python db.py` in another folder, with so much on its standard input."""
    return subprocess.run(
        command(path, *arguments),
        input=given,
        capture_output=True,
        encoding=encoding,
        cwd=path.parent,
        env={**os.environ, 'PYTHONIOENCODING': encoding, 'PYTHONUTF8': '1'},
        timeout=60,
    )


def test_adduser_makes_a_user_who_can_log_in(path, browser):
    done = admin(path, 'adduser', 'zoe\u0308 ', given=' in spaces \r\n')
    assert done.returncode == 0
    assert browser.log_in('zo\u00eb', 'in spaces').status_code == 200
    assert browser.log_in('zo\u00eb', ' in spaces ').status_code == 303
    assert browser.log_in('\tzoe\u0308', ' in spaces ').status_code == 303


def test_passwd_lets_a_user_in_by_the_new_password_alone(path, browser, user):
    for _ in range(5):
        browser.log_in(password='guess')
    admin(path, 'passwd', 'anna', given='eight ch\n')
    assert browser.log_in().status_code == 200
    assert browser.log_in(password='eight ch').status_code == 303


def test_logout_ends_a_login_and_deluser_the_account(path, browser, user):
    browser.log_in()
    admin(path, 'logout', 'anna')
    assert browser.username is None
    admin(path, 'deluser', 'anna')
    assert browser.log_in().status_code == 200


ANSWERS = [('y\n', []), ('n\n', ['tea']), ('', ['tea'])]


@pytest.mark.parametrize(('answer', 'likes'), ANSWERS)
def test_reset_asks_first(path, browser, answer, likes):
    browser.like('tea')
    admin(path, 'reset', given=answer)
    assert browser.likes == likes


def test_show_prints_the_tables(path, browser, user):
    browser.like('crème brûlée 🍮')
    output = admin(path, 'show').stdout
    for shown in ('users: 1', 'sessions: 1', 'crème brûlée 🍮', browser.key[:8]):
        assert shown in output
    assert browser.key not in output


def test_show_plays_no_tricks_on_the_terminal(path, browser):
    browser.log_in('\x1b]0;owned\x07\n    root')
    output = admin(path, 'show').stdout
    assert r'\x1b]0;owned\x07\n' in output
    assert '\x1b' not in output


def test_show_escapes_letters_that_the_output_lacks(path, browser):
    browser.like('crème brûlée 🍮')
    done = admin(path, 'show', encoding='cp1252')
    assert r'crème brûlée \U0001f36e' in done.stdout
    assert done.returncode == 0


MISTAKES = {
    'a short password': (['passwd', 'anna'], 'seven77\n', 'at least 8'),
    'a name that is taken': (['adduser', ' anna'], f'{PASSWORD}\n', 'already'),
    'a name of white space': (['adduser', ' '], f'{PASSWORD}\n', 'username'),
    'a name with a line break': (['adduser', 'a\nb'], f'{PASSWORD}\n', 'username'),
    'a name too long': (['adduser', 'b' * 101], f'{PASSWORD}\n', 'username'),
    'logging nobody out': (['logout', 'ben'], '', 'no user'),
    'no such file': (['--db', 'typo.db', 'deluser', 'anna'], '', 'no file typo.db'),
    'an empty path': (['--db', '', 'reset', '--yes'], '', 'open'),
}


@pytest.mark.parametrize(
    ('arguments', 'given', 'words'), MISTAKES.values(), ids=MISTAKES
)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(
    path, user, db, arguments, given, words
):
    before = list(db.iterdump())
    done = admin(path, *arguments, given=given)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count('\n') == 1
    assert list(db.iterdump()) == before
    assert not path.with_name('typo.db').exists()


def read(screen, end):
    """Return what a terminal shows, up to this end; fails where it does not come."""
    shown = ''
    while end not in shown:
        assert select.select([screen], [], [], 60)[0]
        shown += os.read(screen, 1000).decode()
    return shown


@pytest.fixture
def terminal(path, user):
    """`passwd` at a terminal that asks for the password: process and screen."""
    try:
        screen, tty = os.openpty()
    except OSError:
        pytest.skip('this machine has no pseudo-terminals')
    process = subprocess.Popen(
        command(path, 'passwd', user),
        stdin=tty,
        stdout=tty,
        stderr=tty,
        start_new_session=True,  # else it would ask at the terminal of the tests
    )
    os.close(tty)
    read(screen, 'Password: ')
    yield process, screen
    process.kill()
    process.wait()
    os.close(screen)


@POSIX
def test_a_password_is_asked_for_twice_without_echo(terminal):
    process, screen = terminal
    os.write(screen, b'new password\n')
    assert 'new' not in read(screen, 'again: ')
    os.write(screen, b'new passwort\n')
    assert 'new' not in read(screen, 'the two passwords differ')
    assert process.wait(60) == 1


@POSIX
def test_ctrl_c_at_the_prompt_is_told_in_one_line(terminal):
    process, screen = terminal
    process.send_signal(signal.SIGINT)
    assert 'Traceback' not in read(screen, 'db.py: stopped')
    assert process.wait(60) == 1
