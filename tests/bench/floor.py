"""The framework's floor: Bottle and SimpleTemplate with the app's queries, durability and page, and nothing else.

No checks of any input, no security headers, no throttle. Started with the options that the benchmark gives app.py.
"""

import argparse
import sqlite3
import threading
import time
import uuid
from pathlib import Path

from argon2 import PasswordHasher
from bottle import Bottle, request, response, template
from granian import Granian

VIEWS = [str(Path(__file__).resolve().parents[2] / 'views')]
verify = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1).verify
local = threading.local()
app = Bottle()


def connect():
    """Return the connection of this thread."""
    if not hasattr(local, 'db'):
        local.db = sqlite3.connect(args.db, timeout=5, isolation_level=None)
        local.db.execute('PRAGMA synchronous = FULL')
        local.db.execute('PRAGMA foreign_keys = ON')
    return local.db.execute


def session(execute):
    """Return the key of the cookie's session, or of a new one."""
    key = request.get_cookie('likes_session')
    if not execute('SELECT 1 FROM sessions WHERE key = ? AND expires > ?', (key, time.time())).fetchone():
        key = add_session(execute, None)
    return key


def add_session(execute, username):
    key = str(uuid.uuid4())
    execute('INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)', (key, username, time.time() + 1e6))
    response.set_cookie('likes_session', key, httponly=True, path='/', samesite='lax', max_age=86400)
    return key


@app.get('/')
def index():
    execute = connect()
    key = session(execute)
    (username,) = execute('SELECT username FROM sessions WHERE key = ?', (key,)).fetchone()
    rows = execute('SELECT thing FROM likes WHERE key = ? OR username = ? ORDER BY id', (key, username))
    info = {'title': 'Welcome Home!', 'username': username, 'likes': [thing for (thing,) in rows], 'max_like': 200}
    return template('layout.tpl', info, view='dblikes.tpl', max_username=100, template_lookup=VIEWS)


@app.post('/likes')
def like():
    execute = connect()
    values = request.forms.likes, session(execute)
    execute('INSERT OR IGNORE INTO likes (thing, key) VALUES (?, ?)', values)
    return redirect()


@app.post('/login')
def login():
    execute = connect()
    name = request.forms.username
    verify(execute('SELECT password FROM users WHERE username = ?', (name,)).fetchone()[0], request.forms.password)
    add_session(execute, name)
    return redirect()


def redirect():
    response.status = 303
    response.set_header('Location', '/')
    return 'Redirect to /'


def load():
    return app


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    for option in '--port', '--workers':
        parser.add_argument(option, type=int)
    parser.add_argument('--db')
    args = parser.parse_args()
    options = {'interface': 'wsgi', 'http': '1', 'workers': args.workers, 'blocking_threads': 2, 'log_level': 'error'}
    Granian('floor:app', port=args.port, **options).serve(target_loader=load, wrap_loader=False)
