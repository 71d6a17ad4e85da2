"""The limit: what raw WSGI can do with the app's queries, durability, headers and page, on the app's server settings.

No framework, no templates, no checks of any input. `python limit.py PORT DATABASE WORKERS`
"""

import html
import re
import sqlite3
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import unquote_plus

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import app
from db import HASHER

COOKIE = re.compile('likes_session=([0-9a-f-]{36})').search
HEADERS = [('Content-Type', 'text/html; charset=UTF-8'), ('Cache-Control', 'no-store'), *app.SECURITY_HEADERS]
LIKES = """SELECT thing, rowid FROM likes WHERE key = ? UNION ALL SELECT thing, rowid FROM likes
    WHERE username = (SELECT username FROM sessions WHERE key = ?) ORDER BY rowid"""
LIKE = """INSERT OR IGNORE INTO likes (thing, key, username)
    SELECT ?, iif(username IS NULL, key, NULL), username FROM sessions WHERE key = ? AND ? >
    (SELECT count(*) FROM likes WHERE likes.key = sessions.key)
    + (SELECT count(*) FROM likes WHERE likes.username = sessions.username)"""
local = threading.local()


def view(likes):
    """Return the app's page as its own views make it."""
    info = {'title': 'Welcome Home!', 'likes': likes, 'max_like': app.MAX_LIKE, 'username': None, 'asset': app.asset}
    return app.template('layout.tpl', info, view='dblikes.tpl', template_lookup=app.VIEWS)


EMPTY = view([])
BEFORE, AFTER = view(['@@']).split('@@')
BETWEEN = '</li>\n<li dir="auto">'


def limit(environ, start):
    """Answer one request."""
    if not hasattr(local, 'db'):
        local.db = sqlite3.connect(sys.argv[2], timeout=5, isolation_level=None)
        local.db.execute('PRAGMA synchronous = FULL')
        local.db.execute('PRAGMA foreign_keys = ON')
    execute = local.db.execute
    if environ['PATH_INFO'] == '/login' and environ['REQUEST_METHOD'] == 'POST':
        return login(execute, environ, start)
    match, now, headers = COOKIE(environ.get('HTTP_COOKIE') or ''), time.time(), HEADERS
    key = match and match[1]
    if not execute('SELECT username, expires FROM sessions WHERE key = ? AND expires > ?', (key, now)).fetchone():
        key = str(uuid.uuid4())
        execute('SELECT 1 FROM sessions WHERE expires <= ? LIMIT 1', (now,)).fetchone()
        execute('INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)', (key, None, now + 86400))
        cookie = f'likes_session={key}; HttpOnly; Max-Age=86400; Path=/; SameSite=lax'
        headers = [*HEADERS, ('Set-Cookie', cookie)]
    if environ['REQUEST_METHOD'] == 'POST':
        execute(LIKE, (unquote_plus(environ['wsgi.input'].read().decode()[6:]), key, 1000))
        start('303 See Other', [*headers, ('Location', '/'), ('Content-Length', '13')])
        return [b'Redirect to /']
    likes = [html.escape(thing) for thing, _ in execute(LIKES, (key, key))]
    body = (BEFORE + BETWEEN.join(likes) + AFTER if likes else EMPTY).encode()
    start('200 OK', [*headers, ('Content-Length', str(len(body)))])
    return [body]


def login(execute, environ, start):
    """Check the password and begin a session."""
    fields = dict(pair.split('=') for pair in environ['wsgi.input'].read().decode().split('&'))
    name, key = fields.get('username'), str(uuid.uuid4())
    (stored,) = execute('SELECT password FROM users WHERE username = ?', (name,)).fetchone()
    execute('SELECT at FROM failed_logins WHERE username = ? AND at > ? ORDER BY at', (name, 0)).fetchall()
    HASHER.verify(stored, unquote_plus(fields['password']))
    execute('BEGIN IMMEDIATE')
    execute('DELETE FROM failed_logins WHERE username = ?', (name,))
    execute('INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)', (key, name, time.time() + 43200))
    execute('COMMIT')
    start('303 See Other', [*HEADERS, ('Set-Cookie', f'likes_session={key}'), ('Content-Length', '0')])
    return []


def load():
    """Return the WSGI app."""
    return limit


if __name__ == '__main__':
    app.serve(load, '127.0.0.1', int(sys.argv[1]), int(sys.argv[3]))
