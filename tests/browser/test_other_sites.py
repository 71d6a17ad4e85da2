"""What pages of other sites can do with a visitor's browser: nothing."""

import pytest

from conftest import PASSWORD

# The app is at 127.0.0.1. Another port of that host is the same site to SameSite, so the browser sends the visitor's
# cookie along with a form that is forged there; but it is another origin.
HOSTS = pytest.mark.parametrize('host', ['127.0.0.1', 'localhost'])


@pytest.fixture
def forge(other_site):
    """A function that makes the visitor send a form on another site to this one; returns the status of the answer."""

    def forge(visitor, host, path, **fields):
        inputs = ''.join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
        port = other_site(f'<form method="post" action="{visitor.url}{path}">{inputs}<button>Win</button></form>')
        visitor.page.goto(f'http://{host}:{port}/')
        visitor.click('Win')
        return visitor.response.status

    return forge


@HOSTS
def test_a_forged_form_changes_nothing(visitor, user, forge, host):
    visitor.log_in()
    visitor.like('tea')
    assert forge(visitor, host, 'likes', likes='spam') == 403
    assert forge(visitor, host, 'logout') == 403
    assert forge(visitor, host, 'forget') == 403
    visitor.open()
    assert visitor.username == user
    assert visitor.likes == ['tea']


@HOSTS
def test_nobody_is_logged_in_from_another_site(visitor, user, forge, host):
    visitor.like('tea')
    assert forge(visitor, host, 'login', username=user, password=PASSWORD) == 403
    visitor.open()
    assert visitor.username is None
    assert visitor.likes == ['tea']


def test_the_page_that_refuses_leads_back_to_a_form_that_works(visitor, forge):
    forge(visitor, 'localhost', 'likes', likes='spam')
    with visitor.leaving():
        visitor.page.get_by_role('link', name='Back to your likes').click()
    visitor.type('tea')
    visitor.press_enter()
    assert visitor.likes == ['tea']


@HOSTS
def test_a_link_on_another_site_finds_the_visitor_still_logged_in(visitor, user, other_site, host):
    visitor.log_in()
    port = other_site(f'<a href="{visitor.url}">Likes</a>')
    visitor.page.goto(f'http://{host}:{port}/')
    with visitor.leaving():
        visitor.page.get_by_role('link').click()
    assert visitor.username == user


@HOSTS
def test_another_site_cannot_show_the_page_in_a_frame(visitor, other_site, host):
    port = other_site(f'<iframe src="{visitor.url}"></iframe>')
    visitor.page.goto(f'http://{host}:{port}/')
    assert visitor.page.frames[1].locator('form').count() == 0


@HOSTS
def test_a_script_on_another_site_changes_and_reads_nothing(visit, other_site, host):
    visitor = visit(java_script_enabled=True)
    visitor.like('tea')
    visitor.page.goto(f'http://{host}:{other_site("")}/')
    answers = visitor.page.evaluate(
        """async url => {
            const send = options => fetch(url + 'likes', {method: 'POST', credentials: 'include', ...options})
            const answers = await Promise.allSettled([
                send({mode: 'no-cors', body: new URLSearchParams({likes: 'spam'})}),
                send({mode: 'cors', body: new URLSearchParams({likes: 'spam'})}),
                fetch(url, {credentials: 'include'}),
            ])
            return answers.map(answer => answer.status)
        }""",
        visitor.url,
    )
    assert answers == ['rejected'] * 3
    visitor.open()
    assert visitor.likes == ['tea']
