"""The limit: what raw WSGI can do with the app's queries, durability, headers and page, on the app's server settings.

No framework, no templates, no checks of any input. Like the app it is served by app.serve(), on the database LIKES_DB.
"""

import html
import os
import re
import sqlite3
import threading
import time
import uuid
from urllib.parse import parse_qsl

from argon2 import PasswordHasher

import app

COOKIE = re.compile('likes_session=([0-9a-f-]{36})').search
HEADERS = [('Content-Type', 'text/html; charset=UTF-8'), ('Cache-Control', 'no-store'), *app.SECURITY_HEADERS]
FIND = 'SELECT username, expires FROM sessions WHERE key = ? AND expires > ?'
EXPIRED = 'SELECT 1 FROM sessions WHERE expires <= ? LIMIT 1'
ADD = 'INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)'
LIKES = """SELECT thing FROM likes WHERE key = ?1 OR username = (SELECT username FROM sessions WHERE key = ?1)
    ORDER BY rowid"""
LIKE = """INSERT OR IGNORE INTO likes (thing, key, username)
    SELECT ?, iif(username IS NULL, key, NULL), username FROM sessions WHERE key = ? AND ? >
    (SELECT count(*) FROM likes WHERE likes.key = sessions.key)
    + (SELECT count(*) FROM likes WHERE likes.username = sessions.username)"""
FAILED = 'SELECT at FROM failed_logins WHERE username = ? AND at > ? ORDER BY at'
PASSWORD = 'SELECT password FROM users WHERE username = ?'
verify = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1).verify
local = threading.local()


def view(likes):
    """Return the app's page as its own views make it."""
    return app.page('dblikes.tpl', None, title='Welcome Home!', likes=likes, max_like=app.MAX_LIKE)


EMPTY = view([])
BEFORE, BETWEEN, AFTER = view(['@@', '@@']).split('@@')


def limit(environ, start):
    """Answer one request."""
    if not hasattr(local, 'execute'):
        local.execute = sqlite3.connect(os.environ['LIKES_DB'], timeout=5, isolation_level=None).execute
        local.execute('PRAGMA synchronous = FULL')
        local.execute('PRAGMA foreign_keys = ON')
    execute, now = local.execute, time.time()
    fields = environ['REQUEST_METHOD'] == 'POST' and dict(parse_qsl(environ['wsgi.input'].read().decode()))
    if environ['PATH_INFO'] == '/login':
        return redirect(start, cookie(log_in(execute, now, **fields), 43200))
    match, headers = COOKIE(environ.get('HTTP_COOKIE') or ''), []
    key = match and match[1]
    if not key or not execute(FIND, (key, now)).fetchone():
        key = str(uuid.uuid4())
        execute(EXPIRED, (now,)).fetchone()
        execute(ADD, (key, None, now + 86400))
        headers = cookie(key, 86400)
    if fields:
        execute(LIKE, (fields['likes'], key, 1000))
        return redirect(start, headers)
    likes = [html.escape(thing) for (thing,) in execute(LIKES, (key,))]
    before = BEFORE.replace('2 things', f'{len(likes)} things')
    body = (before + BETWEEN.join(likes) + AFTER if likes else EMPTY).encode()
    start('200 OK', [*HEADERS, *headers, ('Content-Length', str(len(body)))])
    return [body]


def log_in(execute, now, username, password):
    """Log in with the right password, and return the new key."""
    key = str(uuid.uuid4())
    execute(FAILED, (username, now - 300)).fetchall()
    verify(execute(PASSWORD, (username,)).fetchone()[0], password)
    execute('BEGIN IMMEDIATE')
    execute(FAILED, (username, now - 300)).fetchall()
    execute(PASSWORD, (username,)).fetchone()
    execute('DELETE FROM failed_logins WHERE username = ?', (username,))
    execute(EXPIRED, (now,)).fetchone()
    execute('UPDATE OR IGNORE likes SET key = NULL, username = ? WHERE key = ?', (username, None))
    execute('DELETE FROM sessions WHERE key = ?', (None,))
    execute(ADD, (key, username, now + 43200))
    execute('COMMIT')
    return key


def cookie(key, age):
    """Return the header that sets the cookie."""
    return [('Set-Cookie', f'likes_session={key}; HttpOnly; Max-Age={age}; Path=/; SameSite=lax')]


def redirect(start, headers):
    """Answer with the app's redirect."""
    start('303 See Other', [*HEADERS, *headers, ('Location', '/'), ('Content-Length', '13')])
    return [b'Redirect to /']


def load():
    """Return the WSGI app."""
    return limit
