"""Measure the app beside the limit (limit.py), both on the app's server settings: `python tests/bench/bench.py --help`.

Both are driven by wrk, with 16 connections, in turns and each time on a database of its own that is made for it: some
thousand anonymous sessions with ten likes each, and a hundred users.
"""

import argparse
import contextlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import db as database  # noqa: E402 (it is two folders up)

SESSIONS = 4000
DAY = 24 * 60 * 60  # seconds
KINDS = {'get': 'GET / with 10 likes', 'first': 'first visit', 'post': 'POST /likes', 'login': 'POST /login'}
# Starts the app as `python app.py` does, with another number of threads.
WITH_THREADS = 'import sys, app; app.THREADS = int(sys.argv.pop(1)); sys.argv[0] = "app.py"; app.main()'
UNITS = {'us': 0.001, 'ms': 1, 's': 1000, 'm': 60_000}


def say(text):
    """Show what is going on, on one line that the next takes the place of."""
    print(f'\r{text:<79}', end='', file=sys.stderr, flush=True)


def fill(path, sessions, likes, users=0):
    """Add anonymous sessions with so many likes each, and users; returns the session keys."""
    keys = [str(uuid.uuid4()) for _ in range(sessions)]
    expires = time.time() + 30 * DAY
    with contextlib.closing(database.COMP249Db(path)) as db:
        password = database.hash_password('correct horse')
        with database.writing(db):
            db.executemany('INSERT INTO users VALUES (?, ?)', ((f'user{number}', password) for number in range(users)))
            db.executemany('INSERT INTO sessions VALUES (?, NULL, ?)', ((key, expires) for key in keys))
            things = ((f'thing {number} of {key[:8]}', key) for key in keys for number in range(likes))
            db.executemany('INSERT INTO likes VALUES (?, ?, NULL)', things)
    return keys


class Server:
    """A program under test, in a folder of its own."""

    def __init__(self, command, folder, path):
        self.folder, self.path = folder, path
        with socket.create_server(('127.0.0.1', 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f'http://127.0.0.1:{port}/'
        began = time.monotonic()
        words = [word.format(port=port, db=path) for word in command]
        with (folder / 'log').open('wb') as log:
            self.process = subprocess.Popen([sys.executable, *words], cwd=HERE.parents[1], stdout=log, stderr=log)
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f'{self.url}login', timeout=5).close()
                break
            time.sleep(0.005)
        self.start = time.monotonic() - began  # seconds to the first answer

    def wrk(self, kind, keys, seconds, connections=16):
        """Start wrk; returns the process, for result()."""
        (self.folder / 'keys').write_text('\n'.join(keys))
        command = ['wrk', '-t2', f'-c{connections}', f'-d{seconds}', '--latency', '-s', HERE / 'wrk.lua', self.url]
        command += ['--', kind, self.folder / 'keys']
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def measure(self, kind, keys, seconds):
        return result(self.wrk(kind, keys, seconds))

    def memory(self):
        """MB of all processes, what they share counted once (Linux: proportional set size)."""
        children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(self.process.pid)], capture_output=True, text=True)
        pids = [str(self.process.pid), *children.stdout.split()]
        sizes = [re.search(r'^Pss: +(\d+)', Path(f'/proc/{pid}/smaps_rollup').read_text(), re.M)[1] for pid in pids]
        return sum(map(int, sizes)) / 1000

    def stop(self):
        self.process.terminate()
        self.process.wait()


def result(wrk):
    """Return what wrk has measured: requests/s, p50 and p99 in ms, and the number of errors."""
    text = wrk.communicate()[0]

    def latency(percentile):
        number, unit = re.search(rf'{percentile}% +([\d.]+)(\w+)', text).groups()
        return float(number) * UNITS[unit]

    errors = sum(map(int, re.findall(r'Non-2xx or 3xx responses: (\d+)', text)))
    errors += sum(map(int, re.findall(r'(?:connect|read|write|timeout) (\d+)', text)))
    return float(re.search(r'Requests/sec: +([\d.]+)', text)[1]), latency(50), latency(99), errors


@contextlib.contextmanager
def running(command, sessions=SESSIONS, likes=10):
    """Run a program on a new database; gives (the server, the keys)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'likes.db')
        keys = fill(path, sessions, likes, users=100)
        server = Server(command, Path(folder), path)
        try:
            yield server, keys
        finally:
            server.stop()


def app_command(workers, threads=None):
    options = ['--port', '{port}', '--db', '{db}', '--workers', str(workers)]
    return ['app.py', *options] if threads is None else ['-c', WITH_THREADS, str(threads), *options]


def median(rows):
    return [statistics.median(column) for column in zip(*rows)]


def compare(args):
    """Print the app beside the limit."""
    commands = {
        'app': app_command(args.workers),
        'limit': [str(HERE / 'limit.py'), '{port}', '{db}', str(args.workers)],
    }
    rows = {(name, kind): [] for name in commands for kind in KINDS}
    whole = {name: [] for name in commands}
    for number in range(args.rounds):
        for name, command in commands.items():
            with running(command) as (server, keys):
                for kind in KINDS:
                    say(f'round {number + 1} of {args.rounds}: {name}, {KINDS[kind]}')
                    rows[name, kind].append(server.measure(kind, keys, args.seconds))
                whole[name].append((server.start, server.memory()))
    say('')
    print(f'\n{"":22}{"app":>9}{"limit":>9}{"ratio":>7}{"p50 ms":>9}{"p99 ms":>9}{"limit p99":>11}{"errors":>8}')
    for kind, title in KINDS.items():
        (rate, p50, p99, errors), (limit, _, limit99, _) = median(rows['app', kind]), median(rows['limit', kind])
        ratios = [ours[0] / theirs[0] for ours, theirs in zip(rows['app', kind], rows['limit', kind])]
        ratio = statistics.median(ratios)
        print(f'{title:22}{rate:9,.0f}{limit:9,.0f}{ratio:7.2f}{p50:9.1f}{p99:9.1f}{limit99:11.1f}{errors:8.0f}')
    (start, memory), (limit_start, limit_memory) = median(whole['app']), median(whole['limit'])
    print(f'{"start, seconds":22}{start:9.2f}{limit_start:9.2f}\n{"memory, MB":22}{memory:9.0f}{limit_memory:9.0f}')


def grow(args):
    """Print the app's speed as the database grows to a million sessions with five likes each."""
    print(f'{"sessions":>10}{"likes":>11}{"file MB":>9}{"GET /":>9}{"p99 ms":>8}{"POST":>8}{"p99 ms":>8}{"first":>8}')
    with running(app_command(args.workers), likes=5) as (server, keys):
        total = len(keys)
        for size in (total, 30_000, 100_000, 300_000, 1_000_000):
            while total < size:
                say(f'filling: {total:,} of {size:,} sessions')
                more = min(size - total, 20_000)
                keys += fill(server.path, more, 5)
                total += more
            spread = keys[:: max(1, total // 20_000)]
            rows = []
            for number in range(args.rounds):
                say(f'{total:,} sessions: round {number + 1} of {args.rounds}')
                rows.append([server.measure(kind, spread, args.seconds) for kind in ('get', 'post', 'first')])
            get, post, first = (median(column) for column in zip(*rows))
            megabytes = server.path.stat().st_size / 1e6
            say('')
            print(f'\r{total:10,}{total * 5:11,}{megabytes:9,.0f}{get[0]:9,.0f}{get[2]:8.1f}', end='')
            print(f'{post[0]:8,.0f}{post[2]:8.1f}{first[0]:8,.0f}', flush=True)


def settings(args):
    """Print the app's speed with other numbers of workers and threads, and of readers while others flood the login."""
    print(
        f'{"workers":>8}{"threads":>8}{"GET /":>9}{"POST":>8}{"p99 ms":>8}{"GET in flood":>14}{"p99 ms":>8}{"errors":>8}'
    )
    for workers in (1, 2, 4):
        for threads in (1, 2, 4):
            rows = []
            for _ in range(args.rounds):
                say(f'{workers} workers, {threads} threads each')
                with running(app_command(workers, threads)) as (server, keys):
                    get, post = (server.measure(kind, keys, args.seconds) for kind in ('get', 'post'))
                    attack = server.wrk('flood', keys, args.seconds + 1)
                    time.sleep(0.5)
                    reader = result(server.wrk('get', keys, args.seconds, connections=4))
                    rows.append((get[0], post[0], post[2], reader[0], reader[2], reader[3] + result(attack)[3]))
            get, post, p99, flooded, flooded99, errors = median(rows)
            say('')
            print(
                f'\r{workers:8}{threads:8}{get:9,.0f}{post:8,.0f}{p99:8.1f}{flooded:14,.0f}{flooded99:8.1f}{errors:8.0f}'
            )


def main():
    parser = argparse.ArgumentParser(description='Measure the app with wrk.')
    parser.add_argument('--grow', action='store_true', help='up to 1,000,000 sessions and 5,000,000 likes')
    parser.add_argument('--settings', action='store_true', help='with 1, 2 and 4 workers and threads')
    parser.add_argument('--rounds', type=int, default=3, help='default: %(default)s')
    parser.add_argument('--seconds', type=int, default=3, help='of each measurement; default: %(default)s')
    parser.add_argument('--workers', type=int, default=2, help='default: %(default)s')
    args = parser.parse_args()
    if not shutil.which('wrk'):
        sys.exit('bench.py: wrk is missing; Debian, Ubuntu and Homebrew have it as a package')
    (grow if args.grow else settings if args.settings else compare)(args)


if __name__ == '__main__':
    main()
