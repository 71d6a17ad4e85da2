"""Every page as it reaches people: valid, small, quiet, readable in any light, at any width, by any means."""

import pytest

from conftest import PASSWORD

THUMB = 40  # pixels; WCAG 2.2 asks for 24
TEN = [
    'tea',
    'the smell of rain',
    'long walks with no destination',
    'cats 🐈',
    'שוקולד',
    'fresh bread',
    'Sunday mornings',
    'crosswords',
    'القهوة',
    'a book so good that I miss my stop, and then the next one too',
]


def fail_to_log_in(visitor, times=1):
    visitor.log_in(password='wrong')
    for _ in range(times - 1):
        visitor.type('wrong')
        visitor.press_enter()


def open_login_form(visitor):
    visitor.open()
    visitor.page.get_by_text('Log in').first.click()


def show_list_of_user(visitor):
    visitor.log_in()
    visitor.like('tea', 'cats')


PAGES = {
    'home, empty': lambda visitor: visitor.open(),
    'home, with likes': lambda visitor: visitor.like(*TEN),
    'home, logged in': show_list_of_user,
    'home, login form open': open_login_form,
    'login': lambda visitor: visitor.open('/login'),
    'login, failed': fail_to_log_in,
    'login, throttled': lambda visitor: fail_to_log_in(visitor, times=6),
    'error': lambda visitor: visitor.open('/nowhere'),
}


@pytest.mark.parametrize('show', PAGES.values(), ids=PAGES)
def test_a_page_is_small_and_valid_and_keeps_nobody_out(visit, user, show):
    import html5lib
    from axe_playwright_python.sync_playwright import Axe

    visitor = visit(java_script_enabled=True, bypass_csp=True)  # axe is a script, and the pages allow none
    show(visitor)

    html = visitor.response.body()
    assert len(html) < 4096
    html5lib.HTMLParser(strict=True).parse(html, transport_encoding='utf-8')
    assert visitor.page.locator('html').get_attribute('lang') == 'en'
    assert visitor.page.title() == visitor.page.get_by_role('heading', level=1).text_content()

    rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
    for width in 320, 1280:
        for scheme in 'light', 'dark':
            visitor.page.set_viewport_size({'width': width, 'height': 800})
            visitor.page.emulate_media(color_scheme=scheme)
            results = Axe().run(visitor.page, options={'runOnly': rules, 'resultTypes': ['violations']})
            assert results.violations_count == 0, f'{width} {scheme}: {results.generate_report()}'
        for control in visitor.page.locator('a, button, input, summary').filter(visible=True).all():
            assert min(control.bounding_box()[side] for side in ('width', 'height')) >= THUMB, control


def test_the_stylesheet_is_small_and_fetched_once(visitor):
    visitor.open()
    style = visitor.page.locator('link[rel=stylesheet]').evaluate('link => link.href')
    assert len(visitor.page.context.request.get(style).body()) < 8192
    visitor.open('/login')
    fetched = "performance.getEntriesByType('resource').map(({name, transferSize}) => [name, transferSize])"
    assert [style, 0] in visitor.page.evaluate(fetched)


def test_a_visit_asks_for_nothing_else_and_the_console_stays_silent(visit, user):
    visitor = visit(java_script_enabled=True)
    paths, messages = set(), []
    visitor.page.on('request', lambda request: paths.add(request.url.partition('?')[0]))
    visitor.page.on('console', lambda message: messages.append(message.text))
    visitor.page.on('pageerror', lambda error: messages.append(str(error)))
    visitor.like('tea')
    open_login_form(visitor)
    fail_to_log_in(visitor)
    visitor.log_in()
    visitor.click('Log out')
    visitor.page.wait_for_load_state('networkidle')
    ours = ['', 'login', 'likes', 'logout', 'static/style.css', 'static/icon.svg']
    assert paths <= {visitor.url + path for path in ours}
    assert messages == []


@pytest.mark.parametrize('zoom', ['100%', '200%'])
def test_no_page_is_wider_than_a_narrow_phone(visit, db, zoom):
    import db as database

    name = 'n' * 100
    database.add_user(db, name, PASSWORD)
    visitor = visit(viewport={'width': 320, 'height': 568})
    words = 'w' * 200, 'مرحبا' * 40, '🐈' * 100, 'word ' * 40

    def overflow():
        visitor.page.evaluate('zoom => document.documentElement.style.fontSize = zoom', zoom)
        return visitor.page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')

    visitor.like(*words)
    visitor.page.get_by_text('Log in').first.click()
    assert overflow() == 0
    visitor.log_in(name, 'wrong')
    assert overflow() == 0
    visitor.log_in(name)
    assert overflow() == 0
    visitor.open('/nowhere')
    assert overflow() == 0


def test_each_thing_has_its_own_direction(visitor):
    visitor.like('tea', 'שוקולד')
    directions = visitor.page.locator('.likes li').evaluate_all('all => all.map(li => getComputedStyle(li).direction)')
    assert directions == ['ltr', 'rtl']


def test_on_paper_there_is_the_list_alone(visitor):
    visitor.like('tea')
    visitor.page.emulate_media(media='print')
    assert visitor.page.locator('form, details').filter(visible=True).count() == 0
    assert visitor.page.locator('.likes li').filter(visible=True).count() == 1
