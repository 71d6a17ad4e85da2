"""The real server with a real file: starting, stopping, faults, and crowds."""

import contextlib
import ctypes
import functools
import html
import http.client
import os
import random
import re
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
from urllib.parse import urlencode

import pytest

import conftest
import db as database
from conftest import PASSWORD, ROOT

if sys.platform != 'linux':
    pytest.skip('the faults are made by means of Linux', allow_module_level=True)


class Visitor:
    """A browser on the network: opens a connection for each request, and keeps its cookie."""

    def __init__(self, server):
        self.server = server
        self.cookie = ''

    def send(self, method, path, **fields):
        """Send a request; returns the answer, with its `text`."""
        headers = {'Cookie': self.cookie, 'Content-Type': 'application/x-www-form-urlencoded'}
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', self.server.port, timeout=20)) as connection:
            connection.request(method, path, urlencode(fields), headers)
            answer = connection.getresponse()
            answer.text = answer.read().decode()
        cookie = answer.getheader('Set-Cookie')
        if cookie:
            self.cookie = cookie.partition(';')[0]
        return answer

    def visit(self):
        return self.send('GET', '/')

    def like(self, thing):
        return self.send('POST', '/likes', likes=thing)

    def log_in(self, username='anna'):
        return self.send('POST', '/login', username=username, password=PASSWORD)

    @property
    def likes(self):
        """What the home page lists."""
        answer = self.visit()
        assert answer.status == 200
        return [html.unescape(thing) for thing in re.findall('<li dir="auto">(.*?)</li>', answer.text)]


def at_once(*actions):
    """Do all of it at the same moment, each in a thread of its own; returns what they return."""
    start = threading.Barrier(len(actions))

    def wait_and_do(action):
        start.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(wait_and_do, actions))


def until(condition, seconds=10):
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.02)


@contextlib.contextmanager
def liking(server, threads=4):
    """Let visitors like one new thing after another, in the background; gives the list of (visitor, thing) answered.

    A like that gets no answer is not in the list: it may or may not be stored.
    """
    answered, stop = [], threading.Event()

    def go_on():
        while not stop.is_set():
            visitor = Visitor(server)
            for number in range(500):
                if stop.is_set():
                    break
                with contextlib.suppress(OSError, http.client.HTTPException):
                    assert visitor.like(f'thing {number}').status == 303
                    answered.append((visitor, f'thing {number}'))

    with ThreadPoolExecutor(threads) as pool:
        work = [pool.submit(go_on) for _ in range(threads)]
        try:
            yield answered
        finally:
            stop.set()
    for done in work:
        done.result()


def assert_each_is_there_once(answered, server):
    assert answered
    for visitor in {visitor for visitor, _ in answered}:
        visitor.server = server
        found = Counter(visitor.likes)
        assert {thing for owner, thing in answered if owner is visitor} <= found.keys()
        assert set(found.values()) == {1}


@contextlib.contextmanager
def another_writer(path):
    """Another program, in the middle of changing the database."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        yield


def processes(server, worker=False):
    """The ids of the server's processes, or only of those that its first process has started."""
    lines = subprocess.run(['ps', '-A', '-o', 'pid=,ppid=,pgid=,stat='], capture_output=True, text=True).stdout
    return {
        int(pid)
        for pid, parent, group, state in map(str.split, lines.splitlines())
        if server.process.pid == int(parent if worker else group) and 'Z' not in state
    }


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def run(path, *options):
    """Start the server where it is expected to give up."""
    command = [sys.executable, ROOT / 'app.py', '--port', '0', '--db', path, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def assert_refused(result, name):
    assert result.returncode == 1
    assert result.stdout == ''
    assert result.stderr.count('\n') == 1
    assert name in result.stderr
    assert 'Traceback' not in result.stderr


# Starting


def test_a_restart_keeps_everything(serve, user):
    server = serve()
    anonymous, anna = Visitor(server), Visitor(server)
    anonymous.like('tea')
    anna.log_in()
    anna.like('coffee')
    assert server.stop() == 0
    anonymous.server = anna.server = serve()
    assert anonymous.likes == ['tea']
    assert anna.likes == ['coffee']
    assert 'Logged in as' in anna.visit().text


def test_only_its_owner_can_read_the_database(serve, path):
    assert not path.exists()
    Visitor(serve()).like('tea')
    assert {file.suffix: file.stat().st_mode & 0o777 for file in path.parent.glob('likes.db*')} == {
        '.db': 0o600,
        '.db-wal': 0o600,
        '.db-shm': 0o600,
        '.log': 0o644,
    }


def test_the_port_and_the_number_of_workers_can_be_chosen(serve):
    port = free_port()
    server = serve('--port', str(port), '--workers', '3')
    assert server.port == port
    until(lambda: len(processes(server, worker=True)) == 3)


def test_the_address_can_be_chosen(path):
    command = [sys.executable, ROOT / 'app.py', '--host', '0.0.0.0', '--port', '0', '--db', path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert re.search(r'http://0\.0\.0\.0:\d+/', process.stdout.readline())
        process.terminate()
        assert process.wait(10) == 0


def test_it_starts_in_any_folder_even_one_with_a_space(tmp_path, monkeypatch):
    folder = tmp_path / 'my site'
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns('.*', 'tests', '__pycache__', 'likes.db*'))
    monkeypatch.setattr(conftest, 'ROOT', folder)
    monkeypatch.chdir(tmp_path)
    server = conftest.Server('my likes.db')
    try:
        visitor = Visitor(server)
        visitor.like('tea')
        assert visitor.likes == ['tea']
        assert (tmp_path / 'my likes.db').exists()
    finally:
        server.stop()


def test_debug_serves_and_ctrl_c_ends_it(path, serve):
    server = serve('--debug', '--port', str(free_port()))
    assert 'Welcome Home!' in Visitor(server).visit().text
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(10) == 0
    until(lambda: not processes(server))


def test_it_starts_where_the_name_of_its_file_cannot_be_shown(serve, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONIOENCODING', 'ascii')
    assert Visitor(serve('--db', tmp_path / 'ключ.db')).visit().status == 200


# What it refuses to start with


def our_database(path):
    """A database of this app, with some pages of likes."""
    with contextlib.closing(database.COMP249Db(path)) as db:
        database.add_session(db, 'key', None, time.time() + 100)
        with database.writing(db):
            for number in range(500):
                database.store_like(db, 'key', f'thing {number}')


def another_schema_version(path):
    our_database(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute('PRAGMA user_version = 99')


def garbage_header(path):
    our_database(path)
    path.write_bytes(b'garbage!' * 12 + path.read_bytes()[96:])


def garbage_in_a_page(path):
    our_database(path)
    data = bytearray(path.read_bytes())
    last = len(data) - 4096  # page: the others may have room in their middle
    data[last + 1000 : last + 3000] = b'garbage!' * 250
    path.write_bytes(data)


def cut_short(path):
    our_database(path)
    os.truncate(path, path.stat().st_size // 2)


def text_file(path):
    path.write_text('a diary\n' * 1000)


def database_of_another_program(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute('CREATE TABLE likes (thing TEXT)')


def after_a_crash(path, make):
    """Leave a write-ahead log beside the file, which the connection that closes last would move into it."""
    make(path)
    parts = {}
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('CREATE TABLE more (thing TEXT)')
        for end in ('', '-wal'):
            parts[end] = path.with_name(path.name + end).read_bytes()
    for end, data in parts.items():
        path.with_name(path.name + end).write_bytes(data)


def another_program_after_a_crash(path):
    after_a_crash(path, database_of_another_program)


def garbage_in_a_page_after_a_crash(path):
    after_a_crash(path, garbage_in_a_page)


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (text_file, 'not a database'),
        (database_of_another_program, 'another program'),
        (another_schema_version, 'schema version 99'),
        (garbage_header, 'not a database'),
        (garbage_in_a_page, 'damaged|malformed'),
        (cut_short, 'damaged|malformed'),
        (another_program_after_a_crash, 'another program'),
        (garbage_in_a_page_after_a_crash, 'damaged|malformed'),
    ],
)
def test_a_file_that_is_no_sound_database_of_this_app_is_left_alone(path, make, reason):
    make(path)

    def files():  # without the shared memory of those who have the file open
        return {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith('-shm')}

    before = files()
    result = run(path)
    assert_refused(result, str(path))
    assert re.search(reason, result.stderr)
    assert files() == before


def test_a_missing_folder_is_said_in_one_line(tmp_path):
    path = tmp_path / 'missing' / 'likes.db'
    assert_refused(run(path), str(path))


def test_a_folder_as_database_is_said_in_one_line(tmp_path):
    assert_refused(run(tmp_path), str(tmp_path))


def test_a_second_server_on_the_same_port_is_refused(serve, path):
    server = serve()
    assert_refused(run(path, '--port', str(server.port)), str(server.port))
    assert Visitor(server).visit().status == 200


def test_an_address_of_another_machine_is_refused(path):
    assert_refused(run(path, '--host', '192.0.2.1'), '192.0.2.1')


@pytest.mark.parametrize('option', ['--workers=0', '--port=99999', '--port=-1'])
def test_a_number_that_cannot_be_is_refused(path, option):
    assert_refused(run(path, option), 'port')


def test_twenty_processes_open_a_fresh_file_at_once(path):
    code = 'import sys, db; print(flush=True); input(); db.add_session(db.COMP249Db(sys.argv[1]), sys.argv[2], None, 0)'
    running = [
        subprocess.Popen(
            [sys.executable, '-c', code, path, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    for process in running:
        process.stdout.readline()  # it is ready
    for process in running:
        process.stdin.write('\n')
        process.stdin.flush()
    assert [process.communicate()[1] for process in running] == [''] * 20
    # Tables made a second time would have taken an earlier process's row with them.
    with contextlib.closing(database.COMP249Db(path)) as db:
        assert db.execute('SELECT count(*) FROM sessions').fetchone() == (20,)


# Stopping


@pytest.mark.parametrize('how', ['SIGTERM', 'Ctrl-C', 'a closed terminal'])
def test_a_request_under_way_is_answered_before_the_server_ends(serve, path, how):
    server = serve()
    visitor = Visitor(server)
    visitor.visit()
    with ThreadPoolExecutor() as pool:
        with another_writer(path):
            answer = pool.submit(visitor.like, 'tea')
            time.sleep(0.2)  # it is waiting for the writer
            if how == 'SIGTERM':
                server.process.terminate()
            else:
                os.killpg(server.process.pid, signal.SIGINT if how == 'Ctrl-C' else signal.SIGHUP)
            time.sleep(0.2)
            assert not answer.done()
        assert answer.result().status == 303
    assert server.process.wait(10) == 0
    visitor.server = serve()
    assert visitor.likes == ['tea']


def test_it_ends_when_it_is_told_to_again_and_again(serve):
    servers = [serve() for _ in range(6)]
    for server in servers:
        for _ in range(100):
            server.process.send_signal(signal.SIGTERM)
    assert [server.process.wait(10) for server in servers] == [0] * len(servers)


def test_it_ends_whenever_it_is_told_to_even_while_it_starts(tmp_path):
    running = []
    for number in range(6):
        command = [sys.executable, ROOT / 'app.py', '--port', '0', '--workers', '4', '--db', tmp_path / f'{number}.db']
        log = subprocess.DEVNULL
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True))
    try:
        for number, process in enumerate(running):
            process.stdout.readline()  # where it listens; the workers come next
            time.sleep(number * 0.01)
            process.terminate()
        assert [process.wait(15) for process in running] == [0] * len(running)
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()


def test_an_answered_like_survives_sigkill(serve):
    server = serve()
    for _ in range(10):
        with liking(server) as answered:
            until(lambda: answered)
            time.sleep(random.uniform(0, 0.2))
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server = serve()
        assert_each_is_there_once(answered, server)


# Faults


def test_the_admin_command_beside_a_running_server_loses_nothing(serve, path):
    server = serve('--workers', '1')
    visitor = Visitor(server)
    for number in range(3):
        visitor.like(f'before {number}')
    at_once(*[Visitor(server).visit] * 20)  # every thread has opened its connection by now
    show = [sys.executable, ROOT / 'db.py', '--db', path, 'show']
    # A last connection to be closed removes the -wal file; this is not the last.
    assert 'before 2' in subprocess.run(show, capture_output=True, text=True, check=True).stdout
    visitor.like('after')
    assert 'after' in subprocess.run(show, capture_output=True, text=True, check=True).stdout
    server.stop()
    visitor.server = serve()
    assert visitor.likes == ['before 0', 'before 1', 'before 2', 'after']


def test_a_killed_worker_comes_back_and_nothing_answered_is_lost(serve):
    server = serve()
    until(lambda: len(processes(server, worker=True)) == 2)
    with liking(server) as answered:
        until(lambda: len(answered) > 50)
        killed = random.choice(sorted(processes(server, worker=True)))
        os.kill(killed, signal.SIGKILL)
        before = len(answered)
        until(lambda: len(answered) > before + 50)
        until(lambda: len(processes(server, worker=True) - {killed}) == 2)
    assert_each_is_there_once(answered, server)


def test_writes_wait_for_another_writer(serve, path):
    server = serve()
    visitors = [Visitor(server) for _ in range(8)]
    at_once(*(visitor.visit for visitor in visitors))
    with ThreadPoolExecutor() as pool:
        with another_writer(path):
            answers = [pool.submit(visitor.like, 'tea') for visitor in visitors]
            time.sleep(2)
            assert not any(answer.done() for answer in answers)
        assert [answer.result().status for answer in answers] == [303] * 8
    assert [visitor.likes for visitor in visitors] == [['tea']] * 8


def test_a_writer_that_does_not_end_stops_writes_but_no_reads(serve, path):
    server = serve()
    reader, writer = Visitor(server), Visitor(server)
    reader.like('tea')
    writer.visit()
    slowest = 0
    with ThreadPoolExecutor() as pool, another_writer(path):
        began = time.monotonic()
        answer = pool.submit(writer.like, 'coffee')
        while not answer.done():
            asked = time.monotonic()
            assert reader.likes == ['tea']
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
        assert 4.5 < time.monotonic() - began < 8
    assert slowest < 1
    assert_unavailable(answer.result())
    assert writer.like('coffee').status == 303
    assert writer.likes == ['coffee']


def assert_unavailable(answer):
    assert answer.status == 503
    assert int(answer.getheader('Retry-After')) > 0
    assert 'The lists cannot be reached just now' in answer.text


def test_a_full_disk_stops_writes_until_there_is_room(serve, path):
    import resource  # not on Windows

    server = serve()
    visitor = Visitor(server)
    answered = []
    for number in range(10):
        assert visitor.like(f'thing {number}').status == 303
        answered.append(f'thing {number}')

    def limit(size):
        """Let the server write no file beyond this size."""
        for process in processes(server):
            _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))

    limit(path.with_name('likes.db-wal').stat().st_size + 100_000)
    for number in range(10, 100):
        answer = visitor.like(f'thing {number}')
        if answer.status != 303:
            break
        answered.append(f'thing {number}')
    for _ in range(10):
        assert_unavailable(visitor.like('one more'))
        assert_unavailable(Visitor(server).visit())
        assert visitor.likes == answered
    assert 'Traceback' not in server.log.read_text()
    limit(resource.RLIM_INFINITY)
    assert visitor.like('room').status == 303
    assert visitor.likes == [*answered, 'room']
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


@pytest.fixture
def obey_file_modes(monkeypatch):
    """Take from the server root's rights on files (Linux, CAP_DAC_OVERRIDE and CAP_FOWNER); other users have none."""

    def give_up():
        for capability in (1, 3):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)

    monkeypatch.setattr(subprocess, 'Popen', functools.partial(subprocess.Popen, preexec_fn=give_up))


def test_a_read_only_file_is_no_end(serve, path, obey_file_modes):
    server = serve()
    visitor = Visitor(server)
    visitor.like('tea')
    path.chmod(0o400)
    killed = processes(server, worker=True)
    for worker in killed:
        os.kill(worker, signal.SIGKILL)  # the new ones open the file anew
    until(lambda: len(processes(server, worker=True) - killed) == 2)
    for _ in range(10):
        assert_unavailable(visitor.visit())
    assert 'the file cannot be written' in server.log.read_text()
    path.chmod(0o600)
    for number in range(10):
        assert visitor.like(f'thing {number}').status == 303
    assert len(visitor.likes) == 11


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='only root can give a file away')
def test_an_empty_file_of_somebody_else_is_refused(path, obey_file_modes):
    path.touch()
    path.chmod(0o666)
    os.chown(path, 1, 1)
    assert_refused(run(path), str(path))
    assert path.read_bytes() == b''


# Crowds


def test_two_hundred_first_visitors_at_once(serve, db):
    visitors = [Visitor(server) for server in [serve()] for _ in range(200)]
    answers = at_once(*(visitor.visit for visitor in visitors))
    assert {answer.status for answer in answers} == {200}
    assert len({visitor.cookie for visitor in visitors}) == 200
    assert db.execute('SELECT count(*) FROM sessions').fetchone() == (200,)


def test_connections_that_are_left_open_keep_nobody_out(serve):
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip('needs 1,200 open files')
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    try:
        server = serve()
        with contextlib.ExitStack() as stack:
            for _ in range(1200):
                stack.enter_context(socket.create_connection(('127.0.0.1', server.port)))
            assert Visitor(server).visit().status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_fifty_logins_of_one_user_at_once(serve, db, user):
    server = serve()
    visitors = [Visitor(server) for _ in range(50)]
    assert {answer.status for answer in at_once(*(visitor.log_in for visitor in visitors))} == {303}
    assert len({visitor.cookie for visitor in visitors}) == 50
    assert db.execute('SELECT count(*) FROM sessions WHERE username = ?', (user,)).fetchone() == (50,)
    assert db.execute('SELECT count(*) FROM failed_logins').fetchone() == (0,)


def test_a_hundred_likes_of_the_same_thing_at_once_are_one(serve, db):
    visitor = Visitor(serve())
    visitor.visit()
    answers = at_once(*[lambda: visitor.like('tea')] * 100)
    assert {answer.status for answer in answers} == {303}
    assert db.execute('SELECT thing FROM likes').fetchall() == [('tea',)]


def test_logging_in_and_liking_at_once_loses_nothing(serve, user):
    server = serve()

    def come_and_go(name):
        visitor = Visitor(server)
        for number in range(5):
            assert visitor.like(f'{name} before {number}').status == 303
        assert visitor.log_in().status == 303
        for number in range(5):
            assert visitor.like(f'{name} after {number}').status == 303
        return visitor

    *_, visitor = at_once(*(functools.partial(come_and_go, name) for name in range(8)))
    assert sorted(visitor.likes) == sorted(
        f'{name} {when} {number}' for name in range(8) for when in ('before', 'after') for number in range(5)
    )
