"""Every page as it reaches people: valid, quiet, readable in any light, at any width,
by any means.
"""

import re

import pytest

import db as database
from conftest import PASSWORD

from .conftest import only_in_chromium

NAME = 'n' * database.MAX_USERNAME
THINGS = ['tea', 'w' * 200, 'مرحبا' * 40, '🐈' * 100, 'word ' * 40]
RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
FIND_BARRIERS = """rules => axe.run({runOnly: rules, preload: false}).then(
    ({violations}) => violations)"""
# Of elements that hold words alone: the words that stand on more than one line.
FIND_BROKEN_WORDS = r"""all => all.flatMap(({firstChild}) => {
    const isBroken = ({0: word, index}) => {
        const range = document.createRange()
        range.setStart(firstChild, index)
        range.setEnd(firstChild, index + word.length)
        return range.getClientRects().length > 1
    }
    return [...firstChild.data.matchAll(/\S+/g)].filter(isBroken).map(String)
})"""
MEASURE = 'all => all.map(one => one.getBoundingClientRect().toJSON())'


def home_empty(visitor):
    visitor.open()


def home_with_likes(visitor):
    visitor.like(*THINGS)


def home_logged_in(visitor):
    visitor.log_in(NAME)
    visitor.enter('tea')


def login(visitor):
    visitor.open('login')


def login_failed(visitor):
    visitor.log_in(NAME, 'wrong')


def login_throttled(visitor):
    for _ in range(6):
        visitor.log_in(NAME, 'wrong')


def error(visitor):
    visitor.open('nowhere')


def error_with_what_was_typed(visitor):
    visitor.open()
    visitor.enter('w' * 201)


def error_with_a_full_list(visitor):
    visitor.log_in('full')
    visitor.enter('one more')


def error_after_a_login_in_another_tab(visitor):
    visitor.like('tea')
    visitor.new_tab().log_in(NAME)
    visitor.forget()


def like_after_a_logout_in_another_tab(visitor):
    visitor.log_in(NAME)
    visitor.new_tab().log_out()
    visitor.enter('tea')


def like_after_a_login_in_another_tab(visitor):
    visitor.open()
    visitor.new_tab().log_in(NAME)
    visitor.enter('tea')


def home_with_panel(visitor):
    visitor.use_debug()
    visitor.like(*THINGS)


PAGES = [
    home_empty,
    home_with_likes,
    home_logged_in,
    login,
    login_failed,
    login_throttled,
    error,
    error_with_what_was_typed,
    error_with_a_full_list,
    error_after_a_login_in_another_tab,
    like_after_a_logout_in_another_tab,
    like_after_a_login_in_another_tab,
    home_with_panel,
]
every_page = pytest.mark.parametrize('show', PAGES)


@pytest.fixture(autouse=True)
def users(db):
    """One with a long name, and one with a full list."""
    database.add_user(db, NAME, PASSWORD)
    database.add_user(db, 'full', PASSWORD)
    likes = [(number, 'full') for number in range(database.MAX_LIKES)]
    with db:
        db.executemany('INSERT INTO likes (thing, username) VALUES (?, ?)', likes)


def open_details(page):
    page.locator('details').evaluate_all('all => all.forEach(one => one.open = true)')


def visible(page, selector):
    return page.locator(selector).filter(visible=True)


@every_page
@only_in_chromium
def test_a_page_is_valid_and_loads_nothing_from_elsewhere(visitor, show):
    import html5lib

    requests = []
    messages = []
    visitor.page.on('request', lambda request: requests.append(request))
    visitor.page.on('console', lambda message: messages.append(message))
    show(visitor)
    parser = html5lib.HTMLParser(strict=True)
    parser.parse(visitor.response.body(), transport_encoding='utf-8')
    for request in requests:
        assert request.url.startswith(visitor.url)
    for message in messages:
        assert 'server responded with a status of 4' in message.text


@every_page
@only_in_chromium
def test_a_page_has_no_barriers(visitor, show):
    from axe_playwright_python.sync_playwright import Axe

    show(visitor)
    page = visitor.page
    open_details(page)
    page.evaluate(Axe().axe_script)
    for width in 320, 1280:
        page.set_viewport_size({'width': width, 'height': 800})
        for scheme in 'light', 'dark':
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(FIND_BARRIERS, RULES) == []


@every_page
def test_a_page_fits_a_small_phone_and_its_buttons_a_thumb(visitor, show):
    show(visitor)
    page = visitor.page
    open_details(page)
    page.set_viewport_size({'width': 320, 'height': 568})
    for box in visible(page, 'a, button, input, summary').evaluate_all(MEASURE):
        assert box['width'] >= 44, box
        assert box['height'] >= 44, box
    for zoom in '100%', '200%':
        page.evaluate('zoom => document.documentElement.style.fontSize = zoom', zoom)
        assert page.evaluate('document.documentElement.scrollWidth') <= 320, zoom
    words = visible(page, 'button, label, summary')
    assert words.evaluate_all(FIND_BROKEN_WORDS) == []


@every_page
@only_in_chromium
def test_a_printed_page_has_nothing_to_press(visitor, show):
    show(visitor)
    visitor.page.emulate_media(media='print')
    assert visible(visitor.page, 'form, details').count() == 0


@only_in_chromium
def test_a_printed_page_has_its_panel(visitor):
    home_with_panel(visitor)
    visitor.page.emulate_media(media='print')
    assert visible(visitor.page, '.panel').count() == 1


@only_in_chromium
@pytest.mark.parametrize('colours', ['none', 'active'])
def test_the_newest_thing_is_marked_by_a_border_whatever_the_colours(visitor, colours):
    visitor.page.emulate_media(forced_colors=colours)
    visitor.like('tea', 'cats')
    width = 'all => all.map(one => getComputedStyle(one).borderWidth)'
    older, newest = visitor.page.locator('.likes li').evaluate_all(width)
    assert newest > older


def test_the_reason_of_a_failed_login_is_in_sight_when_all_is_large(visitor, expect):
    """At 400 % a window of 1280 by 1024 shows 320 by 256."""
    visitor.page.set_viewport_size({'width': 320, 'height': 256})
    login_failed(visitor)
    visitor.press()
    expect(visitor.page.get_by_label('Password')).to_be_in_viewport()
    expect(visitor.page.get_by_role('alert')).to_be_in_viewport(ratio=1)


def test_a_throttled_login_does_not_call_the_password_wrong(visitor, expect):
    login_throttled(visitor)
    password = visitor.page.get_by_label('Password')
    expect(password).not_to_have_attribute('aria-invalid', 'true')
    expect(password).to_have_accessible_description(re.compile('^Too many logins '))


def test_piled_up_accents_stay_in_their_own_place_and_tall_letters_whole(
    visitor, expect
):
    visitor.like('a' + '\u0301' * 100)
    for place in '.likes li', '#count':
        expect(visitor.page.locator(place)).to_have_css('overflow-y', 'clip')
        expect(visitor.page.locator(place)).to_have_css('overflow-clip-margin', '8px')
