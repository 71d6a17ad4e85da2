"""What pages of other sites can do with a visitor's browser: nothing."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import PASSWORD

LIKE_SPAM = """([url, mode]) => {
    const body = new URLSearchParams({likes: 'spam'})
    const options = {method: 'POST', mode, credentials: 'include', body}
    return fetch(url + 'likes', options).then(() => 'answered', () => 'refused')
}"""
READ_LIST = """url => fetch(url, {credentials: 'include'})
    .then(() => 'answered', () => 'refused')"""


@pytest.fixture(params=['127.0.0.1', 'localhost'])
def other(request):
    """Another site's address; it answers with an error page.

    To SameSite, another port of the app's host is the same site; it is another origin.
    """
    address = ('127.0.0.1', 0)
    with ThreadingHTTPServer(address, BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f'http://{request.param}:{server.server_port}/'
        server.shutdown()


def forge(visitor, other, path, **fields):
    """Press a button of the other site, which sends a form to ours."""
    form = f'<form method="post" action="{visitor.url}{path}">'
    for name, value in fields.items():
        form += f'<input name="{name}" value="{value}">'
    visitor.page.goto(other)
    visitor.page.set_content(f'{form}<button>Win</button></form>')
    visitor.click('Win')
    assert visitor.response.status == 403


def test_a_forged_login_logs_nobody_in_and_keeps_the_list(visitor, user, other):
    visitor.like('tea')
    forge(visitor, other, 'login', username=user, password=PASSWORD)
    visitor.click('Back to the login', 'link')
    visitor.open()
    assert visitor.username is None
    assert visitor.likes == ['tea']


def test_forged_forms_change_nothing_and_lead_back_to_one_that_works(
    visitor, user, other
):
    visitor.log_in(user)
    visitor.enter('tea')
    forge(visitor, other, 'likes', likes='spam')
    forge(visitor, other, 'forget', username=user)
    forge(visitor, other, 'logout')
    visitor.click('Back to your likes', 'link')
    visitor.enter('cats')
    assert visitor.username == user
    assert visitor.likes == ['tea', 'cats']


def test_scripts_of_another_site_change_and_read_nothing(visitor, other):
    visitor.like('tea')
    visitor.page.goto(other)
    assert visitor.page.evaluate(LIKE_SPAM, [visitor.url, 'cors']) == 'refused'
    assert visitor.page.evaluate(LIKE_SPAM, [visitor.url, 'no-cors']) == 'refused'
    assert visitor.page.evaluate(READ_LIST, visitor.url) == 'refused'
    visitor.open()
    assert visitor.likes == ['tea']


def test_a_frame_of_another_site_stays_empty_but_its_links_work(visitor, user, other):
    visitor.log_in(user)
    visitor.enter('tea')
    visitor.page.goto(other)
    frame = f'<iframe src="{visitor.url}"></iframe>'
    visitor.page.set_content(f'{frame}<a href="{visitor.url}">Likes</a>')
    assert visitor.page.frames[1].locator('form').count() == 0
    visitor.click('Likes', 'link')
    assert visitor.username == user
    assert visitor.likes == ['tea']
