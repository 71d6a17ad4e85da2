"""Input that nobody should send, and odd input that anybody may."""

import pytest

from conftest import rows
from db import store_like, writing

FORM = 'application/x-www-form-urlencoded'
TOO_LONG, CONTROL, UNREADABLE = 'too long', 'control characters', 'could not be read'
NOWHERE, NO_FILE, TOO_BIG = 'Not found', 'File does not exist', 'Request entity too large'
PART = b'--edge\r\nContent-Disposition: form-data; name="likes"\r\n\r\ntea\r\n--edge--\r\n'


def post(body, path='/likes', kind=FORM, **headers):
    headers = {'Content-Type': kind, **{name.replace('_', '-'): value for name, value in headers.items()}}
    return {'url_or_req': path, 'method': 'POST', 'body': body, 'headers': headers}


def get(path, method='GET'):
    return {'url_or_req': path, 'method': method}


REFUSED = {
    'a like of 201 characters': (post(b'likes=' + b'x' * 201), 400, TOO_LONG),
    'a like of 201 emoji': (post(b'likes=' + b'%F0%9F%8D%B5' * 201), 400, TOO_LONG),
    'a like with NUL in it': (post(b'likes=a%00b'), 400, CONTROL),
    'a like with DEL in it': (post(b'likes=a%7Fb'), 400, CONTROL),
    'a like with a C1 control in it': (post(b'likes=a%C2%9Fb'), 400, CONTROL),
    'a second field that is not UTF-8': (post(b'likes=tea&more=%FF'), 400, UNREADABLE),
    'a password that is not UTF-8': (post(b'username=anna&password=%FF', '/login'), 400, UNREADABLE),
    'a multipart form': (post(PART, kind='multipart/form-data; boundary=edge'), 400, UNREADABLE),
    'JSON': (post(b'{"likes": "tea"}', kind='application/json'), 400, UNREADABLE),
    'a length that is no number': (post(b'likes=tea', Content_Length='many'), 400, UNREADABLE),
    'a length beyond the body': (post(b'likes=tea', Content_Length='99'), 400, UNREADABLE),
    'a form that does not say its length': (post(b'likes=tea', Transfer_Encoding='chunked'), 411, 'Content-Length'),
    'a body over 100 KB': (post(b'likes='.ljust(100 * 1024 + 1, b'x')), 413, TOO_BIG),
    'an address that there is not': (get('/nowhere'), 404, NOWHERE),
    'an address that is half another': (get('/x://%5B%3Cscript%3E'), 404, NOWHERE),
    'a file that there is not': (get('/static/nothing.css'), 404, NO_FILE),
    **{
        f'the way out of static by {path:.30}': (get(f'/static/{path}'), (403, 404), '')
        for path in ('../app.py', '%2e%2e%2fapp.py', '..%5capp.py', '%252e/app.py', '//etc/passwd', '%00', 'x' * 5000)
    },
    **{
        f'{method} {path}': (get(path, method), 405, '')
        for method, path in (('POST', '/'), ('GET', '/likes'), ('HEAD', '/forget'), ('PUT', '/login'))
    },
}


@pytest.mark.parametrize('who', ['a visitor', 'a stranger'])
@pytest.mark.parametrize(('sent', 'status', 'words'), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_on_a_page_and_changes_nothing(browser, other_browser, db, who, sent, status, words):
    browser.like('tea')
    before = list(db.iterdump())
    answer = (browser if who == 'a visitor' else other_browser).request(**sent, expect_errors=True)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,))
    assert sent['method'] == 'HEAD' or words in answer.html.main.get_text()
    assert sent['method'] == 'HEAD' or answer.html.find('a', class_='home', href='/')
    assert not [word for word in ('Traceback', '.py', 'Set-Cookie') if word in f'{answer.text}{answer.headers}']
    assert status != 405 or answer.headers['Allow'] in ('GET', 'POST', 'GET,POST')
    assert list(db.iterdump()) == before


def test_a_full_list_takes_no_more_but_keeps_what_it_has(browser, db):
    browser.get('/')
    with writing(db):
        for number in range(999):
            store_like(db, browser.key, f'{number}')
    assert [browser.like(thing).status_code for thing in ('the last', 'one more', '7')] == [303, 409, 303]
    assert 'Your list is full' in browser.like('one more')
    assert (rows(db, 'likes'), rows(db, 'sessions')) == (1000, 1)


ODD = {
    'HTML': '<script>alert("1")</script></li></ul><!-- &lt;b&gt; &amp;amp; &#65; &nbsp',
    'a template': "{{!'x'}} % end {{",
    'SQL and form syntax': "tea'); DROP TABLE likes; -- %_ ? ?1 :a a=b&likes=c+d%20e%",
    'a family': '👩🏽\u200d👩🏿\u200d👧🏻',
    '200 emoji': '🙂' * 200,
    'combining marks': 'Z͑ͫ̓a̴l̷g̸o̡ e\u0301',
    'a zero width joiner and the last characters': '\u200d\U0010ffff\ufffe',
}


@pytest.mark.parametrize('text', ODD.values(), ids=ODD)
def test_any_text_is_kept_and_shown_as_typed(browser, text):
    """ASVS 5.0, 1.2.1, 1.2.4."""
    assert browser.like(text).status_code == 303
    assert browser.likes == [text]


@pytest.mark.parametrize('typed', ['  tea', 'tea \t\r\n', 'green  \t tea', 'green\xa0tea\u2003', ' ' * 300 + 'tea'])
def test_white_space_counts_as_one_space(browser, typed):
    browser.post('/likes', {'likes': typed})
    assert browser.likes == ['green tea' if 'green' in typed else 'tea']


@pytest.mark.parametrize('body', ['', 'likes=', 'likes', 'likes=+%0A', 'likes=%C2%A0', 'other=tea', '&&=&'])
def test_a_blank_like_is_ignored(browser, body):
    assert browser.post('/likes', body).status_code == 303
    assert browser.likes == []
