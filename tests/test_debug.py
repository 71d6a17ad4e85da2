"""`python app.py --debug`: what it tells whoever reads or edits the code."""

import contextlib
import http.client
import os
import re
import signal
import socket
import sqlite3
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest

import db as database
from conftest import ROOT, another_writer, parse, replace, until

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


def test_that_a_first_visit_runs_twice_is_told(server):
    """On a connection that only reads, and then on one that writes."""
    visit(server)
    server.wait_to_say('That failed: this connection only reads')


def test_an_address_is_told_as_it_was_sent(server):
    with pytest.raises(urllib.error.HTTPError):
        visit(server, 'cr%C3%A8me')
    assert 'GET /cr%C3%A8me -> 404 Not Found\n' in server.said


def test_nothing_is_told_without_being_asked_for(serve):
    server = serve()
    page = visit(server)
    assert 'likes_session' not in server.said
    assert 'likes_session' not in page
    assert 'INSERT INTO' not in page


def test_the_start_lists_the_routes(server):
    assert re.search('POST +/likes +like\n', server.said)


@pytest.fixture
def panel_after(server):
    """What stands below the page after a first visit and a like: a function."""
    cookies = urllib.request.HTTPCookieProcessor()
    opener = urllib.request.build_opener(cookies)

    def like(thing):
        opener.open(server.url).close()
        body = urllib.parse.urlencode({'likes': thing}).encode()
        with opener.open(f'{server.url}likes', body) as page:
            return parse(page.read()).find(class_='panel')

    return like


def test_the_chapter_is_told_below_the_page(panel_after):
    """The form, and the page that follows it."""
    told = panel_after('walnuts').get_text()
    parts = ['POST /likes -> like', 'Cookie: likes_session=', 'BEGIN IMMEDIATE']
    parts += ["INSERT INTO likes (thing, key, username) VALUES ('walnuts'", 'COMMIT']
    parts += ['303 See Other', 'Set-Cookie: likes_session=']
    parts += ['GET / -> index', 'SELECT thing FROM likes', '200 OK']
    for part in parts:
        _, found, told = told.partition(part)
        assert found == part


def test_the_visitors_rows_are_shown_below_the_page(panel_after, db):
    database.add_session(db, 'of another', None, 0, 1)
    database.store_like(db, 'of another', 'coffee')
    shown = panel_after('walnuts')
    (key,) = db.execute("SELECT key FROM likes WHERE thing = 'walnuts'").fetchone()
    cells = [cell.get_text() for cell in shown.find_all('td')]
    assert cells.count(key) == 2  # in both tables
    assert 'walnuts' in cells
    assert 'of another' not in cells


def test_what_was_typed_is_text_below_the_page_too(panel_after):
    assert panel_after('<b>walnuts</b></body>').find('b') is None


def test_what_is_no_page_has_nothing_below_it(server):
    connection = http.client.HTTPConnection(server.host, server.port, 60)
    form = {'Content-Type': 'application/x-www-form-urlencoded'}
    connection.request('POST', '/likes', 'likes=%3C%2Fbody%3E', form)
    assert connection.getresponse().read() == b'Redirect to /'
    connection.request('GET', '/static/style.css')
    style = (ROOT / 'static/style.css').read_bytes()
    assert connection.getresponse().read() == style
    connection.request('HEAD', '/')
    assert connection.getresponse().read() == b''
    connection.close()


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


def test_a_lock_is_told_with_its_cause_and_in_few_lines(serve, path, impatient):
    server = serve('--debug', folder=impatient)
    with another_writer(path), pytest.raises(urllib.error.HTTPError) as raised:
        visit(server)
    assert 'another connection or program' in raised.value.read().decode()
    assert server.said.count('BEGIN IMMEDIATE') < 20


def test_tables_of_another_version_are_told_with_the_way_on(serve, code, db):
    server = serve('--debug', folder=code)
    replace(code / 'db.py', 'SCHEMA_VERSION = 2', 'SCHEMA_VERSION = 3')
    save(code / 'db.py', server, 'Likes at', times=2)
    until(server.listens)
    with pytest.raises(urllib.error.HTTPError) as raised:
        visit(server)
    assert '`db.py reset`' in raised.value.read().decode()
    assert '`db.py reset`' in server.said


def save(file, server, words, times=1):
    """Save a file until the server says this: it misses what comes while it starts."""
    for seconds in (0.5, 1, 2, 4, 8, 16, 32):
        file.touch()
        with contextlib.suppress(AssertionError):
            return server.wait_to_say(words, times, seconds)
    pytest.fail(server.said)


def test_a_slip_is_told_and_the_mended_file_is_served(serve, code):
    server = serve('--debug', folder=code)
    replace(code / 'app.py', 'def index(db):', 'def index(db)')
    save(code / 'app.py', server, 'SyntaxError')
    replace(code / 'sessions.py', 'import uuid', 'import uiud')
    replace(code / 'app.py', 'def index(db)', 'def index(db):')
    save(code / 'app.py', server, 'ModuleNotFoundError')
    replace(code / 'sessions.py', 'import uiud', 'import uuid')
    save(code / 'sessions.py', server, 'Likes at', times=2)
    until(server.answers)
    assert 'Welcome Home!' in visit(server)


def test_an_edited_page_is_shown_at_once(serve, code):
    server = serve('--debug', folder=code)
    replace(code / 'views/dblikes.tpl', 'Nothing here yet', 'Nothing at all')
    assert 'Nothing at all' in visit(server)


ENDINGS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize('how', ENDINGS)
def test_it_ends_when_it_is_told_to(server, how):
    os.killpg(server.process.pid, how)
    assert server.process.wait(60) == 0
    server.wait_until_it_is_gone()
