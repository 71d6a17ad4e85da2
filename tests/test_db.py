"""The tables, the queries, the file and the admin command."""

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

import db as database
from conftest import PASSWORD, ROOT

FOREVER = 2**40


@pytest.fixture
def key(db):
    """The key of an anonymous session."""
    database.add_session(db, 'anonymous', None, FOREVER)
    return 'anonymous'


@pytest.fixture
def user_key(db, user):
    """The key of a session of the user."""
    database.add_session(db, 'identified', user, FOREVER)
    return 'identified'


def test_likes_of_a_session_come_back_in_order(db, key):
    for thing in ('pears', 'apples'):
        database.store_like(db, key, thing)
    assert database.get_likes(db, key) == ['pears', 'apples']


def test_a_key_that_nobody_has_likes_nothing(db, key):
    assert database.get_likes(db, 'made up') == []
    assert database.store_like(db, 'made up', 'tea') is False


def test_create_table_drops_everything(db, user_key):
    database.store_like(db, user_key, 'tea')
    database.create_table(db)
    for table in ('users', 'sessions', 'likes', 'failed_logins'):
        assert db.execute(f'SELECT count(*) FROM {table}').fetchone() == (0,)


def test_a_database_in_memory_works():
    db = database.COMP249Db(':memory:')
    database.create_table(db)
    database.add_session(db, 'k', None, FOREVER)
    database.store_like(db, 'k', 'tea')
    assert isinstance(db, sqlite3.Connection)
    assert database.get_likes(db, 'k') == ['tea']
    db.close()


def test_a_like_belongs_to_the_session_or_the_user_never_both(db, key, user_key):
    database.store_like(db, key, 'tea')
    database.store_like(db, user_key, 'coffee')
    rows = db.execute('SELECT thing, key, username FROM likes ORDER BY thing').fetchall()
    assert rows == [('coffee', None, 'anna'), ('tea', key, None)]
    with pytest.raises(sqlite3.IntegrityError):
        db.execute('INSERT INTO likes VALUES (?, ?, ?)', ('both', key, 'anna'))
    with pytest.raises(sqlite3.IntegrityError):
        db.execute('INSERT INTO likes VALUES (?, NULL, NULL)', ('neither',))


def test_an_anonymous_session_takes_its_likes_along(db, key):
    database.store_like(db, key, 'tea')
    database.end_session(db, key)
    assert db.execute('SELECT count(*) FROM likes').fetchone() == (0,)


def test_a_users_session_leaves_its_likes(db, user_key):
    database.store_like(db, user_key, 'tea')
    database.end_session(db, user_key)
    assert db.execute('SELECT count(*) FROM likes').fetchone() == (1,)


def test_deleting_a_user_takes_sessions_and_likes_along(db, key, user_key):
    database.store_like(db, key, 'coffee')
    database.store_like(db, user_key, 'tea')
    database.delete_user(db, 'anna')
    assert db.execute('SELECT key FROM sessions').fetchall() == [(key,)]
    assert database.get_likes(db, key) == ['coffee']
    assert db.execute('SELECT count(*) FROM likes').fetchone() == (1,)


@pytest.mark.parametrize('owner', ['key', 'user_key'])
def test_a_list_is_full_at_a_thousand_but_a_repeat_still_is_no_error(db, owner, request):
    key = request.getfixturevalue(owner)
    with database.writing(db):
        for number in range(database.MAX_LIKES):
            database.store_like(db, key, str(number))
    with pytest.raises(database.ListFull):
        database.store_like(db, key, 'one more')
    assert database.store_like(db, key, '7')
    assert len(database.get_likes(db, key)) == database.MAX_LIKES


LOOKUPS = {
    'likes of a session': 'SELECT thing FROM likes WHERE key = ?',
    'likes of a user': 'SELECT thing FROM likes WHERE username = ?',
    'a session': 'SELECT 1 FROM sessions WHERE key = ?',
    'sessions of a user': 'DELETE FROM sessions WHERE username = ?',
    'expired sessions': 'SELECT key FROM sessions WHERE expires <= ?',
    'failed logins': 'SELECT at FROM failed_logins WHERE username = ?',
    'old failed logins': 'SELECT rowid FROM failed_logins WHERE at <= ?',
}


@pytest.mark.parametrize('query', LOOKUPS.values(), ids=LOOKUPS)
def test_no_lookup_reads_a_whole_table(db, query):
    plan = [row[3] for row in db.execute(f'EXPLAIN QUERY PLAN {query}', ('x',))]
    assert not any(step.startswith('SCAN') for step in plan), plan


def test_a_failure_in_a_transaction_leaves_all_as_it_was(db, key):
    database.store_like(db, key, 'tea')
    with contextlib.suppress(KeyboardInterrupt), database.writing(db):
        database.forget_likes(db, key)
        raise KeyboardInterrupt
    assert database.get_likes(db, key) == ['tea']


def test_a_cursor_waits_for_a_locked_database_too(db, path):
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute('BEGIN IMMEDIATE')
    release = threading.Timer(0.1, lambda: other.execute('COMMIT'))
    release.start()
    db.cursor().execute('INSERT INTO sessions VALUES (?, NULL, ?)', ('k', FOREVER))
    release.join()
    other.close()


def test_a_transaction_holds_off_other_writers_from_its_begin(db, path, monkeypatch):
    """One that took the lock later would be refused at once if another wrote in between, whatever the timeout is."""
    monkeypatch.setattr(database, 'LOCK_TIMEOUT', 0.05)
    other = database.COMP249Db(path)
    with database.writing(other), pytest.raises(database.OperationalError, match='locked'):
        database.add_session(db, 'k', None, FOREVER)
    database.add_session(db, 'k', None, FOREVER)
    other.close()


def test_the_write_ahead_log_is_emptied_in_time_beside_other_connections(path, monkeypatch):
    monkeypatch.setattr(database, 'CHECKPOINT_INTERVAL', 10)
    db, other = database.COMP249Db(path), database.COMP249Db(path)
    for number in range(200):
        database.add_session(db, f'a{number}', None, FOREVER)
        with database.writing(other):
            database.add_session(other, f'b{number}', None, FOREVER)
    # Each of the 400 writes at least one page of 4 KB into the log, which never gets smaller.
    assert path.with_name(path.name + '-wal').stat().st_size < 400_000
    other.close()
    db.close()


def test_short_lived_connections_do_not_let_the_log_grow(path, db):
    for number in range(100):
        with contextlib.closing(database.COMP249Db(path)) as other:
            database.add_session(other, f'{number}', None, FOREVER)
    assert path.with_name(path.name + '-wal').stat().st_size < 100_000


def test_sqlite_never_empties_the_log_by_itself(db):
    assert db.execute('PRAGMA wal_autocheckpoint').fetchone() == (0,)


def test_nobody_else_writes_while_the_log_is_emptied(db, path, monkeypatch):
    """SQLite before 3.51.3 can lose what is written meanwhile (sqlite.org/wal.html, "The WAL-Reset Bug")."""
    monkeypatch.setattr(database, 'LOCK_TIMEOUT', 0)
    other, refused = database.COMP249Db(path), []

    def write_first(*args, connect=sqlite3.connect, **options):
        with pytest.raises(database.OperationalError, match='locked'):
            database.add_session(other, 'other', None, FOREVER)
        refused.append(True)
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, 'connect', write_first)
    db.checkpoint_due = 0
    database.add_session(db, 'k', None, FOREVER)
    assert refused == [True]
    other.close()


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no colon in the names of files')
def test_a_name_that_looks_like_a_uri_is_the_name_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database.COMP249Db('file:likes.db').close()
    assert os.listdir(tmp_path) == ['file:likes.db']


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere the names of files are text')
def test_the_log_of_a_file_is_emptied_whatever_its_name(tmp_path):
    db = database.COMP249Db(os.fsdecode(os.fsencode(tmp_path) + b'/\xff.db'))
    db.checkpoint_due = 0
    database.add_session(db, 'k', None, FOREVER)
    db.close()
    assert os.listdir(os.fsencode(tmp_path)) == [b'\xff.db']


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no limit on the size of files')
def test_a_log_that_cannot_be_emptied_for_want_of_room_stops_no_writer(db, path):
    import resource

    def fill(key, count):
        with database.writing(db):
            database.add_session(db, key, None, FOREVER)
            for number in range(count):
                database.store_like(db, key, f'{number:2000}')

    fill('first', 400)
    db.checkpoint()
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # room in the log, which starts anew, none in the file
    try:
        fill('second', 50)
        db.checkpoint_due = 0
        database.add_session(db, 'third', None, FOREVER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    db.checkpoint()
    assert path.stat().st_size > size
    assert len(database.get_likes(db, 'second')) == 50


def test_a_reader_that_does_not_end_keeps_the_log_but_stops_no_writer(db, path, monkeypatch):
    reader = database.COMP249Db(path)
    reader.execute('BEGIN')
    database.find_session(reader, 'k', 0)
    db.checkpoint_due = 0
    database.add_session(db, 'k', None, FOREVER)
    assert database.find_session(db, 'k', 0)
    assert database.find_session(reader, 'k', 0) is None
    reader.execute('COMMIT')
    assert database.find_session(reader, 'k', 0)
    reader.close()


def test_what_was_answered_is_on_the_disk(db):
    assert db.execute('PRAGMA journal_mode').fetchone() == ('wal',)
    assert db.execute('PRAGMA synchronous').fetchone() == (2,)  # FULL
    assert db.execute('PRAGMA foreign_keys').fetchone() == (1,)


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no file modes')
def test_only_the_owner_reads_the_files(db, path, key):
    for name in (path, f'{path}-wal', f'{path}-shm'):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no file modes')
def test_nobody_else_reads_the_file_even_for_a_moment(path, monkeypatch):
    """Who has opened it in that moment could read on."""
    monkeypatch.setattr(os, 'chmod', lambda *_: None)
    before = os.umask(0)
    try:
        database.COMP249Db(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no file modes')
def test_a_link_may_lead_to_a_file_yet_to_be_made(tmp_path):
    link = tmp_path / 'link'
    link.symlink_to(tmp_path / 'likes.db')
    database.COMP249Db(link).close()
    assert stat.S_IMODE(os.stat(tmp_path / 'likes.db').st_mode) == 0o600


# The admin command


def admin(path, *arguments, given=''):
    """Run `python db.py` in another folder; returns (exit status, standard output, standard error)."""
    command = [sys.executable, str(ROOT / 'db.py'), '--db', str(path), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, encoding='utf-8', cwd=path.parent)
    return done.returncode, done.stdout, done.stderr


def test_adduser_makes_a_user_who_can_log_in(path, browser):
    assert admin(path, 'adduser', 'zoë', given=f'{PASSWORD}\n')[0] == 0
    browser.log_in('zoë')
    assert browser.username == 'zoë'


def test_passwd_changes_the_password_and_ends_the_sessions(path, browser, user):
    browser.log_in()
    assert admin(path, 'passwd', 'anna', given='another password\n')[0] == 0
    assert browser.username is None
    browser.log_in(password='another password')
    assert browser.username == 'anna'


def test_deluser_removes_the_user(path, browser, user):
    browser.log_in()
    assert admin(path, 'deluser', 'anna')[0] == 0
    assert browser.username is None
    assert 'Login failed' in browser.log_in()


def test_logout_ends_the_sessions_of_a_user(path, browser, user):
    browser.log_in()
    assert admin(path, 'logout', 'anna')[0] == 0
    assert browser.username is None


def test_reset_empties_the_database_under_a_running_app(path, browser, user):
    browser.like('tea')
    assert admin(path, 'reset', '--yes')[0] == 0
    assert browser.likes == []


@pytest.mark.parametrize(('answer', 'likes'), [('y\n', []), ('n\n', ['tea']), ('\n', ['tea']), ('', ['tea'])])
def test_reset_asks_first(path, browser, answer, likes):
    browser.like('tea')
    admin(path, 'reset', given=answer)
    assert browser.likes == likes


def test_show_plays_no_tricks_on_the_terminal(path, browser):
    browser.log_in('\x1b]0;owned\x07\n    root')
    output = admin(path, 'show')[1]
    assert '\x1b' not in output
    assert r'\x1b]0;owned\x07\n    root' in output


def test_show_prints_the_tables_but_no_secret(path, browser, user, db):
    browser.like('crème brûlée 🍮')
    status, output, _ = admin(path, 'show')
    assert status == 0
    assert 'crème brûlée 🍮' in output
    assert browser.key[:8] in output
    assert browser.key not in output
    assert database.get_password_hash(db, 'anna') not in output


MISTAKES = {
    'a short password': (['adduser', 'ben'], 'seven77\n', 'at least 8'),
    'no password': (['adduser', 'ben'], '', 'at least 8'),
    'a name that is taken': (['adduser', 'anna'], f'{PASSWORD}\n', 'already'),
    'an empty name': (['adduser', ''], f'{PASSWORD}\n', 'username'),
    'a name with a line break': (['adduser', 'a\nb'], f'{PASSWORD}\n', 'username'),
    'a name with space at its end': (['adduser', 'ben '], f'{PASSWORD}\n', 'username'),
    'a name too long': (['adduser', 'b' * 101], f'{PASSWORD}\n', 'username'),
    'a new password for nobody': (['passwd', 'ben'], f'{PASSWORD}\n', 'no user'),
    'deleting nobody': (['deluser', 'ben'], '', 'no user'),
    'logging out nobody': (['logout', 'ben'], '', 'no user'),
    'a file in no folder': (['--db', 'no/such/folder/likes.db', 'adduser', 'ben'], '', 'No such file or directory'),
    'a file that is not there': (['--db', 'typo.db', 'deluser', 'anna'], '', 'no file typo.db'),
}


@pytest.mark.parametrize(('arguments', 'given', 'words'), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_line(path, user, db, arguments, given, words):
    before = list(db.iterdump())
    status, output, error = admin(path, *arguments, given=given)
    assert (status, output) == (1, '')
    assert words in error
    assert error.count('\n') == 1
    assert list(db.iterdump()) == before
    assert not path.with_name('typo.db').exists()


@pytest.mark.skipif(os.name == 'nt', reason='needs a pseudo-terminal')
@pytest.mark.parametrize(
    ('again', 'says', 'users'),
    [(PASSWORD, '', 1), ('something else', 'db.py: the two passwords differ', 0), (None, 'cancelled', 0)],
    ids=['the same', 'another', 'Ctrl-C'],
)
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(path, db, again, says, users):
    ours, theirs = os.openpty()
    command = [sys.executable, ROOT / 'db.py', '--db', path, 'adduser', 'anna']
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = ''
    with open(ours, 'r+b', buffering=0) as terminal, contextlib.suppress(OSError):  # which on Linux stands for the end
        for answer, prompt in ((PASSWORD, 'Password: '), (again, 'again: ')):
            while not shown.endswith(prompt):
                shown += terminal.read(100).decode()
            if answer:
                terminal.write(f'{answer}\n'.encode())
            else:
                child.send_signal(signal.SIGINT)
        while more := terminal.read(100):
            shown += more.decode()
    assert child.wait(20) == (not users)
    assert shown.splitlines()[-1].endswith(says)
    assert PASSWORD not in shown
    assert db.execute('SELECT count(*) FROM users').fetchone() == (users,)


def test_a_password_from_a_pipe_keeps_its_spaces(path, browser):
    admin(path, 'adduser', 'anna', given=' in spaces \r\n')
    browser.log_in(password='in spaces')
    assert browser.username is None
    browser.log_in(password=' in spaces ')
    assert browser.username == 'anna'


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs a full device')
def test_a_table_that_cannot_be_printed_is_told_in_one_line(path, db):
    with open('/dev/full', 'w') as full:
        command = [sys.executable, ROOT / 'db.py', '--db', path, 'show']
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, 'db.py: [Errno 28] No space left on device\n')


@pytest.mark.skipif(os.name == 'nt', reason='needs sh')
def test_the_command_needs_no_standard_output(path, browser):
    command = ['sh', '-c', '"$0" "$@" >&-', sys.executable, ROOT / 'db.py', '--db', path, 'adduser', 'anna']
    subprocess.run(command, input=PASSWORD, text=True, check=True)
    browser.log_in()
    assert browser.username == 'anna'
