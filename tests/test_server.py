"""The real server with a real file: starting, stopping, faults, crowds and floods."""

import contextlib
import fcntl
import html
import http.client
import os
import random
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from conftest import PASSWORD, ROOT, until

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
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', self.server.port, timeout=60)) as connection:
            connection.request(method, path, urlencode(fields), headers)
            answer = connection.getresponse()
            answer.text = answer.read().decode()
        self.cookie = answer.getheader('Set-Cookie', self.cookie).partition(';')[0]
        return answer

    def visit(self):
        return self.send('GET', '/')

    def like(self, thing):
        return self.send('POST', '/likes', likes=thing)

    def log_in(self, password=PASSWORD):
        return self.send('POST', '/login', username='anna', password=password)

    @property
    def likes(self):
        """What the home page lists."""
        return [html.unescape(thing) for thing in re.findall('<li dir="auto">(.*?)</li>', self.visit().text)]


def at_once(*actions):
    """Do all of it at once, each in a thread of its own; returns what they return."""
    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(lambda action: action(), actions))


@contextlib.contextmanager
def liking(server):
    """Let visitors like one new thing after another, in the background; gives the list of (visitor, thing) answered."""
    answered, stop = [], threading.Event()

    def go_on():
        while not stop.is_set():
            visitor = Visitor(server)  # another one, before the list is full
            for number in range(900):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if not stop.is_set() and visitor.like(f'thing {number}').status == 303:
                        answered.append((visitor, f'thing {number}'))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(go_on)
        try:
            yield answered
        finally:
            stop.set()


def assert_each_is_there_once(answered, server):
    for visitor in {visitor for visitor, _ in answered}:
        visitor.server = server
        found = Counter(visitor.likes)
        assert {thing for owner, thing in answered if owner is visitor} <= found.keys()
        assert set(found.values()) == {1}


@contextlib.contextmanager
def another_writer(path):
    """Another program, in the middle of changing the database."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other:
        other.execute('BEGIN IMMEDIATE')
        yield


def waits_for_a_lock(path):
    """Whether one of the app's connections is in the middle of waiting to write: it holds the turn."""
    with open(f'{path}-lock', 'rb') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True


def workers(server):
    """The ids of the processes that the server's first process has started and that run."""
    listed = subprocess.run(['ps', '-A', '-o', 'pid=,ppid=,stat='], capture_output=True, text=True).stdout
    rows, parent = [line.split() for line in listed.splitlines()], str(server.process.pid)
    return [int(row[0]) for row in rows if row[1] == parent and row[2] != 'Z']


def test_it_starts_in_any_folder_with_the_options_given(path, serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = serve('--host', '0.0.0.0', '--workers', '3')
    assert str(path) in server.said.read_text()
    assert Visitor(server).like('tea').status == 303
    until(lambda: len(workers(server)) == 3)


def test_debug_serves_and_ends(serve):
    server = serve('--debug')
    assert 'Welcome Home!' in Visitor(server).visit().text
    assert server.said.read_text().count('http://') == 1
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) == 0


def refused(path, *options):
    """Start the server where it is expected to give up; returns what it says."""
    command = [sys.executable, ROOT / 'app.py', '--port', '0', '--db', path, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count('\n')) == (1, '', 1), done.stderr
    return done.stderr


NOT_OURS = {'another version': 'PRAGMA user_version = 99', 'another program': 'CREATE TABLE likes (thing TEXT)'}


@pytest.mark.parametrize('kind', [*NOT_OURS, 'not a database'])
def test_a_file_that_is_no_database_of_this_app_is_left_alone(path, kind):
    if kind in NOT_OURS:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute(NOT_OURS[kind])
    else:
        path.write_text('a diary\n' * 1000)
    before = path.read_bytes()
    said = refused(path)
    assert kind in said
    assert str(path) in said
    assert path.read_bytes() == before


@pytest.mark.parametrize('option', ['--host=192.0.2.1', '--port=99999', '--db=', '--db=no/such/folder/likes.db'])
def test_what_cannot_be_is_told_in_one_line(path, option):
    refused(path, option)


def test_a_second_server_on_the_same_port_is_refused(serve, path):
    server = serve()
    assert str(server.port) in refused(path, '--port', str(server.port))
    assert Visitor(server).visit().status == 200


@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_requests_under_way_are_answered_and_the_file_is_whole_by_itself(serve, path, how):
    server = serve()
    visitor = Visitor(server)
    visitor.like('tea')
    with ThreadPoolExecutor() as pool:
        with another_writer(path):
            answer = pool.submit(visitor.like, 'coffee')
            until(lambda: waits_for_a_lock(path))
            # A terminal sends Ctrl-C, and its end, to all processes; a service manager sends SIGTERM to the first.
            (os.kill if how == signal.SIGTERM else os.killpg)(server.process.pid, how)
        assert answer.result().status == 303
    assert server.process.wait(60) == 0
    assert sorted(file.name for file in path.parent.glob('likes.db*')) == ['likes.db', 'likes.db-lock', 'likes.db.said']
    assert b'coffee' in path.read_bytes()


def test_an_answered_like_survives_sigkill(serve):
    server = serve()
    for _ in range(3):
        with liking(server) as answered:
            until(lambda: len(answered) > random.randrange(40))
            server.kill()
        server = serve()
        assert_each_is_there_once(answered, server)


def test_a_killed_worker_comes_back_and_nothing_answered_is_lost(serve):
    server = serve()
    with liking(server) as answered:
        until(lambda: answered)
        first = workers(server)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(workers(server)) == 2 and workers(server) != first)
        count = len(answered)
        until(lambda: len(answered) > count)
    assert_each_is_there_once(answered, server)


def test_a_worker_that_cannot_come_back_ends_the_server(serve):
    server = serve()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, 3))
    os.kill(workers(server)[0], signal.SIGKILL)
    assert server.process.wait(60) == 1
    until(lambda: not server.answers())


def test_a_long_lock_is_told_and_readers_go_on(serve, path):
    visitor = Visitor(serve())
    visitor.like('tea')
    with ThreadPoolExecutor() as pool, another_writer(path):
        answer = pool.submit(visitor.like, 'coffee')
        assert visitor.likes == ['tea']
        assert (answer.result().status, answer.result().getheader('Retry-After')) == (503, '5')
        assert 'Nothing was changed' in answer.result().text
    assert visitor.like('coffee').status == 303


def test_a_full_disk_stops_writes_until_there_is_room(serve, path):
    server = serve('--workers', '1')
    visitor = Visitor(server)
    visitor.like('tea')
    resource.prlimit(workers(server)[0], resource.RLIMIT_FSIZE, (path.stat().st_size, resource.RLIM_INFINITY))
    numbers = iter(range(900))
    until(lambda: visitor.like(f'{next(numbers)}').status == 503)
    assert 'tea' in visitor.likes
    resource.prlimit(workers(server)[0], resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert visitor.like('coffee').status == 303
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


def test_crowds_get_what_each_of_them_would(serve, user, db):
    server = serve()
    visitors = [Visitor(server) for _ in range(100)]
    assert {answer.status for answer in at_once(*(visitor.visit for visitor in visitors))} == {200}
    assert {answer.status for answer in at_once(*[lambda: visitors[0].like('tea')] * 50)} == {303}
    assert {answer.status for answer in at_once(*(visitor.log_in for visitor in visitors[1:21]))} == {303}
    assert visitors[0].likes == ['tea']
    assert [row[0] for row in db.execute('SELECT count(*) FROM sessions GROUP BY username')] == [80, 20]


def test_of_many_guesses_at_once_five_are_answered(serve, user):
    """ASVS 5.0, 6.3.1."""
    server = serve('--workers', '4')
    answers = at_once(*[lambda: Visitor(server).log_in('guess')] * 20)
    assert Counter(answer.status for answer in answers) == {200: 5, 429: 15}


def test_half_sent_forms_keep_nobody_out(serve):
    server = serve()
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(socket.create_connection(('127.0.0.1', server.port)))
            client.sendall(b'POST /likes HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nlikes=')
        visitor = Visitor(server)
        assert visitor.like('tea').status == 303
        assert visitor.likes == ['tea']
