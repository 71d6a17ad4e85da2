"""The real server with a real file: starting, stopping, faults, crowds and floods."""

import contextlib
import http.client
import os
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest

import db as database
from conftest import (
    PASSWORD,
    ROOT,
    Browser,
    Server,
    another_writer,
    likes_of,
    parse,
    replace,
    rows,
    until,
)
from db import COMP249Db, store_like

if sys.platform != 'linux':
    pytest.skip('the faults are made by means of Linux', allow_module_level=True)


DEAD_KEY = 'likes_session=01234567-89ab-4cde-8f01-23456789abcd'


class Visitor:
    """A browser on the network, with a connection for each request and its cookie."""

    def __init__(self, server, cookie='theme=dark'):
        self.server = server
        self.cookie = cookie

    def send(self, method, path, **fields):
        """Send a request; returns the answer, with its `text`."""
        connection = http.client.HTTPConnection(self.server.host, self.server.port, 60)
        connection.request(method, path, urlencode(fields), {'Cookie': self.cookie})
        with connection.getresponse() as answer:
            answer.text = answer.read().decode()
        cookie = answer.getheader('Set-Cookie', self.cookie)
        self.cookie = cookie.partition(';')[0]
        return answer

    def visit(self):
        return self.send('GET', '/')

    def like(self, thing='tea'):
        return self.send('POST', '/likes', likes=thing)

    def log_in(self, password=PASSWORD):
        return self.send('POST', '/login', username='anna', password=password)

    def guess(self):
        return self.log_in('guess')

    @property
    def key(self):
        """The session key in the cookie."""
        return self.cookie.partition('=')[2]

    @property
    def likes(self):
        """What the home page lists."""
        return likes_of(parse(self.visit().text))


def at_once(*actions):
    """Do all of it at once, each in a thread; counts the statuses of the answers."""
    with ThreadPoolExecutor(len(actions)) as pool:
        answers = [pool.submit(action) for action in actions]
    return Counter(answer.result().status for answer in answers)


def crowd(server):
    """Ten visitors, to come at once while others keep the server busy.

    Granian may start a thread too few: a visitor would then wait for the next one.
    """
    return [Visitor(server) for _ in range(10)]


@contextlib.contextmanager
def liking(server):
    """Let four visitors like one new thing after another, in the background.

    Gives the list of (visitor, thing) that were answered.
    """
    answered = []
    stop = threading.Event()

    def go_on():
        while not stop.is_set():
            visitor = Visitor(server)  # another one, before the list is full
            for number in range(50):
                if stop.is_set():
                    return
                with contextlib.suppress(OSError, http.client.HTTPException):
                    answer = visitor.like(f'thing {number}')
                    if answer.status == 303:
                        answered.append((visitor, f'thing {number}'))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(go_on)
        try:
            yield answered
        finally:
            stop.set()


def wait_for_more(answered, count=1):
    """Wait until so many more likes have been answered."""
    wanted = len(answered) + count
    until(lambda: len(answered) >= wanted)


def assert_each_is_there_once(answered, server):
    found = Counter()
    for visitor in {visitor for visitor, _ in answered}:
        visitor.server = server
        found.update((visitor, thing) for thing in visitor.likes)
    assert set(answered) <= set(found)
    assert set(found.values()) == {1}


HALF_A_FORM = b'POST /likes HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nlikes='


@pytest.fixture
def send_half():
    """A function that sends the half of a form; returns the connection."""
    with contextlib.ExitStack() as stack:

        def send(server):
            client = socket.create_connection(('127.0.0.1', server.port), timeout=60)
            client.sendall(HALF_A_FORM)
            return stack.enter_context(client)

        yield send


def is_worker(pid):
    """Whether it runs, and is not what Python 3.14 starts to clean up after others."""
    try:
        command = Path(f'/proc/{pid}/cmdline').read_bytes()
    except OSError:  # it has just ended
        return False
    return command != b'' and b'resource_tracker' not in command


def workers(server):
    """The ids of the processes that serve."""
    first = server.process.pid
    children = Path(f'/proc/{first}/task/{first}/children').read_text().split()
    return [int(pid) for pid in children if is_worker(pid)]


def wait_for_listeners(server, count):
    """Wait until so many sockets listen at the server's port: one for each worker."""
    pattern = f':{server.port:04X} 00000000:0000 0A'
    sockets = Path('/proc/net/tcp')
    until(lambda: len(re.findall(pattern, sockets.read_text())) == count)


def wait_for_workers(server, count, without=None):
    """Wait until it has so many, and not the one with this id."""
    until(lambda: len(set(workers(server)) - {without}) == count)


def test_it_starts_in_any_folder_with_the_options_given(db, path, serve, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv('LIKES_DB', 'another.db')
    server = serve('--host=127.0.0.2', '--port=0', '--workers=3')
    assert str(path) in server.said
    Visitor(server).like()
    assert rows(db, 'likes') == 1
    wait_for_workers(server, 3)


def has_ipv6():
    try:
        socket.create_server(('::1', 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason='this machine has no IPv6')
def test_it_tells_an_ipv6_address_as_a_browser_takes_it(serve):
    server = serve('--host', '::1')
    assert server.url == f'http://[::1]:{server.port}/'


def started_in_vain(folder):
    """Return what it tells when it is started without options but a port."""
    command = [sys.executable, folder / 'app.py', '--port', '99999']
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60).stderr


def test_without_options_it_is_local_and_the_database_beside_the_code(
    code, monkeypatch
):
    monkeypatch.delenv('LIKES_DB')
    assert f'127.0.0.1:99999, database {code / "likes.db"}' in started_in_vain(code)
    assert (code / 'likes.db').exists()


def test_the_environment_may_name_the_database(path):
    """In LIKES_DB."""
    assert f'database {path}' in started_in_vain(ROOT)
    assert path.exists()


def refusal(path, *options):
    """Return the one line with which the server refuses to start."""
    command = [sys.executable, ROOT / 'app.py', '--port', '0', '--db', path, *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=path.parent
    )
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    return done.stderr


def test_a_database_of_another_program_or_the_chapter_is_left_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute('CREATE TABLE likes (thing TEXT)')
    before = path.read_bytes()
    said = refusal(path)
    assert 'of another program, or of the chapter' in said
    assert 'move it away' in said
    assert str(path) in said
    assert path.read_bytes() == before


def test_tables_of_another_version_are_left_alone_until_they_are_reset(path, db):
    db.execute('PRAGMA user_version = 99')
    db.close()
    before = path.read_bytes()
    assert '`db.py reset`' in refusal(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(path):
    path.write_text('a diary')
    assert 'not a database' in refusal(path)
    assert path.read_text() == 'a diary'


DISOBEYED = {  # a later option wins
    '--host=192.0.2.1': 'assign requested address',
    '--port=99999': 'must be 0-65535',
    '--db=': 'unable to open',
    '--db=no/such/folder/likes.db': 'No such file',
}


@pytest.mark.parametrize(('option', 'words'), DISOBEYED.items())
def test_an_option_that_cannot_be_obeyed_is_told_in_one_line(path, option, words):
    assert words in refusal(path, option)


def test_a_second_server_on_the_same_port_is_refused(serve, path):
    server = serve()
    assert 'in use' in refusal(path, f'--port={server.port}')


STOPS = [
    (os.kill, signal.SIGTERM),
    (os.killpg, signal.SIGINT),
    (os.killpg, signal.SIGHUP),
]


@pytest.mark.parametrize(('kill', 'how'), STOPS, ids=['service', 'Ctrl-C', 'terminal'])
def test_a_request_under_way_is_answered_at_a_stop(serve, path, send_half, kill, how):
    server = serve('--workers', '1')
    client = send_half(server)
    until(server.answers)  # by now the half has come
    kill(server.process.pid, how)
    client.sendall(b'tea')
    assert client.recv(1000).startswith(b'HTTP/1.1 303')
    assert server.process.wait(60) == 0
    assert not path.with_name('likes.db-wal').exists()
    assert b'tea' in path.read_bytes()


TWO_STOPS = [(signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize('pause', [0, 0.002, 0.03])  # seconds
@pytest.mark.parametrize('stops', TWO_STOPS)
def test_two_stops_end_it_as_one(serve, stops, pause):
    server = serve('--workers', '1')
    for stop in stops:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, stop)
        time.sleep(pause)  # another moment of the stop
    assert server.process.wait(60) == 0


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_it_starts_is_no_error(path, stop):
    server = Server(path, '--workers=1')
    server.wait_to_say('Likes at')
    os.killpg(server.process.pid, stop)
    status = server.process.wait(60)
    server.kill()
    assert status == 0
    assert 'Traceback' not in server.said


def test_nohup_keeps_it_alive_when_the_terminal_closes(serve):
    server = serve(under=['nohup'])
    os.killpg(server.process.pid, signal.SIGHUP)
    visitor = Visitor(server)
    for number in range(100):  # by then a stop would be over
        visitor.like(f'{number}')
    assert len(visitor.likes) == 100


def test_it_stops_as_usual_when_the_database_can_no_longer_be_opened(serve, path):
    server = serve()
    path.unlink()
    path.mkdir()
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert 'Traceback' not in server.said


def test_a_form_that_stays_half_sent_does_not_keep_it_from_ending(
    serve, send_half, impatient
):
    server = serve('--workers', '1', folder=impatient)
    send_half(server)
    until(server.answers)  # by now the half has come
    server.process.terminate()
    assert server.process.wait(60) == 0


def test_the_workers_end_with_the_first_process(serve):
    server = serve()
    server.process.kill()
    server.wait_until_it_is_gone()


def test_an_answered_like_survives_sigkill(serve):
    server = serve()
    for count in (1, 10, 40):
        with liking(server) as answered:
            wait_for_more(answered, count)
            server.kill()
        server = serve()
        assert_each_is_there_once(answered, server)


def test_killed_workers_come_back_and_nothing_answered_is_lost(serve):
    server = serve()
    wait_for_workers(server, 2)
    with liking(server) as answered:
        wait_for_more(answered)
        for killed in workers(server):
            os.kill(killed, signal.SIGKILL)
            wait_for_workers(server, 2, without=killed)
            wait_for_listeners(server, 2)
        wait_for_more(answered)
    assert_each_is_there_once(answered, server)


def test_a_worker_that_cannot_come_back_ends_the_server(serve):
    server = serve()
    no_more_files = (3, 3)  # without which it starts no process
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, no_more_files)
    os.kill(workers(server)[0], signal.SIGKILL)
    assert server.process.wait(60) == 1
    server.wait_until_it_is_gone()


def can_trace():
    try:
        command = ['strace', '-o', os.devnull, 'true']
        return subprocess.run(command, timeout=60).returncode == 0
    except OSError:
        return False


STRACE = pytest.mark.skipif(
    not can_trace(), reason='needs strace, and to be allowed it'
)


CHAPTERS_WAY = """

@app.post('/chapter')
def store_as_in_the_chapter(db, form):
    key = get_session(db)
    db.execute('INSERT INTO likes (thing, key) VALUES (?, ?)', ('tea', key))
    db.commit()
    bottle.redirect('/')


if __name__ =="""


@pytest.fixture
def trace(path):
    """The file to which strace writes what the server asks of the kernel."""
    return path.with_name('trace')


def wait_for_words(trace, words):
    """Wait until strace has told this."""
    until(lambda: words in trace.read_text())


def wait_for_likes(db, count):
    """Wait until so many likes are stored."""
    until(lambda: rows(db, 'likes') >= count)


SLOWLY = '        __import__("time").sleep(0.2); '  # before another statement


@STRACE
@pytest.mark.parametrize('address', ['/likes', '/chapter', '/login'])
def test_what_is_answered_is_on_the_disk(serve, code, trace, user, address):
    replace(code / 'app.py', '\nif __name__ ==', CHAPTERS_WAY)
    server = serve('--workers', '1', folder=code, under=['strace', '-fyo', trace])
    fields = {'likes': 'tea', 'username': user, 'password': PASSWORD}
    Visitor(server).send('POST', address, **fields)
    wait_for_words(trace, 'HTTP/1.1 303 ')
    told = trace.read_text()
    answered = told.index('HTTP/1.1 303 ')
    written = told.rindex('pwrite64(', 0, answered)
    assert '-wal' in told[written:].splitlines()[0]
    assert re.search(r'sync\(\d+<[^>]*-wal>', told[written:answered])


SLOW_SYNC = 'inject=fsync,fdatasync:delay_enter=60000000'  # microseconds


@STRACE
def test_while_a_like_waits_for_the_disk_another_is_written(serve, db, user, path):
    """`user`, and so the log, is there before the disk gets slow."""
    strace = ['strace', '-fo', os.devnull, '-P', f'{path}-wal', '-e', SLOW_SYNC]
    server = serve('--workers', '1', under=strace)
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(visitor.like) for visitor in crowd(server)]
        wait_for_likes(db, 4)
        assert not any(answer.done() for answer in answers)
        server.kill()  # nobody waits for them


FAULTS = {
    'syncs that fail': 'fsync,fdatasync:error=EIO',
    'no room': 'pwrite64:error=ENOSPC',
}


@STRACE
@pytest.mark.parametrize('fault', FAULTS.values(), ids=FAULTS)
def test_a_like_is_refused_when_the_disk_cannot_keep_it(serve, user, fault):
    """`user`, and so the file, is there before the disk fails."""
    strace = ['strace', '-fo', os.devnull, '-e', f'inject={fault}']
    server = serve('--workers', '1', under=strace)
    visitor = Visitor(server)
    assert visitor.like().status == 503
    assert visitor.like().status == 503  # the same again


FIRST_SYNC_FAILS = 'inject=fsync:error=EIO:when=1'
SAVED = '-wal>, 0)'  # the log was moved into the database file, and emptied


@STRACE
def test_after_a_sync_has_failed_nothing_is_answered_before_all_is_safe(
    serve, user, path, trace
):
    """The kernel tells of a failure once: the next sync succeeds, whatever is lost."""
    wal = ['-P', f'{path}-wal']
    strace = ['strace', '-fyo', trace, *wal, '-e', FIRST_SYNC_FAILS]
    server = serve('--workers', '1', under=strace)
    visitor = Visitor(server)
    assert visitor.like().status == 503
    until(lambda: visitor.like().status == 303)  # the first of each thread fails
    wait_for_words(trace, SAVED)
    assert visitor.likes == ['tea']


@pytest.fixture
def at_first_sync(db, monkeypatch):
    """A function to say what happens during the first sync; returns all syncs."""

    def let(happen):
        syncs = []

        def sync(file):
            syncs.append(file)
            if len(syncs) == 1:
                happen()

        monkeypatch.setattr(os, 'fsync', sync)
        return syncs

    return let


def like(browser):
    return browser.post('/likes', {'likes': 'tea'}, status='*')


def test_likes_that_wait_behind_a_failed_sync_are_refused_as_well(db, at_first_sync):
    """The sync of each would succeed, whatever the disk has lost."""

    def fail():
        wait_for_likes(db, 3)
        raise OSError('the disk is broken')

    at_first_sync(fail)
    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(like, [Browser(), Browser(), Browser()])
    assert [answer.status_code for answer in answers] == [503] * 3


def test_after_a_failed_sync_likes_are_refused_until_the_log_is_saved(
    db, path, at_first_sync, monkeypatch
):
    """While somebody reads from the log, it cannot be moved into the database."""

    def fail():
        raise OSError('the disk is broken')

    at_first_sync(fail)
    assert like(Browser()).status_code == 503
    monkeypatch.setattr(database, 'MAX_WAIT', 0)  # seconds
    with contextlib.closing(sqlite3.connect(path)) as reader:
        reader.execute('BEGIN')
        assert rows(reader, 'likes') == 1
        assert like(Browser()).status_code == 503
    assert like(Browser()).status_code == 303


def test_a_like_stored_during_a_sync_waits_for_the_next(db, at_first_sync):
    with ThreadPoolExecutor(1) as pool:

        def like_meanwhile():
            pool.submit(like, Browser())
            wait_for_likes(db, 2)

        syncs = at_first_sync(like_meanwhile)
        like(Browser())
    assert len(syncs) == 2


def test_a_long_lock_is_told_to_all_who_wait_at_once(serve, path, impatient):
    server = serve('--workers', '1', folder=impatient)
    visitors = [Visitor(server) for _ in range(16)]
    at_once(*(visitor.visit for visitor in visitors))  # to get a session
    with another_writer(path):
        began = time.monotonic()
        answers = at_once(*(visitor.like for visitor in visitors))
        waited = time.monotonic() - began
    assert answers == {503: 16}
    assert waited < 8  # one after the other they would wait for 16 seconds
    assert at_once(*(visitor.like for visitor in visitors)) == {303: 16}


def waited(action):
    """Do it; return the status of the answer, and how many seconds it took."""
    began = time.monotonic()
    answer = action()
    return answer.status, time.monotonic() - began


def test_whoever_comes_while_the_database_is_locked_is_told_in_time(
    serve, path, impatient
):
    """Nobody waits for those who came before."""
    server = serve('--workers', '1', folder=impatient)
    told = []
    with ThreadPoolExecutor(48) as pool, another_writer(path):
        for _ in range(8):
            for cookie in ('theme=dark', DEAD_KEY):
                for act in (Visitor.like, Visitor.visit, Visitor.log_in):
                    visitor = Visitor(server, cookie)
                    told.append(pool.submit(waited, partial(act, visitor)))
            time.sleep(0.25)  # seconds, between the arrivals
        for answer in told:
            status, seconds = answer.result()
            assert status == 503
            assert seconds < 6  # some one, on a machine that has time


def test_readers_notice_nothing_of_a_long_lock(serve, path, user, code):
    replace(code / 'db.py', 'MAX_WAIT = 5', 'MAX_WAIT = 60')
    server = serve(folder=code)
    readers = crowd(server)
    at_once(*(reader.like for reader in readers))
    strangers = [Visitor(server) for _ in range(16)]
    with ThreadPoolExecutor(48) as pool, another_writer(path):
        waiting = []
        for stranger in strangers:
            for action in (stranger.like, stranger.visit, stranger.log_in):
                waiting.append(pool.submit(action))
        assert at_once(*(reader.visit for reader in readers)) == {200: 10}
        for reader in readers:
            assert reader.likes == ['tea']
            assert reader.send('GET', '/login').status == 200
        assert not any(answer.done() for answer in waiting)
    assert {answer.result().status for answer in waiting} <= {200, 303}


def remove(path):
    path.unlink()


def remove_with_its_log(path):
    for name in ('likes.db', 'likes.db-wal', 'likes.db-shm'):
        path.with_name(name).unlink()


def move(path):
    path.rename(path.with_name('moved.db'))


def put_a_backup_in_its_place(path):
    shutil.copy(path.with_name('backup.db'), path.with_name('copy.db'))
    path.with_name('copy.db').replace(path)


def remove_and_reset(path):
    path.unlink()
    command = [sys.executable, ROOT / 'db.py', '--db', path, 'reset', '--yes']
    assert subprocess.run(command, timeout=60).returncode == 0


LOSSES = [remove, remove_with_its_log, move, put_a_backup_in_its_place]
LOSSES += [remove_and_reset]


@pytest.fixture
def visitor(serve, path):
    """A visitor who has liked tea, and after a backup twenty numbers."""
    visitor = Visitor(serve('--workers', '1'))
    visitor.like()
    with contextlib.closing(COMP249Db(path)) as db:
        database.backup(db, path.with_name('backup.db'))
    for number in range(20):
        visitor.like(f'{number}')
    return visitor


@pytest.mark.parametrize('lose', LOSSES)
def test_after_the_file_was_replaced_all_are_told_until_a_new_start(
    visitor, path, lose
):
    lose(path)
    before = list(path.parent.glob('likes.db'))
    for act in (visitor.visit, visitor.like, visitor.log_in, visitor.visit):
        assert act().status == 503
    assert 'deleted or replaced: start the app anew' in visitor.server.said
    assert list(path.parent.glob('likes.db')) == before


def somebody_comes(visitor):
    assert visitor.visit().status == 503


def nobody_comes(visitor):
    pass


NOTICED = pytest.mark.parametrize('meanwhile', [somebody_comes, nobody_comes])


@NOTICED
def test_a_backup_put_in_the_files_place_is_whole_after_a_stop(
    visitor, path, serve, meanwhile
):
    put_a_backup_in_its_place(path)
    meanwhile(visitor)
    visitor.server.process.terminate()
    assert visitor.server.process.wait(60) == 0
    visitor.server = serve()
    assert visitor.likes == ['tea']
    assert visitor.like('milk').status == 303


@NOTICED
def test_a_database_that_is_moved_takes_its_likes_along(visitor, path, meanwhile):
    move(path)
    meanwhile(visitor)
    visitor.server.process.terminate()
    assert visitor.server.process.wait(60) == 0
    with contextlib.closing(sqlite3.connect(path.with_name('moved.db'))) as db:
        assert rows(db, 'likes') == 21


def test_a_connection_that_slept_through_two_replacements_destroys_none(
    visitor, path, serve
):
    """The writer of logins has not been used before."""
    put_a_backup_in_its_place(path)
    assert visitor.visit().status == 503
    put_a_backup_in_its_place(path)
    assert visitor.log_in().status == 503
    visitor.server.kill()
    visitor.server = serve()
    assert visitor.likes == ['tea']


def test_a_full_disk_stops_writes_until_there_is_room(serve, path):
    server = serve('--workers', '1')
    visitor = Visitor(server)
    visitor.like()
    worker = workers(server)[0]
    limit = resource.RLIMIT_FSIZE
    unlimited = resource.prlimit(worker, limit)
    resource.prlimit(worker, limit, (path.stat().st_size, unlimited[1]))
    numbers = iter(range(900))
    until(lambda: visitor.like(f'{next(numbers)}').status == 503)
    refused = next(numbers) - 1
    answered = ['tea', *map(str, range(refused))]
    assert visitor.likes == answered
    resource.prlimit(worker, limit, unlimited)
    assert visitor.like('coffee').status == 303
    assert visitor.likes == [*answered, 'coffee']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write what is read-only')
def test_a_read_only_database_can_be_read(serve, path):
    server = serve('--workers', '1')
    visitor = Visitor(server)
    visitor.like()
    server.process.terminate()
    server.process.wait(60)
    path.chmod(0o400)
    visitor.server = serve('--workers', '1')
    assert visitor.like('milk').status == 503
    assert visitor.likes == ['tea']


def test_of_many_likes_at_once_a_list_takes_no_more_than_fit(serve, db, code):
    """However long one takes to be stored."""
    replace(
        code / 'app.py', '        database.store_like', SLOWLY + 'database.store_like'
    )
    server = serve(folder=code)
    wait_for_listeners(server, 2)
    visitor = Visitor(server)
    visitor.like()
    for number in range(997):
        store_like(db, visitor.key, f'{number}')
    likes = [partial(visitor.like, f'new {number}') for number in range(10)]
    assert at_once(*likes) == {303: 2, 409: 8}


def test_right_logins_at_once_all_get_in(serve, user):
    server = serve('--workers', '4')
    wait_for_listeners(server, 4)
    assert at_once(*[Visitor(server).log_in for _ in range(20)]) == {303: 20}


def test_of_many_guesses_at_once_five_are_answered(serve, user, code):
    """ASVS 5.0, 6.3.1: however long one takes to be stored."""
    store = '            database.add_failed_login'
    replace(code / 'sessions.py', store, '    ' + SLOWLY + 'database.add_failed_login')
    server = serve('--workers', '4', folder=code)
    wait_for_listeners(server, 4)
    assert at_once(*[Visitor(server).guess for _ in range(20)]) == {200: 5, 429: 15}


ANOTHER_SERVER = """
from wsgiref.simple_server import make_server
from app import app
server = make_server('127.0.0.1', 0, app)
print(server.server_port, flush=True)
server.handle_request()
"""


def test_a_login_is_logged_by_any_server_that_runs_the_app(path, db):
    """ASVS 5.0, 16.3.1."""
    process = subprocess.Popen(
        [sys.executable, '-c', ANOTHER_SERVER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    port = int(process.stdout.readline())
    connection = http.client.HTTPConnection('127.0.0.1', port, 60)
    form = {'Content-Type': 'application/x-www-form-urlencoded'}
    connection.request('POST', '/login', 'username=anna', form)
    assert connection.getresponse().status == 200
    connection.close()
    _, said = process.communicate(timeout=60)
    assert "login failed: 'anna'\n" in said


def test_a_slow_login_keeps_neither_readers_nor_writers_waiting(serve, user, code):
    replace(
        code / 'db.py',
        '    try:\n        HASHING',
        '    sleep(60)\n    try:\n        HASHING',
    )
    server = serve('--workers', '1', folder=code)
    visitors = crowd(server)
    with ThreadPoolExecutor(10) as pool:
        logins = [pool.submit(Visitor(server).log_in) for _ in range(10)]
        assert at_once(*(visitor.like for visitor in visitors)) == {303: 10}
        for visitor in visitors:
            assert visitor.likes == ['tea']
        assert not any(login.done() for login in logins)
        server.kill()  # nobody waits for them


def test_half_sent_forms_keep_nobody_out(serve, send_half):
    server = serve()
    for _ in range(300):
        send_half(server)
    visitors = crowd(server)
    assert at_once(*(visitor.like for visitor in visitors)) == {303: 10}
    for visitor in visitors:
        assert visitor.likes == ['tea']


def test_a_cookie_that_the_server_cannot_read_is_told_and_loses_nothing(serve):
    visitor = Visitor(serve())
    visitor.like()
    cookie = visitor.cookie
    visitor.cookie = f'naam=café; {cookie}'
    answer = visitor.like('walnuts')
    assert answer.status == 400
    assert answer.getheader('Set-Cookie') is None
    assert 'cookies of this site' in answer.text
    assert 'value="walnuts"' in answer.text
    visitor.cookie = cookie
    assert visitor.likes == ['tea']
