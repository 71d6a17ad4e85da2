"""How fast the app is, measured with the load generator wrk.

The app is compared with floor.py (Bottle with the same queries and page, and nothing
else) and, if one is given, with the app of another checkout. They stay up, and are
measured in turns, a second each. Printed are medians. What counts is the ratios: they
change less from one machine to another.
"""

import argparse
import collections
import contextlib
import os
import re
import shutil
import signal
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
from typing import NamedTuple

from argon2 import PasswordHasher

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODES = {
    'get': 'GET /',
    'first': 'first visit',
    'post': 'POST /likes',
    'login': 'POST /login',
}
# The rows that each request of a mode adds: an answer that looks right is not enough.
ADDS = {
    'first': 'sessions WHERE username IS NULL',
    'post': 'likes',
    'login': 'sessions WHERE username IS NOT NULL',
}
WORKERS = 2
SAMPLE = 4000  # sessions that wrk takes in turns, so that no list gets full
PASSWORD = 'correct horse'  # as in wrk.lua
HALF_A_FORM = (
    b'POST /likes HTTP/1.1\r\n'
    b'Host: localhost\r\n'
    b'Content-Type: application/x-www-form-urlencoded\r\n'
    b'Content-Length: 99\r\n'
    b'\r\n'
    b'likes='
)


class Run(NamedTuple):
    """What one measurement found."""

    rate: float  # requests per second
    p50: float  # of the time to an answer, in ms
    p99: float
    errors: float
    memory: float  # of the server at the end, in MB


class Server:
    """A program that serves a database, as a process group of its own.

    Beside the database are the files that wrk needs (see fill).
    """

    def __init__(self, program, path):
        self.path = path
        with socket.create_server(('127.0.0.1', 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}/'
        command = [sys.executable, program, '--db', path]
        command += ['--port', str(self.port), '--workers', str(WORKERS)]
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not self.answers():
            if self.process.poll() is not None or time.perf_counter() > began + 20:
                self.stop()
                sys.exit(f'{program} does not start')
            time.sleep(0.002)
        self.start = time.perf_counter() - began  # seconds to the first answer

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        """End all its processes."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def answers(self):
        """Return whether it answers."""
        try:
            urllib.request.urlopen(self.url, timeout=20).close()
        except OSError:
            return False
        return True

    def memory(self):
        """Return the memory of all its processes in MB; what they share counts once."""
        command = ['pgrep', '-g', str(self.process.pid)]
        kilobytes = 0
        for pid in subprocess.check_output(command, text=True).split():
            text = Path(f'/proc/{pid}/smaps_rollup').read_text()
            kilobytes += int(re.search(r'^Pss: +(\d+)', text, re.MULTILINE)[1])
        return kilobytes / 1024

    def count(self, mode):
        """Return how many rows there are of those that the mode adds."""
        query = f'SELECT count(*) FROM {ADDS[mode]}'
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            return db.execute(query).fetchone()[0]

    def wrk(self, mode, lines, seconds, clients):
        """Start wrk on the server, with a file of lines (see wrk.lua)."""
        command = ['wrk', '-t2', f'-c{clients}', f'-d{seconds}']
        command += ['-s', HERE / 'wrk.lua', self.url]
        command += ['--', mode, self.path.parent / lines]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def send(self, mode, seconds):
        """Send requests by 16 clients; return the numbers that wrk.lua prints."""
        lines = 'keys'
        if mode == 'login':
            lines = 'names'
        output, _ = self.wrk(mode, lines, seconds, 16).communicate()
        numbers = output.partition('\nresult')[2].split()
        if not numbers:
            sys.exit(f'wrk failed: {output}')
        return map(float, numbers)

    def measure(self, mode, seconds):
        """Send requests; return a Run. Rows that are missing afterwards are errors."""
        if mode in ADDS:
            before = self.count(mode)
        requests, duration, p50, p99, errors = self.send(mode, seconds)
        memory = self.memory()
        if mode in ADDS:
            added = self.count(mode) - before
            errors += max(0, requests - added)
        return Run(requests / duration, p50, p99, errors, memory)


def fill(folder, program, sessions=SAMPLE, likes=10):
    """Make a database with users, and with sessions that have so many likes each.

    The program makes its tables. Beside it come files of names and keys for wrk.
    """
    progress(f'filling a database with {sessions:,} sessions')
    folder.mkdir()
    path = folder / 'likes.db'
    with Server(program, path):
        pass
    names = [f'user{number}' for number in range(20)]
    keys = [str(uuid.uuid4()) for _ in range(sessions)]
    things = [f'thing number {number} that I like' for number in range(likes)]
    hasher = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
    password = hasher.hash(PASSWORD)
    expires = time.time() + 30 * 24 * 60 * 60
    users = ((name, password) for name in names)
    rows = ((key, expires) for key in keys)
    liked = ((key, thing) for key in keys for thing in things)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executemany('INSERT INTO users (username, password) VALUES (?, ?)', users)
        db.executemany('INSERT INTO sessions (key, expires) VALUES (?, ?)', rows)
        db.executemany('INSERT INTO likes (key, thing) VALUES (?, ?)', liked)
    (folder / 'names').write_text('\n'.join(names))
    sample = keys[:: max(1, sessions // SAMPLE)]
    (folder / 'keys').write_text('\n'.join(sample))


def copy(folder):
    """Put a copy of the folder's database beside it and return its path."""
    for old in folder.glob('copy.db*'):
        old.unlink()
    path = folder / 'copy.db'
    shutil.copy(folder / 'likes.db', path)
    os.sync()  # now, not while the server is measured
    return path


def progress(text):
    """Show on the terminal what is being done, in place of what was shown before."""
    print(f'\r{text:78}\r', end='', file=sys.stderr, flush=True)


def combine(runs):
    """Return the medians of the runs, and the sum of their errors."""
    rates, p50s, p99s, errors, memories = zip(*runs)
    median = statistics.median
    return Run(median(rates), median(p50s), median(p99s), sum(errors), median(memories))


def ratio(rate, base):
    """Return a rate as a part of another, which may have answered nothing."""
    if base == 0:
        return '-'
    return f'{rate / base:.2f}'


def report(found, kinds, names, bases):
    """Print a table of the runs found for each kind and name.

    Rates are also given as parts of those that some names, the bases, have.
    """
    ratios = [f'of {base}' for base in bases]
    rows = [['', 'requests/s', *ratios, 'p50 ms', 'p99 ms', 'errors', 'MB']]
    for kind in kinds:
        for name in names:
            run = combine(found[kind, name])
            row = [f'{kind}: {name}', f'{run.rate:,.0f}']
            for base in bases:
                row.append(ratio(run.rate, combine(found[kind, base]).rate))
            row += [f'{run.p50:.2f}', f'{run.p99:.2f}']
            row += [f'{run.errors:.0f}', f'{run.memory:.0f}']
            rows.append(row)
    progress('')
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        cells[0] = row[0].ljust(widths[0])
        print('  '.join(cells))


def rotated(names, turn):
    """Return the names in an order that begins with another one each turn."""
    names = list(names)
    start = turn % len(names)
    return names[start:] + names[:start]


def compare(folder, programs, args):
    """Measure the programs in turns, on servers that stay up."""
    found = collections.defaultdict(list)
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, program in programs.items():
            # The floor makes no tables; those of the app are its own too.
            fill(folder / name, programs['app'] if name == 'floor' else program)
            server = stack.enter_context(Server(program, copy(folder / name)))
            server.send('first', 1)  # the write-ahead log comes to its size
            servers[name] = server
        for mode, title in MODES.items():
            for turn in range(args.rounds):
                for name in rotated(programs, turn):
                    progress(f'round {turn + 1} of {args.rounds}: {title}, {name}')
                    run = servers[name].measure(mode, args.seconds)
                    found[title, name].append(run)
        bases = [name for name in programs if name != 'app']
        report(found, MODES.values(), programs, bases)
        for name, server in servers.items():
            print(f'{name}: first answer {server.start:.2f} s after its start')


@contextlib.contextmanager
def logins(server):
    """Let 300 clients log in without pause, with names that nobody has."""
    wrk = server.wrk('flood', 'names', 3600, 300)
    try:
        yield
    finally:
        wrk.terminate()
        wrk.communicate()


@contextlib.contextmanager
def half_sent_forms(server):
    """Keep 600 connections open that have sent half a form."""
    with contextlib.ExitStack() as clients:
        for _ in range(600):
            client = socket.create_connection(('127.0.0.1', server.port))
            clients.enter_context(client)
            client.sendall(HALF_A_FORM)
        yield


FLOODS = {
    'nothing': contextlib.nullcontext,
    '300 clients that log in': logins,
    '600 half-sent forms': half_sent_forms,
}


def flood(folder, programs, args):
    """Measure GET / beside clients that log in without pause, and half-sent forms."""
    del programs['floor']
    for name, program in programs.items():
        fill(folder / name, program)
    found = collections.defaultdict(list)
    for turn in range(args.rounds):
        for name, program in programs.items():
            for what, others in FLOODS.items():
                progress(f'round {turn + 1} of {args.rounds}: {name} beside {what}')
                with Server(program, copy(folder / name)) as server:
                    time.sleep(1)  # until all workers have started
                    with others(server):
                        time.sleep(1)
                        run = server.measure('get', args.seconds)
                        found[what, name].append(run)
    bases = [name for name in programs if name != 'app']
    print('GET / beside')
    report(found, FLOODS, programs, bases)


def grow(folder, programs, args):
    """Measure the app with up to 1,000,000 sessions and 5,000,000 likes stored."""
    names = {}
    for sessions in (1000, 10_000, 100_000, 1_000_000)[: args.steps]:
        name = f'{sessions:,} sessions'
        names[name] = folder / str(sessions)
        fill(names[name], programs['app'], sessions, likes=5)
    found = collections.defaultdict(list)
    for turn in range(args.rounds):
        for name, data in names.items():
            progress(f'round {turn + 1} of {args.rounds}: {name}')
            with Server(programs['app'], copy(data)) as server:
                for mode in ('get', 'post'):
                    # First the copy comes into memory, and the log to its size.
                    server.send(mode, 1)
                    run = server.measure(mode, args.seconds)
                    found[MODES[mode], name].append(run)
    kinds = (MODES['get'], MODES['post'])
    report(found, kinds, names, ['1,000 sessions'])
    for name, data in names.items():
        size = (data / 'likes.db').stat().st_size / 1e6
        print(f'{name}: a file of {size:,.0f} MB')


def main():
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    either = parser.add_mutually_exclusive_group()
    either.add_argument('--flood', action='store_true', help=flood.__doc__)
    either.add_argument('--grow', action='store_true', help=grow.__doc__)
    option = parser.add_argument
    option('--beside', metavar='CHECKOUT', help='measure the app.py of a folder too')
    option('--rounds', type=int, default=9, metavar='N')
    option('--seconds', type=int, default=1, metavar='S', help='of a measurement')
    option('--steps', type=int, default=4, metavar='N', help='of --grow')
    args = parser.parse_args()
    if not shutil.which('wrk'):
        sys.exit('bench.py: wrk is missing (Debian: apt install wrk)')
    programs = {'floor': HERE / 'floor.py', 'app': ROOT / 'app.py'}
    if args.beside:
        programs['other'] = Path(args.beside).resolve() / 'app.py'
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.flood:
            flood(folder, programs, args)
        elif args.grow:
            grow(folder, programs, args)
        else:
            compare(folder, programs, args)


if __name__ == '__main__':
    main()
