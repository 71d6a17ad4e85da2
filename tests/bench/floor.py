"""The framework's floor: Bottle with the app's queries and page, and nothing else.

It has the app's durability, but no checks of any input, no security headers and no
throttle. It is started with the options that the benchmark gives app.py.
"""

import argparse
import sqlite3
import threading
import time
import uuid
from pathlib import Path

import bottle
from argon2 import PasswordHasher
from bottle import Bottle, request, response, template
from granian import Granian

VIEWS = Path(__file__).resolve().parents[2] / 'views'
bottle.TEMPLATE_PATH.insert(0, str(VIEWS))
hasher = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
local = threading.local()
app = Bottle()


def connect():
    """Return the connection of this thread."""
    if not hasattr(local, 'db'):
        local.db = sqlite3.connect(args.db, timeout=5, isolation_level=None)
        local.db.execute('PRAGMA synchronous = FULL')
        local.db.execute('PRAGMA foreign_keys = ON')
    return local.db


def session(db):
    """Return the key of the cookie's session, or of a new one."""
    key = request.get_cookie('likes_session')
    query = 'SELECT 1 FROM sessions WHERE key = ? AND expires > ?'
    if db.execute(query, (key, time.time())).fetchone():
        return key
    return add_session(db, None)


def add_session(db, username):
    """Make a session, send its cookie and return its key."""
    key = str(uuid.uuid4())
    db.execute(
        'INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)',
        (key, username, time.time() + 1e6),
    )
    response.set_cookie(
        'likes_session', key, httponly=True, path='/', samesite='lax', max_age=86400
    )
    return key


@app.get('/')
def index():
    db = connect()
    key = session(db)
    query = 'SELECT username FROM sessions WHERE key = ?'
    (username,) = db.execute(query, (key,)).fetchone()
    rows = db.execute(
        'SELECT thing FROM likes WHERE key = ? OR username = ? ORDER BY id',
        (key, username),
    )
    info = {
        'title': 'Welcome Home!',
        'username': username,
        'likes': [thing for (thing,) in rows],
    }
    return template('dblikes.tpl', info)


@app.post('/likes')
def like():
    db = connect()
    values = (request.forms.likes, session(db))
    db.execute('INSERT OR IGNORE INTO likes (thing, key) VALUES (?, ?)', values)
    return redirect_home()


@app.post('/login')
def login():
    db = connect()
    name = request.forms.username
    query = 'SELECT password FROM users WHERE username = ?'
    (stored,) = db.execute(query, (name,)).fetchone()
    hasher.verify(stored, request.forms.password)
    add_session(db, name)
    return redirect_home()


def redirect_home():
    response.status = 303
    response.set_header('Location', '/')
    return 'Redirect to /'


def load():
    return app


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--port', type=int)
    parser.add_argument('--workers', type=int)
    parser.add_argument('--db')
    args = parser.parse_args()
    server = Granian(
        'floor:app',
        port=args.port,
        interface='wsgi',
        http='1',
        workers=args.workers,
        blocking_threads=512,  # as a server needs them that half-sent forms cannot stop
        log_level='error',
    )
    server.serve(target_loader=load, wrap_loader=False)
