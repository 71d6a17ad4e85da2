"""Input that nobody should send, and odd input that anybody may."""

import time

import pytest

from conftest import PASSWORD, rows
from db import store_like

FORM = 'application/x-www-form-urlencoded'


def post(body, header='Content-Type', value=FORM):
    """A request with a form and a header: the arguments of Browser.request."""
    return {
        'url_or_req': '/likes',
        'method': 'POST',
        'body': body.encode(),
        'headers': {'Content-Type': FORM, header: value},
    }


def get(path):
    """A request for a page."""
    return {'url_or_req': path}


TOO_LONG = 'It has 201 characters; at most 200 fit.'
UNREADABLE = 'could not be read'
NO_SUCH = 'no such page'
MULTIPART = 'multipart/form-data; boundary=edge'
FILES = '--edge\r\nContent-Disposition: form-data; name="likes"\r\n\r\ntea\r\n--edge--'
REFUSED = {  # what is sent, status, words of the page
    'a like of 201 characters': (post('likes=' + 'x' * 201), 400, TOO_LONG),
    'a field that is not UTF-8': (post('likes=tea&more=%FF'), 400, UNREADABLE),
    'a length that is no number': (post('', 'Content-Length', 'many'), 400, UNREADABLE),
    'a length beyond the body': (post('a', 'Content-Length', '2'), 400, UNREADABLE),
    'a chunked body': (post('', 'Transfer-Encoding', 'chunked'), 411, 'length'),
    'a body over 100 KB': (post('x' * (100 * 1024 + 1)), 413, 'at most 100 KB'),
    'JSON': (post('{}', 'Content-Type', 'application/json'), 415, 'expected as'),
    'a form for files': (post(FILES, 'Content-Type', MULTIPART), 415, FORM),
    'an unknown address': (get('/nowhere'), 404, NO_SUCH),
    'an unknown file': (get('/static/nothing.css'), 404, NO_SUCH),
}


@pytest.mark.parametrize(('sent', 'status', 'words'), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_on_a_page_and_changes_nothing(
    browser, other_browser, db, sent, status, words
):
    other_browser.like('tea')
    before = list(db.iterdump())
    answer = browser.request(**sent, expect_errors=True)
    assert answer.status_code == status
    assert words in answer.html.main.get_text()
    assert 'Set-Cookie' not in answer.headers
    assert list(db.iterdump()) == before


@pytest.mark.parametrize('address', ['/login%FF', '/l%FFogin'])
def test_a_path_that_is_not_utf8_leads_nowhere(browser, user, address):
    answer = browser.post(address, {'username': user, 'password': PASSWORD}, status=404)
    assert NO_SUCH in answer


ODD_PATHS = [
    '../app.py',
    '..%5capp.py',  # as Windows writes it
    '%252e%252e/app.py',
    '//etc/passwd',
    '%00',
    pytest.param('x' * 5000, id='a long name'),
]


@pytest.mark.parametrize('address', ODD_PATHS)
def test_an_odd_path_leads_to_no_file(browser, address):
    answer = browser.get(f'/static/{address}', expect_errors=True)
    assert answer.status_code == 404
    assert NO_SUCH in answer


def test_another_method_is_told_which_one_is_allowed(browser):
    answer = browser.put('/likes', status=405)
    assert answer.headers['Allow'] == 'POST'
    assert 'a form of this site is sent to it' in answer


@pytest.fixture
def full_list(browser, db):
    """A browser whose list has room for one thing more."""
    browser.get('/')
    with db:
        for number in range(999):
            store_like(db, browser.key, f'{number}')
    return browser


def test_a_list_takes_a_thousand_things_and_keeps_them(full_list, db):
    assert full_list.like('the last').status_code == 303
    assert len(full_list.likes) == 1000
    answer = full_list.like('one more')
    assert answer.status_code == 409
    assert 'Your list is full' in answer
    assert answer.html.find(id='likes')['value'] == 'one more'
    assert 'Send again' not in answer
    assert rows(db, 'likes') == 1000


def test_what_a_full_list_has_can_be_liked_again(full_list):
    full_list.like('the last')
    full_list.like('7')
    assert full_list.likes[-2:] == ['the last', '7']


MARKUP = '<script>alert("1")</script>'


def test_what_was_refused_is_shown_as_text(full_list):
    """ASVS 5.0, 1.2.1."""
    too_long = MARKUP * 9
    assert full_list.like(too_long).html.find(id='likes')['value'] == too_long
    full_list.like('the last')
    assert full_list.like(MARKUP).html.find(id='likes')['value'] == MARKUP


ODD = {
    'HTML': '<script>alert("1")</script></li></ul><!-- &lt;b&gt; &amp;amp; &#65; &nbsp',
    'a template': "{{!'x'}} % end {{",
    'SQL and a form': "tea'); DROP TABLE likes; -- %_ ? ?1 :a a=b&likes=c+d%20e%",
    'a family': '👩🏽\u200d👩🏿\u200d👧🏻',
    '200 emoji': '🙂' * 200,
    'combining marks': 'Z͑ͫ̓a̴l̷g̸o̡ e\u0301',
    'a zero width joiner and the last characters': '\u200d\U0010ffff\ufffe',
}


@pytest.mark.parametrize('text', ODD.values(), ids=ODD)
def test_any_text_is_kept_and_shown_as_typed(browser, text):
    """ASVS 5.0, 1.2.1, 1.2.4."""
    browser.like(text)
    assert browser.likes == [text]


SPACED = [
    '  green tea',
    'green tea \r\n',
    'green  \t tea',
    'green\xa0tea\u2003',
    'green\0tea\x7f',  # control characters
    '\x9fgreen \x1b tea',
]


@pytest.mark.parametrize('typed', [*SPACED, ' ' * 300 + 'green tea'])
def test_a_run_of_white_space_is_one_space_and_none_at_the_ends(browser, typed):
    browser.post('/likes', {'likes': typed})
    assert browser.likes == ['green tea']


BLANK = {
    'no form': '',
    'an empty field': 'likes=',
    'a field without a value': 'likes',
    'white space': 'likes=%C2%A0+%0A',
    'control characters': 'likes=%00%1B',
    'a zero width space': 'likes=%E2%80%8B',
    'a soft hyphen and a byte order mark': 'likes=%C2%AD+%EF%BB%BF',
    'another field': 'other=tea',
}


@pytest.mark.parametrize('body', BLANK.values(), ids=BLANK)
def test_a_blank_like_is_ignored(browser, body):
    assert browser.post('/likes', body).status_code == 303
    assert browser.likes == []


BODY = 100 * 1024  # bytes, the largest
HEAVY = {  # sent as they are: as a browser writes them, they would be longer
    'accents that NFC puts in order': 'a' + '\u0345' * 24_000 + '\u0323' * 24_000,
    'spaces': ' ' * 100_000 + 'x',
    'control characters': '\0' * 100_000 + 'x',
    'letters': 'x' * 100_000,
    'what HTML escapes': '"' * 100_000,
}
FIELDS = [('/likes', 'likes'), ('/likes', 'owner'), ('/forget', 'owner')]
FIELDS += [('/login', 'username'), ('/login', 'password'), ('/logout', 'logout')]


@pytest.mark.parametrize('text', HEAVY.values(), ids=HEAVY)
def test_the_largest_text_in_any_field_takes_no_time(browser, user, text):
    """Seconds of the processor, for which all others on the server would wait."""
    for address, field in FIELDS:
        body = f'username={user}&{field}={text}'.encode()
        began = time.process_time()
        answer = browser.post(address, body, status='*')
        assert time.process_time() - began < 1  # the first took ten and more
        assert answer.status_code != 413


def test_the_most_fields_take_no_time(browser):
    began = time.process_time()
    browser.post('/likes', 'a&' * (BODY // 2), status='*')
    assert time.process_time() - began < 1
