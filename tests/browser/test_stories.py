"""What people do at the site."""

import re
import time

import pytest

from conftest import PASSWORD, another_writer

DAY = 24 * 60 * 60
TOO_LONG = 'It has 239 characters; at most 200 fit.'
# Of a short last line: how far from the left and the right side of its box.
MARGINS_OF_THE_LAST_LINE = """item => {
    const range = document.createRange()
    range.selectNodeContents(item)
    const box = item.getBoundingClientRect()
    const line = [...range.getClientRects()].at(-1)
    return [line.left - box.left, box.right - line.right]
}"""
THINGS = [
    'tea',
    '<b>bold</b> & "quoted"',
    "'; DROP TABLE likes; --",
    '🐈‍⬛',
    'e\u0301',
    '{{title}}',
    'קפה',
]


def test_things_are_liked_by_keyboard_alone_and_shown_as_they_were_typed(visitor):
    visitor.like(*THINGS)
    assert visitor.likes == THINGS


@pytest.mark.parametrize(('thing', 'direction'), [('coffee', 'ltr'), ('קפה', 'rtl')])
def test_a_thing_is_written_in_its_own_direction(visitor, thing, direction, expect):
    visitor.like(thing)
    for place in '.likes li', '#count em':
        expect(visitor.page.locator(place)).to_have_css('direction', direction)


def test_a_long_thing_begins_at_the_side_where_its_script_begins(visitor, expect):
    visitor.like('קפה ' * 40 + 'קפה')
    item = visitor.page.locator('.likes li')
    left, right = item.evaluate(MARGINS_OF_THE_LAST_LINE)
    assert left > right


def test_the_heading_under_the_field_tells_how_many_and_which_is_the_newest(
    visitor, expect
):
    field = visitor.page.get_by_label('What do you like?')
    visitor.like('tea')
    expect(field).to_have_accessible_description('You like 1 thing; the newest is tea')
    visitor.enter('cats')
    expect(field).to_have_accessible_description(
        'You like 2 things; the newest is cats'
    )


def test_two_browsers_have_two_lists_and_one_forgets_by_keyboard(visit):
    one = visit()
    other = visit()
    one.like('tea')
    other.like('coffee')
    one.tab_to('Forget Me')
    one.press('Enter')
    assert one.likes == ['tea']
    one.tab_to('Yes, forget me')
    one.leave(one.press, 'Enter')
    assert one.likes == []
    other.open()
    assert other.likes == ['coffee']


def test_a_refused_like_can_be_mended_and_sent_again(visitor, expect):
    visitor.open()
    visitor.enter('tea ' * 60)
    assert visitor.response.status == 400
    field = visitor.page.get_by_label('What you typed')
    expect(field).to_have_value('tea ' * 60)
    expect(field).to_have_accessible_description(TOO_LONG)
    visitor.press('ControlOrMeta+a')
    visitor.enter('tea, a lot of it')
    assert visitor.likes == ['tea, a lot of it']


def test_the_browser_tells_that_a_thing_is_blank(visitor):
    visitor.open()
    field = visitor.page.get_by_label('What do you like?')
    field.fill(' \u3000')
    assert field.evaluate('one => one.validity.patternMismatch')
    field.fill('tea\u2028cats')  # a line break, as some programs copy it
    assert field.evaluate('one => one.validity.valid')


@pytest.fixture
def late(visitor, user):
    """Somebody who likes 'tea' on a page whose login has ended in another tab."""
    visitor.log_in(user)
    visitor.new_tab().log_out()
    visitor.enter('tea')
    return visitor


def test_a_late_like_is_kept_and_sent_again_for_the_browsers_list(late, expect):
    assert late.response.status == 409
    field = late.page.get_by_label('What you typed')
    expect(field).to_have_value('tea')
    expect(field).to_have_accessible_description(re.compile("this browser's own list"))
    late.click('Send again')
    assert late.username is None
    assert late.likes == ['tea']


def test_a_late_like_is_sent_again_for_the_account_after_a_login(late, user):
    with late.page.expect_popup() as popup:
        late.page.get_by_role('link', name='Log in (in a new tab)').click()
    popup.value.get_by_label('Username').fill(user)
    popup.value.get_by_label('Password').fill(PASSWORD)
    popup.value.get_by_role('button', name='Log in').click()
    popup.value.wait_for_url(late.url)
    late.click('Send again')
    assert late.username == user
    assert late.likes == ['tea']


def test_login_by_keyboard_on_the_home_page_takes_the_list_along(visitor, user):
    visitor.like('tea')
    visitor.press('Shift+Tab', 'Enter', 'Tab')
    visitor.enter(user, PASSWORD)
    assert visitor.username == user
    assert visitor.likes == ['tea']


def test_a_failed_login_is_announced_and_only_the_password_is_asked_anew(
    visitor, user, expect
):
    visitor.log_in(user, 'wrong')
    alert = visitor.page.get_by_role('alert')
    expect(alert).to_contain_text('Login failed, please try again')
    expect(visitor.page.get_by_label('Username')).to_have_value(user)
    visitor.enter(PASSWORD)
    assert visitor.username == user


def test_password_managers_are_told_which_field_is_which(visitor, expect):
    visitor.open('login')
    name = visitor.page.get_by_label('Username')
    expect(name).to_have_attribute('autocomplete', 'username')
    password = visitor.page.get_by_label('Password')
    expect(password).to_have_attribute('autocomplete', 'current-password')


def test_back_after_a_logout_shows_no_password(visitor, user):
    """A wrong password, the right one, *Log out*: Back leads to the login form."""
    visitor.log_in(user, 'wrong')
    visitor.enter(PASSWORD)
    visitor.click('Log out')
    for _ in range(2):
        assert set(visitor.passwords_behind_back()) <= {''}


def test_after_a_login_the_field_is_described_by_who_is_logged_in(
    visitor, user, expect
):
    visitor.log_in(user)
    field = visitor.page.get_by_label('What do you like?')
    expect(field).to_have_accessible_description(re.compile('^Logged in as anna '))


def test_back_after_logout_shows_nothing(visitor, user):
    visitor.log_in(user)
    visitor.enter('tea')
    visitor.open('nowhere')
    visitor.click('Back to your likes', 'link')
    visitor.click('Log out')
    seen = []
    for _ in range(3):
        visitor.page.go_back()
        seen.append(visitor.page.url)
        assert visitor.username is None
        assert visitor.likes == []
    assert visitor.url in seen


def test_a_page_reloaded_after_a_login_in_another_tab_is_the_users(visitor, user):
    visitor.like('tea')
    visitor.new_tab().log_in(user)
    visitor.page.reload()
    assert visitor.username == user
    visitor.forget()
    assert visitor.response.status == 200
    assert visitor.likes == []


def test_forget_me_on_a_page_from_before_a_login_deletes_nothing(visitor, user, expect):
    visitor.like('tea')
    visitor.new_tab().log_in(user)
    visitor.forget()
    assert visitor.response.status == 409
    told = visitor.page.get_by_text('This press deleted nothing')
    expect(told).to_be_visible()
    expect(visitor.page.get_by_role('heading')).to_have_text('This changed nothing')
    visitor.click('Back to your likes', 'link')
    assert visitor.username == user
    assert visitor.likes == ['tea']


def test_a_login_while_the_database_is_locked_leads_back_and_debug_tells_why(
    visitor, user, path, expect
):
    visitor.use_debug()
    with another_writer(path):
        visitor.log_in(user)
    assert visitor.response.status == 503
    reason = visitor.page.locator('#problem')
    expect(reason).to_contain_text('another connection or program has written')
    visitor.click('Back to the login', 'link')
    assert visitor.page.url == f'{visitor.url}login'


def test_the_panel_tells_the_story_and_marks_the_key_of_the_cookie(visitor, expect):
    visitor.use_debug()
    visitor.like('tea')
    (cookie,) = visitor.page.context.cookies()
    marked = visitor.page.locator('td mark')
    expect(marked).to_have_text([cookie['value']] * 2)  # of the session, of the like
    requests = visitor.page.locator('.panel h3')
    expect(requests).to_have_text(['POST /likes -> like', 'GET / -> index'])


def test_the_browser_keeps_the_cookie_for_a_month_and_from_scripts(visitor):
    visitor.like('tea')
    (cookie,) = visitor.page.context.cookies()
    assert cookie['name'] == 'likes_session'
    assert cookie['path'] == '/'
    assert cookie['httpOnly'] is True
    assert cookie['sameSite'] == 'Lax'
    assert cookie['expires'] == pytest.approx(time.time() + 30 * DAY, abs=300)


def test_the_list_is_found_beside_an_odd_cookie_of_another_program(visitor):
    odd = {'name': 'prefs', 'value': '{"a":1}', 'url': visitor.url}
    visitor.page.context.add_cookies([odd])
    visitor.like('tea', 'cats')
    headers = visitor.response.request.all_headers()
    assert 'prefs={"a":1}' in headers['cookie']
    assert visitor.likes == ['tea', 'cats']
