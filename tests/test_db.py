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
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

import db as database
from conftest import PASSWORD, ROOT, another_writer, rows
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


def test_a_database_in_memory_works_as_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    db = COMP249Db(':memory:')
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
    assert database.read_session(db, user_key, now=0) is None


def test_these_queries_read_no_whole_table(db, key, user_key):
    statements = []
    db.set_trace_callback(statements.append)
    database.add_session(db, 'new', None, 0, 1)
    database.read_session(db, key, 0)
    database.get_user(db, key)
    database.extend_session(db, key, 1)
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


def test_a_block_waits_for_other_writers(db, path):
    with ThreadPoolExecutor() as pool:
        with another_writer(path):
            adding = pool.submit(database.add_user, db, 'anna', PASSWORD)
            wait([adding], timeout=0.5)  # seconds
            assert not adding.done()
        adding.result()
    assert rows(db, 'users') == 1


def test_the_chapters_commit_does_no_harm(db, key):
    """The chapter commits after each write, some of which now stand in a block."""
    with contextlib.suppress(KeyboardInterrupt), db:
        store_like(db, key, 'tea')
        db.commit()
        with db:
            store_like(db, key, 'milk')
        raise KeyboardInterrupt
    db.execute('INSERT INTO likes (thing, key) VALUES (?, ?)', ('cats', key))
    db.commit()
    assert get_likes(db, key) == ['tea', 'cats']


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
    before = open_files()
    errors = []
    for _ in range(9):
        with pytest.raises(sqlite3.DatabaseError) as raised:
            COMP249Db(path)
        errors.append(raised.value)  # an error keeps what it met alive
    assert open_files() == before


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


def test_adduser_makes_a_user_who_can_log_in(path, db, browser):
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


def test_reset_makes_a_missing_file(path):
    assert admin(path, 'reset', '--yes').returncode == 0
    assert admin(path, 'show').stdout.count(': 0') == 4


def test_reset_makes_tables_of_another_version_anew(path, db, key):
    database.add_user(db, 'otto', PASSWORD)
    with db:
        db.execute('ALTER TABLE users ADD COLUMN email TEXT')
        db.execute('CREATE TABLE friends (name TEXT REFERENCES users)')
        db.execute("INSERT INTO friends VALUES ('otto')")
        db.execute('PRAGMA user_version = 99')
    refused = admin(path, 'show')
    assert refused.returncode == 1
    assert '`db.py reset`' in refused.stderr
    assert admin(path, 'reset', '--yes').returncode == 0
    assert admin(path, 'adduser', 'anna', given=PASSWORD).returncode == 0


def test_reset_leaves_the_file_of_another_program_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute('CREATE TABLE likes (thing TEXT)')
    before = path.read_bytes()
    done = admin(path, 'reset', '--yes')
    assert done.returncode == 1
    assert 'another program' in done.stderr
    assert path.read_bytes() == before


def test_show_prints_the_tables(path, browser, user):
    browser.like('crème brûlée 🍮')
    output = admin(path, 'show').stdout
    for shown in ('users: 1', 'sessions: 1', 'crème brûlée 🍮', browser.key[:8]):
        assert shown in output
    assert browser.key not in output


@POSIX
def test_show_ends_quietly_when_nobody_reads_on(path, db, browser):
    browser.get('/')
    with db:
        for number in range(9000):
            store_like(db, browser.key, str(number))
    show = subprocess.Popen(
        command(path, 'show'), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    show.stdout.readline()
    show.stdout.close()
    assert show.stderr.read() == b''
    show.stderr.close()
    show.wait(60)


def test_show_reads_while_the_app_writes(path, db):
    with another_writer(path):
        done = admin(path, 'show')
    assert done.returncode == 0


def test_show_prints_what_is_no_text(path, db, browser):
    browser.log_in('otto')
    with db:
        db.execute('UPDATE failed_logins SET at = 1e12')  # SQLite knows no such year
    assert 'otto None' in admin(path, 'show').stdout


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
    'no such file yet': (['--db', 'typo.db', 'adduser', 'ben'], PASSWORD, 'typo.db'),
    'another password for nobody': (['passwd', 'ben'], PASSWORD, 'no user'),
    'deleting nobody': (['deluser', 'ben'], '', 'no user'),
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
