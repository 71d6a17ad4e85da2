"""`python db.py`: users, what is shown, and a backup's and a restore's accidents."""

import contextlib
import os
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import db as database
from conftest import PASSWORD, POSIX, ROOT, another_writer, replace, rows, until
from db import COMP249Db, store_like

LITESTREAM = shutil.which(
    'litestream', path=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
)


def command(path, *arguments, folder=ROOT):
    """The command line of `python db.py`, the code being in this folder."""
    return [sys.executable, folder / 'db.py', '--db', path, *arguments]


def admin(path, *arguments, given='', encoding='utf-8', folder=ROOT, **options):
    """Run `python db.py` in another folder, with so much on its standard input."""
    return subprocess.run(
        command(path, *arguments, folder=folder),
        input=given,
        capture_output=True,
        encoding=encoding,
        cwd=path.parent,
        env={**os.environ, 'PYTHONIOENCODING': encoding, 'PYTHONUTF8': '1'},
        timeout=60,
        **options,
    )


def refusal(path, *arguments, **options):
    """Return the one line in which a command is refused."""
    done = admin(path, *arguments, **options)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert done.stdout == ''
    return done.stderr


# ---------------------------------------------------------------------------
# Users
# ---------------------------------------------------------------------------


def test_adduser_makes_a_user_who_can_log_in(path, db, browser):
    done = admin(path, 'adduser', 'zoe\u0308 ', given=' in spaces \r\n')
    assert done.returncode == 0
    assert browser.log_in('zo\u00eb', 'in spaces').status_code == 200
    assert browser.log_in('zo\u00eb', ' in spaces ').status_code == 303
    assert browser.log_in('\tzoe\u0308', ' in spaces ').status_code == 303


def test_a_lock_is_told_with_its_cause(path, user, impatient):
    with another_writer(path):
        told = refusal(path, 'deluser', user, folder=impatient)
    assert 'another connection or program has written, and not committed' in told


def test_without_a_command_the_commands_are_told(path):
    done = admin(path)
    assert done.returncode == 2
    assert 'COMMAND' in done.stderr


def test_passwd_unlocks_a_name_for_the_new_password_alone(path, browser, user):
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


COMMANDS = ['adduser ben', 'passwd anna', 'deluser anna', 'logout anna']


@pytest.mark.parametrize('told', [*COMMANDS, 'backup copy.db'])
def test_each_command_tells_the_file_and_what_it_did(path, user, told):
    done = admin(path, *told.split(), given=PASSWORD)
    assert done.stdout == f'{path}: {told}: done\n'
    assert done.stderr == ''


# ---------------------------------------------------------------------------
# reset
# ---------------------------------------------------------------------------


def test_reset_answered_yes_drops_everything(path, browser):
    browser.like('tea')
    done = admin(path, 'reset', given='y\n')
    assert done.stdout.endswith(f'{path}: reset all: done\n')
    assert done.returncode == 0
    assert browser.likes == []


ANSWERS = [('n\n', 'nothing was dropped'), ('\n', 'nothing was dropped'), ('', 'EOF')]


@pytest.mark.parametrize(('answer', 'words'), ANSWERS)
def test_reset_drops_nothing_unless_answered_yes(path, browser, answer, words):
    browser.like('tea')
    done = admin(path, 'reset', given=answer)
    assert 'Drop all users' in done.stdout
    assert words in done.stderr
    assert done.returncode == 1
    assert browser.likes == ['tea']


def test_reset_makes_a_missing_file(path):
    assert admin(path, 'reset', '--yes').returncode == 0
    assert admin(path, 'show').stdout.count('): 0') == 4


def test_reset_makes_tables_of_another_version_anew(path, db):
    database.add_user(db, 'otto', PASSWORD)
    db.execute('ALTER TABLE users ADD COLUMN email TEXT')
    db.execute('CREATE TABLE friends (name TEXT REFERENCES users)')
    db.execute("INSERT INTO friends VALUES ('otto')")
    db.execute('PRAGMA user_version = 99')
    assert '`db.py reset`' in refusal(path, 'show')
    assert admin(path, 'reset', '--yes').returncode == 0
    assert admin(path, 'adduser', 'anna', given=PASSWORD).returncode == 0


def test_reset_leaves_the_file_of_another_program_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute('CREATE TABLE likes (thing TEXT)')
    before = path.read_bytes()
    assert 'another program' in refusal(path, 'reset', '--yes')
    assert path.read_bytes() == before


# ---------------------------------------------------------------------------
# show
# ---------------------------------------------------------------------------


def test_show_names_the_tables_and_their_columns(path, browser, user):
    browser.like('crème brûlée 🍮')
    lines = admin(path, 'show').stdout.splitlines()
    assert 'users (username, password): 1' in lines
    assert 'sessions (key, username, expires): 1' in lines
    assert 'likes (id, thing, key, username): 1' in lines
    assert f"    1 'crème brûlée 🍮' '{browser.key[:8]}' None" in lines
    assert 'failed_logins (username, at): 0' in lines


def test_show_prints_no_whole_key_or_hash(path, browser, user, db):
    browser.get('/')
    output = admin(path, 'show').stdout
    assert browser.key[:9] not in output
    assert database.get_password_hash(db, user)[:40] not in output


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


@pytest.mark.parametrize('arguments', [['show'], ['backup', 'copy.db']])
def test_what_only_reads_waits_for_no_writer(path, db, arguments):
    with another_writer(path):
        assert admin(path, *arguments).returncode == 0


def test_show_prints_a_time_that_sqlite_cannot_write(path, db, browser):
    browser.log_in('otto')
    db.execute('UPDATE failed_logins SET at = 1e12')  # SQLite knows no such year
    assert "'otto' None" in admin(path, 'show').stdout


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


# ---------------------------------------------------------------------------
# Mistakes
# ---------------------------------------------------------------------------

MISTAKES = {
    'a short password': (['passwd', 'anna'], 'seven77\n', 'at least 8'),
    'a short first password': (['adduser', 'ben'], 'seven77\n', 'at least 8'),
    'a name that is taken': (['adduser', ' anna'], f'{PASSWORD}\n', 'already'),
    'a name of white space': (['adduser', ' '], f'{PASSWORD}\n', 'username'),
    'a name with a line break': (['adduser', 'a\nb'], f'{PASSWORD}\n', 'username'),
    'a name too long': (['adduser', 'b' * 101], f'{PASSWORD}\n', 'username'),
    'logging nobody out': (['logout', 'ben'], '', 'no user'),
    'no such file': (['--db', 'typo.db', 'deluser', 'anna'], '', 'no file typo.db'),
    'no such file yet': (['--db', 'typo.db', 'adduser', 'ben'], PASSWORD, 'typo.db'),
    'nothing to back up': (['--db', 'typo.db', 'backup', 'b.db'], '', 'typo.db'),
    'restoring into a typo': (['--db', 'typo.db', 'restore', 'b.db'], '', 'typo.db'),
    'another password for nobody': (['passwd', 'ben'], PASSWORD, 'no user'),
    'deleting nobody': (['deluser', 'ben'], '', 'no user'),
    'an empty path': (['--db', '', 'reset', '--yes'], '', 'unable to open'),
}


@pytest.mark.parametrize(
    ('arguments', 'given', 'words'), MISTAKES.values(), ids=MISTAKES
)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(
    path, user, db, arguments, given, words
):
    before = list(db.iterdump())
    told = refusal(path, *arguments, given=given)
    assert words in told
    assert 'another connection' not in told
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
def test_a_password_typed_twice_is_set(terminal, browser):
    process, screen = terminal
    os.write(screen, b'new password\n')
    read(screen, 'again: ')
    os.write(screen, b'new password\n')
    assert process.wait(60) == 0
    assert browser.log_in(password='new password').status_code == 303


@POSIX
def test_ctrl_c_at_the_prompt_is_told_in_one_line(terminal):
    process, screen = terminal
    process.send_signal(signal.SIGINT)
    assert 'Traceback' not in read(screen, 'db.py: stopped')
    assert process.wait(60) == 1


# ---------------------------------------------------------------------------
# backup and restore
# ---------------------------------------------------------------------------


@pytest.fixture
def copy(path):
    """A backup with tea and milk, after which something else was liked."""
    with contextlib.closing(COMP249Db(path)) as db:
        database.add_session(db, 'k', None, now=0, lifetime=2**40)
        store_like(db, 'k', 'tea')
        store_like(db, 'k', 'milk')
        assert admin(path, 'backup', 'copy.db').returncode == 0
        store_like(db, 'k', 'after the backup')
    return path.with_name('copy.db')


COPIED = ['tea', 'milk']
ALL = ['tea', 'milk', 'after the backup']


def likes(file):
    """Return what is liked in a file, which must be a whole database."""
    with contextlib.closing(sqlite3.connect(file)) as db:
        assert db.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
        return [row[0] for row in db.execute('SELECT thing FROM likes ORDER BY id')]


def others(path):
    """Return the names of the files beside the database, without its own."""
    return {file.name for file in path.parent.iterdir() if 'likes.db' not in file.name}


def use_sqlite(file, statement):
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute(statement)


def damage(file):
    with file.open('r+b') as opened:
        opened.seek(5000)
        opened.write(b'damage' * 1000)


def cut_off(file):
    os.truncate(file, 9000)


def empty(file):
    file.write_bytes(b'')


def write_a_diary(file):
    file.write_text('I like nobody. ' * 900)


def make_another_programs(file):
    use_sqlite(file, 'PRAGMA application_id = 7')


def make_another_versions(file):
    use_sqlite(file, 'PRAGMA user_version = 99')


def remove(file):
    file.unlink()


def make_a_folder(file):
    file.unlink()
    file.mkdir()


def make_the_database(file):
    file.unlink()
    file.hardlink_to(file.with_name('likes.db'))


NO_BACKUPS = [
    (damage, 'is damaged'),
    (cut_off, 'is damaged'),
    (empty, 'is damaged'),
    (write_a_diary, 'not a database'),
    (make_another_programs, 'not of this app'),
    (make_another_versions, 'not of this app and version'),
    (remove, 'is no file, or the database itself'),
    (make_a_folder, 'is no file, or the database itself'),
    pytest.param(make_the_database, 'is no file, or the database itself', marks=POSIX),
]


@pytest.mark.parametrize(('spoil', 'words'), NO_BACKUPS)
def test_what_is_no_backup_is_told_and_restores_nothing(path, copy, spoil, words):
    spoil(copy)
    told = refusal(path, 'restore', 'copy.db')
    assert 'copy.db' in told
    assert words in told
    assert likes(path) == ALL


def leave(file):
    pass


@pytest.mark.parametrize('spoil', [leave, damage, empty])
def test_a_backup_is_restored_onto_what_is_left_of_the_database(path, copy, spoil):
    spoil(path)
    done = admin(path, 'restore', 'copy.db')
    assert done.stdout == f'{path}: restore copy.db: done\n'
    assert likes(path) == COPIED


@pytest.mark.parametrize('spoil', [cut_off, write_a_diary])
def test_a_database_that_cannot_be_opened_is_moved_away_first(path, copy, spoil):
    spoil(path)
    refusal(path, 'restore', 'copy.db')
    path.unlink()
    assert admin(path, 'reset', '--yes').returncode == 0
    assert admin(path, 'restore', 'copy.db').returncode == 0
    assert likes(path) == COPIED


def test_a_damaged_database_replaces_no_backup(path, copy):
    damage(path)
    assert 'likes.db is damaged' in refusal(path, 'backup', 'copy.db')
    assert likes(copy) == COPIED
    assert others(path) == {'copy.db'}


@POSIX
def test_only_the_owner_reads_a_backup(path, db):
    admin(path, 'backup', 'copy.db', umask=0)
    assert stat.S_IMODE(path.with_name('copy.db').stat().st_mode) == 0o600


@POSIX
def test_a_backup_is_restored_from_where_nothing_can_be_written(path, copy):
    folder = path.with_name('archive')
    folder.mkdir()
    copy.rename(folder / 'copy.db').chmod(0o400)
    folder.chmod(0o500)
    done = admin(path, 'restore', 'archive/copy.db')
    folder.chmod(0o700)
    assert done.returncode == 0
    assert likes(path) == COPIED
    assert os.listdir(folder) == ['copy.db']


@POSIX
@pytest.mark.parametrize('name', ['likes.db', 'link', 'folder', 'pipe', 'none/copy.db'])
def test_a_backup_takes_no_place_but_that_of_a_file(path, copy, name):
    path.with_name('link').symlink_to(path)
    path.with_name('folder').mkdir()
    os.mkfifo(path.with_name('pipe'))
    before = others(path)
    refusal(path, 'backup', name)
    assert likes(path) == ALL
    assert others(path) == before
    assert path.with_name('pipe').is_fifo()


def fill_the_disk():
    """Let no file of this process grow further, as on a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # bytes


@POSIX
def test_a_backup_that_does_not_fit_keeps_the_older_one(path, copy):
    refusal(path, 'backup', 'copy.db', preexec_fn=fill_the_disk)
    assert likes(copy) == COPIED
    assert others(path) == {'copy.db'}


@POSIX
def test_a_restore_that_does_not_fit_changes_nothing(path, copy):
    refusal(path, 'restore', 'copy.db', preexec_fn=fill_the_disk)
    assert likes(path) == ALL


@POSIX
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_stopped_keeps_the_older_one(path, copy, code, number):
    replace(code / 'db.py', 'require_whole(copy, db.path)', 'while True: sleep(0.1)')
    backup = subprocess.Popen(
        command(path, 'backup', copy, folder=code),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def is_under_way():
        return list(path.parent.glob('backup-*/copy.db'))

    until(is_under_way)
    backup.send_signal(number)
    told = backup.communicate(timeout=60)
    assert told == (b'', b'db.py: stopped\n')
    assert likes(copy) == COPIED
    assert others(path) == {'copy.db', 'copy'}


def test_two_backups_at_once_are_both_whole(path, copy):
    both = [subprocess.Popen(command(path, 'backup', copy)) for _ in range(2)]
    assert {backup.wait(60) for backup in both} == {0}
    assert likes(copy) == ALL
    assert others(path) == {'copy.db'}


def test_a_restore_does_not_wait_for_ever(path, copy, impatient):
    with another_writer(path):
        told = refusal(path, 'restore', 'copy.db', folder=impatient)
    assert 'another program' in told
    assert likes(path) == ALL


def test_the_app_goes_on_with_what_was_restored(path, browser):
    browser.like('tea')
    admin(path, 'backup', 'copy.db')
    browser.like('milk')
    admin(path, 'restore', 'copy.db')
    assert browser.likes == ['tea']
    assert browser.like('coffee').status_code == 303
    assert browser.likes == ['tea', 'coffee']


BACKUP = ('backup', 'copy.db')
RESTORE = ('restore', 'copy.db')


def test_no_visitor_meets_an_error_beside_backups_and_restores(path, serve):
    url = serve().url
    stop = threading.Event()

    def like_on():
        count = 0
        while not stop.is_set():
            urllib.request.urlopen(f'{url}likes', b'likes=tea', timeout=20).close()
            count += 1
        return count

    with ThreadPoolExecutor() as pool:
        visitors = [pool.submit(like_on) for _ in range(4)]
        done = [admin(path, *run) for run in [BACKUP, RESTORE] * 4]
        stop.set()
    assert {run.returncode for run in done} == {0}
    assert min(visitor.result() for visitor in visitors) > 0


@pytest.mark.skipif(not LITESTREAM, reason='needs litestream')
def test_a_backup_is_restored_while_litestream_runs(path, copy):
    folder = path.with_name('replica')
    replica = f'file://{folder}'
    restored = path.with_name('restored.db')

    def is_copied(things):
        restored.unlink(missing_ok=True)
        run = [LITESTREAM, 'restore', '-o', restored, replica]
        subprocess.run(run, capture_output=True)
        return restored.exists() and likes(restored) == things

    litestream = subprocess.Popen([LITESTREAM, 'replicate', path, replica])
    try:
        until(partial(is_copied, ALL))
        assert admin(path, 'restore', 'copy.db').returncode == 0
        until(partial(is_copied, COPIED))
    finally:
        litestream.kill()
        litestream.wait()
    assert likes(path) == COPIED


# ---------------------------------------------------------------------------
# The README's own lines
# ---------------------------------------------------------------------------


def run_readme(start, *replacements):
    """Run the README's line that starts so, and return its exit status."""
    lines = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
    (line,) = [line for line in lines if line.startswith(start)]
    for old, new in replacements:
        assert old in line
        line = line.replace(old, new)
    return subprocess.run(['sh', '-c', line], timeout=60).returncode


@POSIX
def test_the_readmes_backup_is_a_dated_copy(path, copy):
    status = run_readme(
        'runuser',
        ('runuser -u likes -- ', ''),
        ('/opt/likes/.venv/bin/python', f'"{sys.executable}"'),
        ('/opt/likes/db.py', f'"{ROOT}/db.py"'),
        ('/var/lib/likes', str(path.parent)),
    )
    (dated,) = path.parent.glob('20*.db')
    assert status == 0
    assert likes(dated) == ALL


@pytest.mark.skipif(not shutil.which('curl'), reason='needs curl')
def test_the_readmes_monitoring_tells_of_a_lost_table_and_stores_nothing(
    path, db, serve
):
    here = ('https://likes.example.org/', serve().url)
    assert run_readme('curl -fsS', here, ('__Host-', '')) == 0
    assert rows(db, 'sessions') == 0
    db.execute('ALTER TABLE sessions RENAME TO lost')
    assert run_readme('curl -fsS', here, ('__Host-', '')) == 22
