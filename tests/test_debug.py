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

from conftest import another_writer, replace, until

if sys.platform != 'linux':
    pytest.skip('it is ended by a signal to its group', allow_module_level=True)


@pytest.fixture
def server(serve):
    return serve('--debug')


def visit(server, page=''):
    """Open a page; returns its text."""
    request = urllib.request.Request(server.url + page, headers={'Cookie': 'a=b'})
    with contextlib.closing(urllib.request.urlopen(request, timeout=60)) as answer:
        return answer.read().decode()


def test_a_request_is_told_with_its_cookie(server):
    visit(server)
    server.wait_to_say('Set-Cookie: likes_session=')
    assert 'Cookie: a=b' in server.said


def test_an_address_is_told_as_it_was_sent(server):
    with pytest.raises(urllib.error.HTTPError):
        visit(server, 'cr%C3%A8me')
    assert 'GET /cr%C3%A8me\n' in server.said


def test_nothing_is_told_without_being_asked_for(serve):
    server = serve()
    visit(server)
    assert 'likes_session' not in server.said


def test_a_connection_that_a_browser_opens_ahead_keeps_nobody_waiting(server):
    with socket.create_connection(('127.0.0.1', server.port)):
        visit(server)  # else it fails after a minute


def test_a_slip_in_sql_is_told_in_the_page_and_on_the_terminal(server, path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        # As if the code had the wrong name.
        db.execute('ALTER TABLE sessions RENAME COLUMN expires TO expirse')
    with pytest.raises(urllib.error.HTTPError) as raised:
        visit(server)
    assert raised.value.code == 500
    assert 'no column named expires' in raised.value.read().decode()
    assert 'no column named expires' in server.said


def test_waiting_for_another_program_takes_few_lines(server, path):
    with another_writer(path), pytest.raises(urllib.error.HTTPError):
        visit(server)
    assert server.said.count('BEGIN IMMEDIATE') < 20


def save(file, server, words, times=1):
    """Save a file until the server says this: it misses what comes while it starts."""
    for seconds in (1, 2, 4, 8, 16, 32):
        file.touch()
        with contextlib.suppress(AssertionError):
            return server.wait_to_say(words, times, seconds)
    pytest.fail(server.said)


def test_a_slip_is_told_and_the_mended_file_is_served(serve, copy):
    server = serve('--debug', folder=copy)
    replace(copy / 'app.py', 'def index(db):', 'def index(db)')
    save(copy / 'app.py', server, 'SyntaxError')
    replace(copy / 'sessions.py', 'import uuid', 'import uiud')
    replace(copy / 'app.py', 'def index(db)', 'def index(db):')
    save(copy / 'app.py', server, 'ModuleNotFoundError')
    replace(copy / 'sessions.py', 'import uiud', 'import uuid')
    save(copy / 'sessions.py', server, 'Likes at', times=2)
    until(server.answers)
    assert 'Welcome Home!' in visit(server)


def test_an_edited_page_is_shown_at_once(serve, copy):
    server = serve('--debug', folder=copy)
    replace(copy / 'views/dblikes.tpl', 'Nothing here yet', 'Nothing at all')
    assert 'Nothing at all' in visit(server)


ENDINGS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize('how', ENDINGS)
def test_it_ends_when_it_is_told_to(server, how):
    os.killpg(server.process.pid, how)
    assert server.process.wait(60) == 0
    server.wait_until_it_is_gone()
