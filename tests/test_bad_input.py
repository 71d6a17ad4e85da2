"""Input that nobody should send, and odd input that anybody may."""

import logging
import socket
import sqlite3
import sys
import threading
from contextlib import closing, contextmanager

import pytest

import app
import db as database
from conftest import PASSWORD, Browser, Server

FORM = 'application/x-www-form-urlencoded'
MULTIPART = 'multipart/form-data; boundary=edge'


def tables(db):
    """All that is stored of visitors."""
    return [
        db.execute(f'SELECT * FROM {table} ORDER BY 1, 2').fetchall()
        for table in ('sessions', 'likes', 'failed_logins')
    ]


@pytest.fixture
def visitor(browser):
    """A browser that may send anything, with a session that likes tea and coffee."""
    browser.like('tea')
    browser.like('coffee')
    browser.lint = False
    return browser


@pytest.fixture
def stranger(other_browser):
    """A browser that may send anything, without a session."""
    other_browser.lint = False
    return other_browser


@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    """As visitor, stranger and db; shared by tests that change nothing in them."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp('shared') / 'likes.db'
        patch.setenv('LIKES_DB', str(path))
        patch.setattr(app.plugin, 'local', threading.local())
        visitor, stranger = Browser(), Browser()
        visitor.like('tea')
        visitor.like('coffee')
        visitor.lint = stranger.lint = False
        with closing(database.COMP249Db(path)) as db:
            yield visitor, stranger, db


def part(content, charset='utf-8'):
    """A multipart body with one part."""
    disposition = b'Content-Disposition: form-data; name="likes"'
    content_type = f'Content-Type: text/plain; charset={charset}'.encode()
    return b'\r\n'.join([b'--edge', disposition, content_type, b'', content, b'--edge--', b''])


# Refused, each with a page that says why

TOO_LONG, CONTROL, UNREADABLE = 'too long', 'control characters', 'could not be read'
PARTIAL, TOO_BIG, NOWHERE, NOT_HERE = 'Only a part', 'more than this site takes', 'nothing at this address', 'that kind'
BIG = b'likes=' + b'x' * 110_000
KB_100 = b'likes=tea&more='.ljust(100 * 1024, b'x')


def post(body, content_type=FORM, path='/likes', **headers):
    if isinstance(body, str):
        body = body.encode()
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    return {'url_or_req': path, 'method': 'POST', 'body': body, 'headers': {'Content-Type': content_type, **headers}}


def get(path, method='GET'):
    return {'url_or_req': path, 'method': method}


REFUSED = {
    'a like of 201 characters': (post('likes=' + 'x' * 201), 400, TOO_LONG),
    'a like of 201 emoji': (post('likes=' + '%F0%9F%8D%B5' * 201), 400, TOO_LONG),
    **{
        f'a like with {name} in it': (post(f'likes=a%{code}b'), 400, CONTROL)
        for name, code in {
            'NUL': '00',
            'BEL': '07',
            'backspace': '08',
            'escape': '1B',
            'DEL': '7F',
            'the C1 control PAD': 'C2%80',
            'the C1 control APC': 'C2%9F',
        }.items()
    },
    'nothing but a NUL': (post('likes=%00'), 400, CONTROL),
    'percent signs that give no UTF-8': (post('likes=caf%E9'), 400, UNREADABLE),
    'an overlong UTF-8 slash': (post('likes=%C0%AF'), 400, UNREADABLE),
    'a surrogate in UTF-8': (post('likes=%ED%A0%80'), 400, UNREADABLE),
    'half an emoji': (post('likes=%F0%9F%8D'), 400, UNREADABLE),
    'raw bytes that are not UTF-8': (post(b'likes=caf\xe9'), 400, UNREADABLE),
    'a field name that is not UTF-8': (post('caf%E9=1&likes=tea'), 400, UNREADABLE),
    'a second field that is not UTF-8': (post('likes=tea&more=%FF'), 400, UNREADABLE),
    'a multipart form': (post(part(b'tea'), MULTIPART), 400, UNREADABLE),
    'a multipart form in quotes': (post(part(b'tea'), '"multipart/form-data"; boundary=edge'), 400, UNREADABLE),
    'a multipart form in capitals': (post(part(b'tea'), MULTIPART.upper()), 400, UNREADABLE),
    'a charset that there is not': (post(part(b'tea', 'klingon'), MULTIPART), 400, UNREADABLE),
    'a multipart form in a charset that there is not': (
        post(part(b'tea'), f'{MULTIPART}; charset=klingon'),
        400,
        UNREADABLE,
    ),
    'a multipart form without a boundary': (post(part(b'tea'), 'multipart/form-data'), 400, UNREADABLE),
    'a multipart form cut off in a field': (post(part(b'tea')[:-12], MULTIPART), 400, UNREADABLE),
    'an empty multipart form': (post('', MULTIPART), 400, UNREADABLE),
    'a content type with half an attribute': (post('likes=tea', f'{FORM}; charset'), 400, UNREADABLE),
    'a length that is no number': (post('likes=tea', Content_Length='many'), 400, UNREADABLE),
    'a length beyond the body': (post('likes=tea', Content_Length='99'), 400, PARTIAL),
    'a length beyond the multipart body': (post(part(b'tea'), MULTIPART, Content_Length='9999'), 400, PARTIAL),
    'a form that does not say its length': (post('likes=tea', Transfer_Encoding='chunked'), 411, 'how long it is'),
    'a body over 100 KB': (post(BIG), 413, TOO_BIG),
    'a body of 100 KB and a byte': (post(KB_100 + b'x'), 413, TOO_BIG),
    'a multipart body over 100 KB': (post(part(BIG), MULTIPART), 413, TOO_BIG),
    'a multipart body in a charset that takes seconds to read': (
        post(part(b'9' * 95_000, 'punycode'), MULTIPART),
        400,
        UNREADABLE,
    ),
    'a login over 100 KB': (post(BIG, path='/login'), 413, TOO_BIG),
    'a multipart login over 100 KB': (post(part(BIG), MULTIPART, '/login'), 413, TOO_BIG),
    'a body that says it has an exabyte': (post('likes=tea', Content_Length=f'{10**18}'), 413, TOO_BIG),
    'a username that is not UTF-8': (post('username=%FF&password=x', path='/login'), 400, UNREADABLE),
    'a password that is not UTF-8': (post('username=anna&password=%FF', path='/login'), 400, UNREADABLE),
    'half a login': (post('username=a', path='/login', Content_Length='30'), 400, PARTIAL),
    'an address that there is not': (get('/nowhere'), 404, NOWHERE),
    'an address with a slash too many': (get('/login/'), 404, NOWHERE),
    'an address that is HTML': (get('/%3Cscript%3Ealert(1)%3C/script%3E'), 404, NOWHERE),
    'a form sent to nowhere': (get('/nowhere', 'POST'), 404, NOWHERE),
    'a file that there is not': (get('/static/nothing.css'), 404, ''),
    'the folder of files': (get('/static/'), 404, ''),
    **{
        f'the way out of static by {path:.40}': (get(f'/static/{path}'), (403, 404), '')
        for path in (
            '../app.py',
            '../static/../app.py',
            '%2e%2e/app.py',
            '..%2fapp.py',
            '%2e%2e%2fapp.py',
            '..%5capp.py',
            '%252e%252e/app.py',
            '....//app.py',
            '/etc/passwd',
            '%2fetc%2fpasswd',
            'style.css/../../app.py',
            'style.css%00.py',
            '%00',
            'x' * 5000,
        )
    },
}


@pytest.mark.parametrize('who', ['a visitor', 'a stranger'])
@pytest.mark.parametrize(('sent', 'status', 'words'), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_on_a_page_and_changes_nothing(shared, who, sent, status, words):
    visitor, stranger, db = shared
    before = tables(db)
    answer = (visitor if who == 'a visitor' else stranger).request(**sent, expect_errors=True)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,))
    assert answer.html.find('a', class_='home', href='/')
    assert answer.html.find('link', rel='stylesheet')
    assert words in answer.html.main.get_text()
    for word in ('Traceback', 'Error:', '.py', 'import '):
        assert word not in answer.text
    assert 'Set-Cookie' not in answer.headers
    assert tables(db) == before


@pytest.mark.parametrize(
    ('at', 'method', 'allowed'),
    [
        ('/', 'POST', 'GET'),
        ('/', 'DELETE', 'GET'),
        ('/', 'OPTIONS', 'GET'),
        ('/likes', 'GET', 'POST'),
        ('/likes', 'PUT', 'POST'),
        ('/forget', 'GET', 'POST'),
        ('/forget', 'HEAD', 'POST'),
        ('/logout', 'GET', 'POST'),
        ('/login', 'PUT', 'GET,POST'),
        ('/login', 'ANYTHING', 'GET,POST'),
        ('/static/style.css', 'POST', 'GET'),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(shared, at, method, allowed):
    visitor, _, db = shared
    before = tables(db)
    answer = visitor.request(at, method=method, expect_errors=True)
    assert answer.status_code == 405
    assert answer.headers['Allow'].replace(' ', '') == allowed
    assert method == 'HEAD' or NOT_HERE in answer.html.main.get_text()
    assert tables(db) == before


def test_a_full_list_takes_no_more_but_keeps_what_it_has(visitor, db, monkeypatch):
    monkeypatch.setattr(database, 'MAX_LIKES', 2)
    before = tables(db)
    answer = visitor.like('milk')
    assert answer.status_code == 409
    assert 'Your list is full' in answer.html.main.get_text()
    assert visitor.like('tea').status_code == 303  # it is on the list
    assert tables(db) == before


def test_a_list_holds_a_thousand_things():
    assert database.MAX_LIKES == 1000


def test_an_endless_form_is_not_read_to_its_end(path):
    """ASVS 5.0, 2.2.1: of a body that does not say its length, no more is read than the site takes."""

    class Endless:
        size = 0

        def read(self, size):
            assert size >= 0
            self.size += size
            if self.size > 10_000_000:
                pytest.fail('read 10 MB')
            line = b'1000\r\n' + b'x' * 4096 + b'\r\n'
            start = (self.size - size) % len(line)
            return (line * (size // len(line) + 2))[start : start + size]

    environ = {
        'REQUEST_METHOD': 'POST',
        'PATH_INFO': '/likes',
        'CONTENT_TYPE': FORM,
        'HTTP_TRANSFER_ENCODING': 'chunked',
        'wsgi.url_scheme': 'http',
        'wsgi.input': Endless(),
    }
    statuses = []
    app.app(environ, lambda status, *_: statuses.append(int(status[:3])))
    assert statuses == [411]


def test_a_form_of_100_kb_is_taken(browser):
    browser.post('/likes', KB_100)
    assert browser.likes == ['tea']


# Odd, but good

ODD = {
    'HTML': '<script>alert("1")</script>',
    'an HTML attribute': '" onmouseover="alert(1)',
    'HTML that would end the list': '</li></ul><!--',
    'entities': '&lt;b&gt; &amp;amp; &#65; &nbsp',
    'a template': "{{!'x'}} % end {{",
    'SQL': "tea'); DROP TABLE likes; --",
    'SQL wildcards': '%_ ? ?1 :a',
    'a path': '../../etc/passwd',
    'quotes of all kinds': """'"`«»„“""",
    'form syntax': 'a=b&likes=c+d%20e%',
    'percent and plus': '100% + 1',
    'nothing but a digit': '0',
    'a Python literal': 'None',
    'a tea cup': '🍵',
    'a family': '👩🏽\u200d👩🏿\u200d👧🏻\u200d👦🏼',
    'a flag': '🏴󠁧󠁢󠁳󠁣󠁴󠁿',
    '200 emoji': '🙂' * 200,
    '200 letters': 'é' * 200,
    'Arabic': 'الشاي الأخضر',
    'Hebrew between Latin': 'tea תה tea',
    'a right-to-left override': 'abc\u202edef\u202c',
    'combining marks': 'Z͑ͫ̓a̴l̷g̸o̡',
    'a combining mark alone': '\u0301',
    'a zero width space': 'a\u200bb',
    'nothing but a zero width joiner': '\u200d',
    'a byte order mark': '\ufefftea',
    'a private use character': '\ue000',
    'the last character of all': '\U0010ffff',
    'a noncharacter': '\ufffe',
    'the replacement character': '\ufffd',
    'Chinese': '绿茶',
    'beyond the first plane': '𠜎𝒯𝓮𝕒',
    'Turkish and German': 'İi ẞß',
    'capitals': 'TEA tea Tea',
}


@pytest.mark.parametrize('text', ODD.values(), ids=ODD)
def test_any_text_is_kept_and_shown_as_typed(browser, db, text):
    """ASVS 5.0, 1.2.1, 1.2.4, 3.2.2."""
    assert browser.like(text).status_code == 303
    assert browser.likes == [text]
    assert database.get_likes(db, browser.key) == [text]


@pytest.mark.parametrize(('first', 'second'), [('tea', 'Tea'), ('\xe9', 'e\u0301'), ('A', '\uff21')])
def test_texts_that_look_much_alike_stay_two(browser, first, second):
    browser.like(first)
    browser.like(second)
    assert browser.likes == [first, second]


@pytest.mark.parametrize(
    ('typed', 'kept'),
    [
        pytest.param('  tea', 'tea', id='space before'),
        pytest.param('tea \t\r\n', 'tea', id='space after'),
        pytest.param('green  \t tea', 'green tea', id='space within'),
        pytest.param('green\ntea', 'green tea', id='a new line'),
        pytest.param('green\xa0tea\u2003\u3000', 'green tea', id='spaces of other kinds'),
        pytest.param(' ' * 300 + 'tea', 'tea', id='more space than a like may be long'),
    ],
)
def test_white_space_counts_as_one_space(browser, typed, kept):
    browser.post('/likes', {'likes': typed})
    assert browser.likes == [kept]


@pytest.mark.parametrize(
    'body',
    ['', 'likes=', 'likes', 'likes=+', 'likes=%0A%09', 'likes=%C2%A0', 'other=tea', 'Likes=tea', '&&&=&'],
    ids=repr,
)
def test_a_blank_like_is_ignored(browser, body):
    assert browser.post('/likes', body).status_code == 303
    assert browser.likes == []


# Cookies of others beside ours

OURS = '{name}={key}'
COOKIES = {
    'alone': OURS,
    'after JSON': 'prefs={{"a":1,"b":[2, 3]}}; ' + OURS,
    'before JSON': OURS + '; prefs={{"a":1}}',
    'after a quoted value': 'a="b c"; ' + OURS,
    'after an open quote': 'a="b; ' + OURS,
    'after a bare word': 'bare; ' + OURS,
    'after an empty name': '=x; ' + OURS,
    'after a huge one': 'a=' + 'x' * 60_000 + '; ' + OURS,
    'after thousands': 'a=b; ' * 5000 + OURS,
    'after empty ones': ';; ; ;' + OURS,
    'without space between': 'a=b;' + OURS + ';c=d',
    'with much space between': 'a=b;   ' + OURS + ';   c=d',
    'in quotes': 'a=b; {name}="{key}"',
    'after one that is named as ours at its end': 'x{name}=00000000-0000-4000-8000-000000000000; ' + OURS,
    'after one that is named as ours at its start': '{name}x=00000000-0000-4000-8000-000000000000; ' + OURS,
    'after garbage of the same name': '{name}=garbage; ' + OURS,
    'after nothing of the same name': '{name}=; ' + OURS,
    'after a made-up key of the same name': '{name}=00000000-0000-4000-8000-000000000000; ' + OURS,
    'before garbage of the same name': OURS + '; {name}=garbage',
    'after odd characters': "a=b,c; d=é; e=@:/[]?'; " + OURS,
    'after a reserved attribute': 'Path=/; Domain=x; Expires=Thu, 01 Jan 1970; ' + OURS,
}


@pytest.mark.parametrize('header', COOKIES.values(), ids=COOKIES)
def test_a_foreign_cookie_does_not_end_the_session(shared, header):
    visitor, _, db = shared
    header = header.format(name='likes_session', key=visitor.key)
    before = tables(db)
    answer = visitor.get('/', headers={'Cookie': header})
    assert [item.string for item in answer.html.select('.likes li')] == ['tea', 'coffee']
    assert 'Set-Cookie' not in answer.headers
    assert tables(db) == before


# When the database cannot do what it should


@contextmanager
def locked(path):
    """Another program writes, and takes its time."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute('BEGIN IMMEDIATE')
        yield
        other.execute('ROLLBACK')


@contextmanager
def pragma(name, there, back):
    """A setting of this thread's connection."""
    app.plugin.connection().execute(f'PRAGMA {name} = {there}')
    yield
    app.plugin.connection().execute(f'PRAGMA {name} = {back}')


TROUBLES = {
    'locked': locked,
    'read-only': lambda path: pragma('query_only', 1, 0),
    'full': lambda path: pragma('max_page_count', 1, 0xFFFFFFFE),
}


@pytest.mark.parametrize('trouble', TROUBLES)
def test_a_like_that_cannot_be_stored_is_answered_and_the_next_one_works(visitor, path, monkeypatch, caplog, trouble):
    """ASVS 5.0, 16.5.2, 16.5.3."""
    monkeypatch.setattr(database, 'LOCK_TIMEOUT', 0.02)
    with TROUBLES[trouble](path):
        likes = visitor.likes  # reading goes on
        for number in range(100):  # a full disk has room in its last page still
            answer = visitor.post('/likes', {'likes': f'{number:0200}'}, expect_errors=True)
            if answer.status_code != 303:
                break
            likes.append(f'{number:0200}')
        assert answer.status_code == 503
        assert int(answer.headers['Retry-After']) > 0
        assert 'try again' in answer.html.main.get_text()
        assert 'Set-Cookie' not in answer.headers
        assert visitor.likes == likes
    assert [record.levelname for record in caplog.records] == ['ERROR']
    assert "POST '/likes'" in caplog.text
    assert 'Traceback' not in caplog.text
    visitor.like('milk')
    assert visitor.likes == [*likes, 'milk']


@pytest.mark.parametrize('trouble', ['locked', 'read-only'])
@pytest.mark.parametrize(
    ('method', 'at'), [('GET', '/'), ('POST', '/likes'), ('POST', '/login'), ('POST', '/forget'), ('POST', '/logout')]
)
def test_whatever_must_write_waits_then_gives_up_politely(
    visitor, stranger, user, path, db, monkeypatch, trouble, method, at
):
    monkeypatch.setattr(database, 'LOCK_TIMEOUT', 0.02)
    who = stranger if at in ('/', '/likes') else visitor
    request = {
        'method': method,
        'body': f'likes=milk&username={user}&password={PASSWORD}'.encode(),
        'headers': {'Content-Type': FORM},
        'expect_errors': True,
    }
    before = tables(db)
    with TROUBLES[trouble](path):
        answer = who.request(at, **request)
    assert answer.status_code == 503
    assert 'Retry-After' in answer.headers
    assert 'Set-Cookie' not in answer.headers
    assert tables(db) == before
    answer = who.request(at, **request)
    assert answer.status_code in (200, 303)
    assert 'Set-Cookie' in answer.headers


def test_the_app_waits_five_seconds_for_a_lock():
    assert database.LOCK_TIMEOUT == 5


@pytest.mark.parametrize(
    'error',
    [ZeroDivisionError('a secret'), KeyError('a secret'), UnicodeError('a secret'), sqlite3.DatabaseError('a secret')],
    ids=repr,
)
def test_a_bug_gives_a_page_and_its_traceback_goes_to_the_log_only(visitor, monkeypatch, caplog, error):
    """ASVS 5.0, 16.5.1, 16.5.4."""

    def broken(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(app, 'get_likes', broken)
        answer = visitor.get('/', expect_errors=True)
    assert answer.status_code == 500
    assert 'Something broke' in answer.html.main.get_text()
    for word in ('Traceback', type(error).__name__, 'a secret', '.py'):
        assert word not in answer.text
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[1] is error
    assert visitor.likes == ['tea', 'coffee']


@pytest.mark.skipif(sys.version_info < (3, 11), reason='SQLite gives Python 3.10 no code of the error')
def test_wrong_sql_is_a_bug_and_does_not_pass(visitor, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(app, 'get_likes', lambda db, key: db.execute('SELECT thing FORM likes'))
        answer = visitor.get('/', expect_errors=True)
    assert answer.status_code == 500
    assert 'near "likes": syntax error' in caplog.text
    assert visitor.likes == ['tea', 'coffee']


def test_a_bug_that_needs_no_database_gives_the_same_page(browser, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(app, 'static_file', broken)
    answer = browser.get('/static/style.css', expect_errors=True)
    assert answer.status_code == 500
    assert 'Something broke' in answer.html.main.get_text()
    assert 'Traceback' not in answer.text


@pytest.mark.parametrize(('error', 'status'), [(sqlite3.OperationalError, 503), (sqlite3.DatabaseError, 500)])
def test_the_error_page_needs_no_database(browser, monkeypatch, error, status):
    def broken(*_):
        raise error('unable to open database file')

    monkeypatch.setattr(app, 'COMP249Db', broken)
    assert 'There is nothing' in browser.get('/nowhere', expect_errors=True).html.main.get_text()
    assert browser.get('/', expect_errors=True).status_code == status


def test_a_database_that_cannot_be_opened_is_waited_for_once(browser, monkeypatch):
    waits = []

    def locked(*_):
        waits.append(database.LOCK_TIMEOUT)
        raise sqlite3.OperationalError('database is locked')

    monkeypatch.setattr(app, 'COMP249Db', locked)
    assert browser.get('/', expect_errors=True).status_code == 503
    assert len(waits) == 1


def test_a_thread_that_ends_leaves_no_connection_behind(browser, path):
    """The HTTP server ends threads that have nothing to do."""
    thread = threading.Thread(target=browser.get, args=['/'])
    thread.start()
    thread.join()
    assert path.exists()
    assert not path.with_name('likes.db-wal').exists()  # SQLite removes it with the last connection


# What the HTTP server decides


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    """The real server; one for all that follows, which shows that it survives it."""
    server = Server(tmp_path_factory.mktemp('server') / 'likes.db', '--workers', '1')
    yield server
    assert server.stop() == 0
    assert 'Traceback' not in server.log.read_text()


def talk(server, data, hang_up=False):
    """Return all that the server answers to the bytes; `hang_up`: nothing more comes, and the server can see that."""
    answer = b''
    with socket.create_connection(('127.0.0.1', server.port), timeout=10) as connection:
        try:
            connection.sendall(data)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:  # the server did not want the rest
            pass
    return answer


GET = b'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n'
POST = b'POST /likes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: %s\r\n' % FORM.encode()
CHUNKED = POST + b'Transfer-Encoding: chunked\r\n\r\n'


def ask(path):
    return GET.replace(b' / ', b' ' + path + b' ') + b'\r\n'


RAW = {
    'a length too short': (POST + b'Content-Length: 5\r\n\r\nlikes=tea', False),
    'a length too long': (POST + b'Content-Length: 99\r\n\r\nlikes=tea', True),
    'a length that is no number': (POST + b'Content-Length: many\r\n\r\nlikes=tea', False),
    'a length below nought': (POST + b'Content-Length: -9\r\n\r\nlikes=tea', False),
    'two lengths': (POST + b'Content-Length: 9\r\nContent-Length: 5\r\n\r\nlikes=tea', False),
    'no length': (POST + b'\r\nlikes=tea', False),
    'both a length and chunks': (
        POST + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nlikes=\0\r\n0\r\n\r\n',
        True,
    ),
    'broken chunks': (CHUNKED + b'zz\r\nlikes=tea\r\n0\r\n\r\n', False),
    'chunks that end early': (CHUNKED + b'9\r\nlikes', True),
    'an encoding that there is not': (POST + b'Transfer-Encoding: gnawed\r\n\r\nlikes=tea', False),
    'a header too large': (GET + b'X: ' + b'x' * 1_000_000 + b'\r\n\r\n', False),
    'headers too many': (GET + b'X: y\r\n' * 5000 + b'\r\n', False),
    'a NUL in a header': (GET + b'X: a\0b\r\n\r\n', False),
    'a TLS greeting': (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n', False),
    'words': (b'hello\r\n\r\n', False),
    'an HTTP of the future': (GET.replace(b'1.1', b'9.9') + b'\r\n', False),
    'a cookie beyond ASCII': (GET + b'Cookie: a=caf\xc3\xa9; b=\xff\r\n\r\n', False),
    'a path beyond ASCII': (ask(b'/caf\xc3\xa9\xff'), False),
    'a path in UTF-8, quoted': (ask(b'/caf%C3%A9%FF'), False),
    'a NUL in the path': (ask(b'/a\0b'), False),
    'a NUL in the path, quoted': (ask(b'/static/%00'), False),
    'the way out of static': (ask(b'/static/../app.py'), False),
    'the way out of static, quoted': (ask(b'/static/%2e%2e/app.py'), False),
    'the way out of static, past broken UTF-8': (
        ask(b'/static/%C0%AE./..%FF/app.py'),
        False,
    ),
    'a path too long': (ask(b'/static/' + b'x' * 5000 + b''), False),
    'a path much too long': (ask(b'/' + b'x' * 100_000 + b''), False),
    'no path but a star': (b'OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', False),
    'a call to a proxy': (b'CONNECT evil.example:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', False),
    'no host': (b'GET / HTTP/1.1\r\nConnection: close\r\n\r\n', False),
}


@pytest.mark.parametrize(('data', 'hang_up'), RAW.values(), ids=RAW)
def test_no_bytes_upset_the_server(server, data, hang_up):
    """ASVS 5.0, 16.5.3."""
    answer = talk(server, data, hang_up)
    assert not answer or 200 <= int(answer.removeprefix(b'HTTP/1.1 ')[:3]) < 500
    assert b'import ' not in answer
    with closing(database.COMP249Db(server.log.with_suffix(''))) as db:
        assert db.execute('SELECT count(*) FROM likes').fetchone() == (0,)
    assert talk(server, GET + b'\r\n').startswith(b'HTTP/1.1 200 ')
