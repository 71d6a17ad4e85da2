"""How fast the app is: `python tests/bench/bench.py [--flood | --grow] [--beside CHECKOUT]`.

App and floor.py (Bottle with the same queries and page and nothing else), and the app of another checkout if one is
given, run in turns on copies of the same database, under the load generator wrk with 16 connections. Prints medians.
What counts is the ratio: it changes less from one machine to another.
"""

import argparse
import contextlib
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

from argon2 import PasswordHasher

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODES = {'get': 'GET /, 10 likes', 'first': 'first visit', 'post': 'POST /likes', 'login': 'POST /login'}
# What each request of a mode adds to the database; an answer that looks right is not enough.
ADDS = {'first': 'sessions WHERE username IS NULL', 'post': 'likes', 'login': 'sessions WHERE username IS NOT NULL'}
SAMPLE = 4000  # sessions that wrk rotates over, so that no list gets full
PASSWORD = 'correct horse'  # as in wrk.lua


class Server:
    """A program, as a process group of its own, on a database that it has made itself."""

    def __init__(self, program, path, workers=2):
        with socket.create_server(('127.0.0.1', 0)) as free:
            self.port = free.getsockname()[1]
        self.path, began = path, time.perf_counter()
        command = [sys.executable, program, '--port', str(self.port), '--db', path, '--workers', str(workers)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f'http://127.0.0.1:{self.port}/', timeout=20):
                break
            if self.process.poll() is not None or time.perf_counter() > began + 20:
                sys.exit(f'{program} does not start')
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

    def memory(self):
        """Return the memory of all its processes in MB; what they share counts once (PSS)."""
        pids = subprocess.run(['pgrep', '-g', str(self.process.pid)], capture_output=True, text=True).stdout.split()
        files = [Path(f'/proc/{pid}/smaps_rollup').read_text() for pid in pids]
        return sum(int(text.partition('\nPss:')[2].split()[0]) for text in files) / 1024

    def wrk(self, mode, lines, seconds, clients=16):
        """Start wrk on the server."""
        command = ['wrk', '-t2', f'-c{clients}', f'-d{seconds}', '-s', HERE / 'wrk.lua']
        command += [f'http://127.0.0.1:{self.port}', '--', mode, lines]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def measure(self, mode, data, seconds):
        """Return requests per second, p50 and p99 of the time in ms, and the number of errors."""
        before = count(self.path, mode)
        lines = data / ('names' if mode == 'login' else 'keys')
        requests, duration, *times, errors = result(self.wrk(mode, lines, seconds))
        missing = before + requests - count(self.path, mode) if mode in ADDS else 0
        return requests / duration, *times, errors + max(0, missing)


def count(path, mode):
    if mode not in ADDS:
        return 0
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(f'SELECT count(*) FROM {ADDS[mode]}').fetchone()[0]


def result(wrk):
    """Return the numbers that wrk.lua prints at its end."""
    output, _ = wrk.communicate()
    found = output.partition('\nresult')[2].split()
    if not found:
        sys.exit(f'wrk failed: {output}')
    return [float(number) for number in found[:5]]


def fill(folder, program, sessions=SAMPLE, likes=10):
    """Make a database of the program's with users and sessions with so many likes; files of names and keys for wrk."""
    folder.mkdir()
    with Server(program, folder / 'likes.db'):
        pass
    names = [f'user{number}' for number in range(20)]
    keys = [str(uuid.uuid4()) for _ in range(sessions)]
    password_hash = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1).hash(PASSWORD)
    expires = time.time() + 30 * 24 * 60 * 60
    things = [f'thing number {number} that I like' for number in range(likes)]
    with contextlib.closing(sqlite3.connect(folder / 'likes.db')) as db, db:
        progress(f'filling a database with {sessions:,} sessions')
        users = ((name, password_hash) for name in names)
        db.executemany('INSERT INTO users (username, password) VALUES (?, ?)', users)
        db.executemany('INSERT INTO sessions (key, expires) VALUES (?, ?)', ((key, expires) for key in keys))
        liked = ((key, thing) for key in keys for thing in things)
        db.executemany('INSERT INTO likes (key, thing) VALUES (?, ?)', liked)
    (folder / 'names').write_text('\n'.join(names))
    (folder / 'keys').write_text('\n'.join(keys[:: max(1, sessions // SAMPLE)]))
    return folder


def copy(folder):
    """Put a copy of the database beside it and return its path."""
    for old in folder.glob('copy.db*'):
        old.unlink()
    path = shutil.copy(folder / 'likes.db', folder / 'copy.db')
    os.sync()  # now, not while the server is measured
    return path


def progress(text):
    print(f'\r{text:78}', end='', file=sys.stderr, flush=True)


def table(*rows):
    progress('')
    print('\r', end='', file=sys.stderr)
    widths = [max(map(len, column)) for column in zip(*rows)]
    for first, *others in rows:
        print(first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:])), sep='  ')


def medians(found):
    return {what: [statistics.median(column) for column in zip(*runs)] for what, runs in found.items()}


def compare(folder, programs, args):
    """Measure the programs in turns."""
    data = {name: fill(folder / name, programs['app' if name == 'floor' else name]) for name in programs}
    found = {}
    for turn in range(args.rounds):
        for name, program in programs.items():
            with Server(program, copy(data[name])) as server:
                server.measure('first', data[name], 1)  # the write-ahead log comes to its size
                for mode in MODES:
                    progress(f'round {turn + 1} of {args.rounds}: {name}, {MODES[mode]}')
                    found.setdefault((name, mode), []).append(server.measure(mode, data[name], args.seconds))
                found.setdefault((name, 'server'), []).append((server.start, server.memory()))
    median = medians(found)
    rows = [('', 'requests/s', 'of floor', 'p50 ms', 'p99 ms', 'errors')]
    for mode, title in MODES.items():
        for name in programs:
            rate, p50, p99, _ = median[name, mode]
            ratio, errors = rate / median['floor', mode][0], sum(run[3] for run in found[name, mode])
            numbers = f'{rate:,.0f}', f'{ratio:.2f}', f'{p50:.2f}', f'{p99:.2f}', f'{errors:.0f}'
            rows.append((f'{title}: {name}', *numbers))
    table(*rows)
    for name in programs:
        start, memory = median[name, 'server']
        print(f'{name}: first answer {start:.2f} s after its start, {memory:.0f} MB with 2 workers')


def flood(folder, programs, args):
    """Measure GET / beside clients that log in without pause, and beside forms of which only a half has been sent."""
    beside = {'nothing': 0, '16 clients that log in': 16, '100 clients that log in': 100, '100 half-sent forms': 0}
    programs.pop('floor')
    found = {}
    data = {name: fill(folder / name, program) for name, program in programs.items()}
    for turn in range(args.rounds):
        for name, program in programs.items():
            for what, clients in beside.items():
                progress(f'round {turn + 1} of {args.rounds}: {name} beside {what}')
                with Server(program, copy(data[name])) as server, contextlib.ExitStack() as stack:
                    other = server.wrk('flood', data[name] / 'names', args.seconds + 2, clients) if clients else None
                    for _ in range(100 if 'half' in what else 0):
                        client = stack.enter_context(socket.create_connection(('127.0.0.1', server.port)))
                        client.sendall(b'POST /likes HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nlikes=')
                    time.sleep(1)
                    found.setdefault((what, name), []).append(server.measure('get', data[name], args.seconds))
                    if other:
                        result(other)
    rows = [('GET / beside', 'requests/s', 'p50 ms', 'p99 ms', 'errors')]
    median = medians(found)
    for what in beside:
        for name in programs:
            rate, p50, p99, _ = median[what, name]
            errors = sum(run[3] for run in found[what, name])
            rows.append((f'{what}: {name}', f'{rate:,.0f}', f'{p50:.2f}', f'{p99:.2f}', f'{errors:.0f}'))
    table(*rows)


def grow(folder, programs, args):
    """Measure the app with more and more stored, up to 1,000,000 sessions with 5,000,000 likes."""
    steps = (1000, 10_000, 100_000, 1_000_000)[: args.steps]
    data = {sessions: fill(folder / str(sessions), programs['app'], sessions, 5) for sessions in steps}
    found = {}
    for turn in range(args.rounds):
        for sessions in steps:
            progress(f'round {turn + 1} of {args.rounds}: {sessions:,} sessions')
            with Server(programs['app'], copy(data[sessions])) as server:
                for mode in ('get', 'post'):
                    server.measure(mode, data[sessions], 1)  # the copy comes into memory, the log to its size
                    found.setdefault((sessions, mode), []).append(server.measure(mode, data[sessions], args.seconds))
    median = medians(found)
    rows = [('sessions', 'MB', 'GET /s', 'of first', 'p99 ms', 'POST /s', 'of first', 'p99 ms', 'errors')]
    for sessions in steps:
        row = [f'{sessions:,}', f'{os.path.getsize(data[sessions] / "likes.db") / 1e6:,.0f}']
        for mode in ('get', 'post'):
            rate, _, p99, _ = median[sessions, mode]
            row += f'{rate:,.0f}', f'{rate / median[1000, mode][0]:.2f}', f'{p99:.1f}'
        rows.append((*row, f'{sum(run[3] for mode in ("get", "post") for run in found[sessions, mode]):.0f}'))
    table(*rows)


def main():
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3, metavar='N')
    parser.add_argument('--seconds', type=int, default=3, metavar='S', help='of each measurement')
    parser.add_argument('--beside', metavar='CHECKOUT', help='measure the app.py of another folder too')
    parser.add_argument('--flood', action='store_true', help=flood.__doc__)
    parser.add_argument('--grow', action='store_true', help=grow.__doc__)
    parser.add_argument('--steps', type=int, default=4, metavar='N', help='of --grow')
    args = parser.parse_args()
    if not shutil.which('wrk'):
        sys.exit('bench.py: wrk is missing (Debian: apt install wrk)')
    programs = {'floor': HERE / 'floor.py', 'app': ROOT / 'app.py'}
    if args.beside:
        programs['other'] = Path(args.beside).resolve() / 'app.py'
    with tempfile.TemporaryDirectory() as folder:
        (grow if args.grow else flood if args.flood else compare)(Path(folder), programs, args)


if __name__ == '__main__':
    main()
