"""Every page as it reaches people: valid, small, quiet, readable in any light, at any width, by any means."""

import pytest

import db as database
from conftest import PASSWORD

NAME = 'n' * database.MAX_USERNAME
THINGS = 'tea', 'w' * 200, 'مرحبا' * 40, '🐈' * 100, 'word ' * 40
AXE = {'runOnly': ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'], 'preload': False}


def like_as_user(visitor):
    visitor.log_in(NAME)
    visitor.enter('tea')


def forget_another_list(visitor):
    like_as_user(visitor)
    visitor.page.locator('#forgetform input').evaluate("field => field.value = 'somebody'")
    visitor.page.get_by_text('Forget Me', exact=True).click()
    visitor.click('Yes, forget me')


PAGES = {
    'home, empty': lambda visitor: visitor.open(),
    'home, with likes': lambda visitor: visitor.like(*THINGS),
    'home, logged in': like_as_user,
    'login': lambda visitor: visitor.open('login'),
    'login, failed': lambda visitor: visitor.log_in(NAME, 'wrong'),
    'login, after another list': forget_another_list,
    'error': lambda visitor: visitor.open('nowhere'),
}


@pytest.mark.parametrize('show', PAGES.values(), ids=PAGES)
def test_a_page_is_valid_and_quiet_and_keeps_nobody_out(visitor, db, show):
    import html5lib
    from axe_playwright_python.sync_playwright import Axe

    database.add_user(db, NAME, PASSWORD)
    page, fetched, messages = visitor.page, set(), []
    page.on('request', lambda request: request.is_navigation_request() or fetched.add(request.url))
    page.on('console', lambda message: messages.append(message.text))
    show(visitor)
    html5lib.HTMLParser(strict=True).parse(visitor.response.body(), transport_encoding='utf-8')

    page.locator('details').evaluate_all('all => all.forEach(details => details.open = true)')
    page.evaluate(Axe().axe_script)
    for width in 320, 1280:
        page.set_viewport_size({'width': width, 'height': 800})
        for control in page.locator('a, button, input, summary').filter(visible=True).all():
            assert min(control.bounding_box()[side] for side in ('width', 'height')) >= 44, control  # for thumbs
        for scheme in 'light', 'dark':
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate('options => axe.run(options).then(({violations}) => violations)', AXE) == []

    page.set_viewport_size({'width': 320, 'height': 568})
    for zoom in '100%', '200%':
        page.evaluate('zoom => document.documentElement.style.fontSize = zoom', zoom)
        assert page.evaluate('document.documentElement.scrollWidth') == 320, zoom

    page.emulate_media(media='print')  # on paper nothing can be pressed
    assert page.locator('form, details').filter(visible=True).count() == 0
    assert fetched <= {f'{visitor.url}static/style.css', f'{visitor.url}static/icon.svg'}
    assert [text for text in messages if 'responded with a status of 404' not in text] == []
