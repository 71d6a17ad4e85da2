"""What pages of other sites can do with a visitor's browser: nothing."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import PASSWORD

FETCH = """url => {
    const spam = {method: 'POST', credentials: 'include', body: new URLSearchParams({likes: 'spam'})}
    const sent = [{...spam, mode: 'no-cors'}, {...spam, mode: 'cors'}].map(options => fetch(url + 'likes', options))
    return Promise.allSettled([...sent, fetch(url, {credentials: 'include'})])
}"""


@pytest.fixture(params=['127.0.0.1', 'localhost'])
def other(request):
    """Another site's address. To SameSite, another port of the app's host is the same site; it is another origin."""
    with ThreadingHTTPServer(('127.0.0.1', 0), BaseHTTPRequestHandler) as server:  # answers with an error page
        threading.Thread(target=server.serve_forever).start()
        yield f'http://{request.param}:{server.server_port}/'
        server.shutdown()


def forge(visitor, other, path, **fields):
    inputs = ''.join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
    visitor.page.goto(other)
    visitor.page.set_content(f'<form method="post" action="{visitor.url}{path}">{inputs}<button>Win</button></form>')
    visitor.click('Win')
    assert visitor.response.status == 403


def test_a_forged_form_changes_nothing_and_leads_back_to_one_that_works(visitor, user, other):
    visitor.like('tea')
    forge(visitor, other, 'login', username=user, password=PASSWORD)
    visitor.click('Back to your likes', 'link')
    assert (visitor.username, visitor.likes) == (None, ['tea'])
    visitor.log_in(user)
    forge(visitor, other, 'likes', likes='spam')
    forge(visitor, other, 'forget', username=user)
    forge(visitor, other, 'logout')
    visitor.click('Back to your likes', 'link')
    visitor.enter('cats')
    assert (visitor.username, visitor.likes) == (user, ['tea', 'cats'])


def test_frames_and_scripts_change_and_read_nothing_but_links_work(visitor, user, other):
    visitor.log_in(user)
    visitor.enter('tea')
    visitor.page.goto(other)
    visitor.page.set_content(f'<iframe src="{visitor.url}"></iframe><a href="{visitor.url}">Likes</a>')
    assert visitor.page.frames[1].locator('form').count() == 0
    answers = visitor.page.evaluate(FETCH, visitor.url)
    assert [answer['status'] for answer in answers] == ['rejected'] * 3
    visitor.click('Likes', 'link')
    assert (visitor.username, visitor.likes) == (user, ['tea'])
