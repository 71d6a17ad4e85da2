"""How fast the app is, beside the limit: `python tests/bench/bench.py [--grow | --settings]`.

App and limit (limit.py) run one after the other, in turns, on the same server settings and copies of the same database,
under the load generator wrk with 16 connections. Prints the medians. What counts is the ratio: it changes little from
one machine to another.
"""

import argparse
import contextlib
import http.client
import itertools
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import app  # noqa: E402
import db as database  # noqa: E402

MODES = {'get': 'GET /, likes', 'first': 'first visit', 'post': 'POST /likes', 'login': 'POST /login'}
# What each request of a mode adds to the database; an answer that looks right is not enough.
ADDS = {
    'first': 'SELECT count(*) FROM sessions WHERE username IS NULL',
    'post': 'SELECT count(*) FROM likes',
    'login': 'SELECT count(*) FROM sessions WHERE username IS NOT NULL',
}
USERS = 20
SAMPLE = 4000  # sessions that wrk rotates over, so that no list gets full
PASSWORD = 'correct horse'  # as in wrk.lua


class Database:
    """A database with users and anonymous sessions with so many likes each; files of names and session keys for wrk."""

    def __init__(self, folder, sessions=SAMPLE, likes=10):
        folder.mkdir(exist_ok=True)
        self.path, self.keys, self.names = folder / 'likes.db', folder / 'keys', folder / 'names'
        names = [f'user{number}' for number in range(USERS)]
        keys = [str(uuid.uuid4()) for _ in range(sessions)]
        expires = time.time() + 30 * 24 * 60 * 60
        with contextlib.closing(database.COMP249Db(self.path)) as db:
            for name in names:
                database.add_user(db, name, PASSWORD)
            for start in range(0, sessions, 10_000):
                progress(f'filling the database: {start:,} of {sessions:,} sessions')
                with database.writing(db):
                    for key in keys[start : start + 10_000]:
                        database.add_session(db, key, None, expires)
                        for number in range(likes):
                            database.store_like(db, key, f'thing number {number} that I like')
        self.names.write_text('\n'.join(names))
        self.sample = keys[:: max(1, sessions // SAMPLE)]
        self.keys.write_text('\n'.join(self.sample))

    def copy(self):
        """Put a copy beside it and return its path."""
        for end in ('-wal', '-shm'):
            self.path.with_name(f'copy.db{end}').unlink(missing_ok=True)
        copy = shutil.copy(self.path, self.path.with_name('copy.db'))
        os.sync()  # now, not while the server is measured
        return copy


class Server:
    """The app or the limit, as a process group of its own."""

    def __init__(self, module, path, workers, threads=app.THREADS):
        with socket.create_server(('127.0.0.1', 0)) as free:
            self.port = free.getsockname()[1]
        self.path = str(path)
        start = f'app.serve({module}.load, "127.0.0.1", {self.port}, {workers})'
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, '-c', f'import app, {module}; app.THREADS = {threads}; {start}'],
            env={**os.environ, 'LIKES_DB': self.path, 'PYTHONPATH': f'{ROOT}{os.pathsep}{HERE}'},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not self.page():
            if self.process.poll() is not None or time.perf_counter() > began + 20:
                sys.exit(f'{module} does not start')
            time.sleep(0.002)
        self.start = time.perf_counter() - began  # seconds to the first answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)

    def page(self, key=''):
        """Return the home page of a session, None if the server does not answer."""
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)) as connection:
            try:
                connection.request('GET', '/', headers={'Cookie': f'likes_session={key}'})
                return connection.getresponse().read()
            except OSError:
                return None

    def memory(self):
        """Return the memory of all its processes in MB; what they share counts once (PSS)."""
        pids = subprocess.run(['pgrep', '-g', str(self.process.pid)], capture_output=True, text=True).stdout.split()
        files = [Path(f'/proc/{pid}/smaps_rollup').read_text() for pid in pids]
        return sum(int(text.partition('\nPss:')[2].split()[0]) for text in files) / 1024

    def wrk(self, mode, lines, seconds, threads=2):
        """Start wrk on the server."""
        command = [
            'wrk',
            f'-t{threads}',
            '-c16',
            f'-d{seconds}',
            '-s',
            HERE / 'wrk.lua',
            f'http://127.0.0.1:{self.port}',
        ]
        return subprocess.Popen([*command, '--', mode, lines], stdout=subprocess.PIPE, text=True)

    def count(self, mode):
        if mode not in ADDS:
            return 0
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            return db.execute(ADDS[mode]).fetchone()[0]

    def measure(self, mode, data, seconds):
        """Return requests per second, the median and the 99th percentile of the time in ms, and errors."""
        before = self.count(mode)
        requests, duration, *times, errors = result(
            self.wrk(mode, data.names if mode == 'login' else data.keys, seconds)
        )
        missing = before + requests - self.count(mode) if mode in ADDS else 0
        return requests / duration, *times, errors + max(0, missing)


def result(wrk):
    """Return the numbers that wrk.lua prints at its end."""
    output, _ = wrk.communicate()
    found = output.partition('\nresult')[2].split()
    if not found:
        sys.exit(f'wrk failed: {output}')
    return [float(number) for number in found[:5]]


def progress(text):
    print(f'\r{text:78}', end='', file=sys.stderr, flush=True)


def table(*rows):
    progress('')
    print('\r', end='', file=sys.stderr)
    widths = [max(map(len, column)) for column in zip(*rows)]
    for first, *others in rows:
        print(first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:])), sep='  ')


def compare(folder, args):
    """Measure app and limit in turns."""
    data = Database(folder)
    found = {}
    for turn in range(args.rounds):
        pages = set()
        for module in ('app', 'limit'):
            with Server(module, data.copy(), args.workers) as server:
                pages.add(server.page(data.sample[0]))
                server.measure('first', data, 1)  # the write-ahead log comes to its size
                for mode in MODES:
                    progress(f'round {turn + 1} of {args.rounds}: {module}, {MODES[mode]}')
                    found.setdefault((module, mode), []).append(server.measure(mode, data, args.seconds))
                found.setdefault((module, 'server'), []).append((server.start, server.memory()))
        if len(pages) > 1:
            sys.exit('app and limit differ in the page that they show')
    median = {what: [statistics.median(column) for column in zip(*runs)] for what, runs in found.items()}
    rows = [('', 'requests/s', 'of limit', 'p50 ms', 'p99 ms', 'errors')]
    for mode, name in MODES.items():
        for module in ('app', 'limit'):
            rate, p50, p99, _ = median[module, mode]
            ratio, errors = rate / median['limit', mode][0], sum(run[3] for run in found[module, mode])
            rows.append(
                (f'{name}: {module}', f'{rate:,.0f}', f'{ratio:.2f}', f'{p50:.2f}', f'{p99:.2f}', f'{errors:.0f}')
            )
    table(*rows)
    for module in ('app', 'limit'):
        start, memory = median[module, 'server']
        print(f'{module}: first answer {start:.2f} s after its start, {memory:.0f} MB with {args.workers} workers')


def grow(folder, args):
    """Measure the app with more and more stored."""
    steps = {}
    for sessions in (1000, 10_000, 100_000, 1_000_000)[: args.steps]:
        steps[sessions] = Database(folder / str(sessions), sessions, 5)
    found = {}
    for turn in range(args.rounds):
        for sessions, data in steps.items():
            progress(f'round {turn + 1} of {args.rounds}: {sessions:,} sessions')
            with Server('app', data.copy(), args.workers) as server:
                for mode in ('get', 'post'):
                    server.measure(mode, data, 1)  # the copy comes into memory, the write-ahead log to its size
                    found.setdefault((sessions, mode), []).append(server.measure(mode, data, args.seconds))
    median = {what: [statistics.median(column) for column in zip(*runs)] for what, runs in found.items()}
    rows = [('sessions', 'likes', 'MB', 'GET /s', 'of first', 'p99 ms', 'POST /s', 'of first', 'p99 ms', 'errors')]
    for sessions, data in steps.items():
        row = [f'{sessions:,}', f'{5 * sessions:,}', f'{os.path.getsize(data.path) / 1e6:,.0f}']
        for mode in ('get', 'post'):
            rate, _, p99, _ = median[sessions, mode]
            row += f'{rate:,.0f}', f'{rate / median[1000, mode][0]:.2f}', f'{p99:.1f}'
        errors = sum(run[3] for mode in ('get', 'post') for run in found[sessions, mode])
        rows.append((*row, f'{errors:.0f}'))
    table(*rows)


def settings(folder, args):
    """Measure the app with other numbers of workers and threads, and what readers feel of a flood of logins."""
    data = Database(folder)
    found = {}
    for turn in range(args.rounds):
        for setting in itertools.product((1, 2, 4), repeat=2):
            progress(f'round {turn + 1} of {args.rounds}: {setting[0]} workers, {setting[1]} threads each')
            with Server('app', data.copy(), *setting) as server:
                get, _, _, errors = server.measure('get', data, args.seconds)
                post, _, post99, post_errors = server.measure('post', data, args.seconds)
                flood = server.wrk('flood', data.names, args.seconds + 1, threads=1)
                time.sleep(0.5)
                during, _, during99, during_errors = server.measure('get', data, args.seconds)
                errors += post_errors + during_errors + result(flood)[4]
            found.setdefault(setting, []).append((get, post, post99, during, during99, errors))
    rows = [('workers', 'threads', 'GET /s', 'POST /s', 'p99 ms', 'in a flood: GET /s', 'p99 ms', 'errors')]
    for setting, runs in found.items():
        *median, _ = [statistics.median(column) for column in zip(*runs)]
        rows.append(
            (*map(str, setting), *(f'{number:,.0f}' for number in median), f'{sum(run[-1] for run in runs):.0f}')
        )
    table(*rows)


def main():
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3, metavar='N')
    parser.add_argument('--seconds', type=int, default=3, metavar='S', help='of each measurement')
    parser.add_argument('--workers', type=int, default=2, metavar='N')
    parser.add_argument('--grow', action='store_true', help=grow.__doc__)
    parser.add_argument('--steps', type=int, default=4, metavar='N', help='of --grow; the fourth has 5,000,000 likes')
    parser.add_argument('--settings', action='store_true', help=settings.__doc__)
    args = parser.parse_args()
    if not shutil.which('wrk'):
        sys.exit('bench.py: wrk is missing (Debian: apt install wrk)')
    with tempfile.TemporaryDirectory() as folder:
        (grow if args.grow else settings if args.settings else compare)(Path(folder), args)


if __name__ == '__main__':
    main()
