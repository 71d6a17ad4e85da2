"""`python app.py --debug`: what it tells whoever reads or edits the code."""

import contextlib
import os
import signal
import socket
import sqlite3
import sys
import urllib.error
import urllib.request

import pytest

from conftest import until

if sys.platform != 'linux':
    pytest.skip('it is ended by means of Linux', allow_module_level=True)


@pytest.fixture
def server(serve):
    return serve('--debug')


def visit(server):
    """Open the home page; returns the answer."""
    request = urllib.request.Request(server.url, headers={'Cookie': 'theme=dark'})
    return urllib.request.urlopen(request, timeout=60)


def test_a_request_is_told_as_a_story(server):
    visit(server).close()
    until(lambda: '200 OK\n    Set-Cookie: likes_session=' in server.said)
    story = server.said[server.said.index('GET /\n') :]
    key = story.partition('Set-Cookie: likes_session=')[2][:36]
    told = ['Cookie: theme=dark', 'BEGIN', 'INSERT INTO sessions', 'COMMIT', '200 OK']
    places = [story.index(step) for step in told]
    assert places == sorted(places)
    assert key in story[: story.index('200 OK')].replace('?', key)
    assert 'PRAGMA' not in story


def test_it_is_told_only_where_it_was_asked_for(serve):
    server = serve()
    visit(server).close()
    assert 'likes_session' not in server.said


def test_a_connection_that_a_browser_opens_ahead_keeps_nobody_waiting(server):
    with socket.create_connection(('127.0.0.1', server.port)):
        visit(server).close()


def test_a_slip_in_sql_is_told_in_the_page_and_on_the_terminal(server, path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute('ALTER TABLE sessions RENAME COLUMN expires TO expirse')
    with pytest.raises(urllib.error.HTTPError) as raised:
        visit(server)
    assert raised.value.code == 500
    assert 'no such column: expires' in raised.value.read().decode()
    assert 'no such column: expires' in server.said


def test_it_ends_at_ctrl_c(server):
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) == 0
