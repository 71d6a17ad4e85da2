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
    pytest.skip('it is ended by a signal to its group', allow_module_level=True)


@pytest.fixture
def server(serve):
    return serve('--debug')


def visit(server):
    """Open the home page; returns the answer."""
    request = urllib.request.Request(server.url, headers={'Cookie': 'theme=dark'})
    return urllib.request.urlopen(request, timeout=60)


def test_a_request_is_told_with_its_cookie(server):
    visit(server).close()
    until(lambda: 'Set-Cookie: likes_session=' in server.said)
    assert 'Cookie: theme=dark' in server.said


def test_nothing_is_told_without_being_asked_for(serve):
    server = serve()
    visit(server).close()
    assert 'likes_session' not in server.said


def test_a_connection_that_a_browser_opens_ahead_keeps_nobody_waiting(server):
    with socket.create_connection(('127.0.0.1', server.port)):
        visit(server).close()  # else it fails after a minute


def test_a_slip_in_sql_is_told_in_the_page_and_on_the_terminal(server, path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        # As if the code had the wrong name.
        db.execute('ALTER TABLE sessions RENAME COLUMN expires TO expirse')
    with pytest.raises(urllib.error.HTTPError) as raised:
        visit(server)
    assert raised.value.code == 500
    assert 'no such column: expires' in raised.value.read().decode()
    assert 'no such column: expires' in server.said


def test_it_ends_at_ctrl_c(server):
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) == 0
