"""What people do at the site."""

import time

from conftest import PASSWORD


def test_things_are_liked_by_keyboard_alone_and_shown_as_they_were_typed(visitor):
    things = ['tea', '<b>bold</b> & "quoted"', "'; DROP TABLE likes; --", '🐈‍⬛', 'קפה', 'e\u0301', '{{title}}']
    visitor.like(*things)
    assert visitor.likes == things
    directions = visitor.page.locator('.likes li').evaluate_all('all => all.map(li => getComputedStyle(li).direction)')
    assert [thing for thing, direction in zip(things, directions) if direction == 'rtl'] == ['קפה']


def test_two_browsers_have_two_lists_and_one_of_them_forgets(visit):
    one, other = visit(), visit()
    one.like('tea')
    other.like('coffee')
    one.press('Tab', 'Tab', 'Enter', 'Tab')  # past the button Like, to Forget Me, and on to what that unfolds
    assert one.likes == ['tea']
    one.enter()
    assert one.likes == []
    other.open()
    assert other.likes == ['coffee']


def test_login_by_keyboard_on_the_home_page_takes_the_list_along(visitor, user):
    visitor.like('tea')
    visitor.press('Shift+Tab', 'Enter', 'Tab')
    visitor.enter(user, PASSWORD)
    assert (visitor.username, visitor.likes) == (user, ['tea'])


def test_a_failed_login_is_announced_and_only_the_password_is_to_type_again(visitor, user):
    visitor.log_in(user, 'wrong')
    assert visitor.page.get_by_role('alert').text_content() == 'Login failed, please try again'
    assert visitor.page.get_by_label('Username').input_value() == user
    assert visitor.page.locator('[autocomplete=username], [autocomplete=current-password]').count() == 2
    visitor.enter(PASSWORD)
    assert visitor.username == user


def test_back_after_logout_shows_nothing(visitor, user):
    visitor.log_in(user)
    visitor.enter('tea')
    visitor.open('nowhere')
    visitor.click('Back to your likes', 'link')
    visitor.click('Log out')
    for _ in range(3):
        visitor.page.go_back()
    assert (visitor.page.url, visitor.username, visitor.likes) == (visitor.url, None, [])


def test_the_browser_keeps_the_cookie_for_a_month_and_from_scripts_and_beside_an_odd_one(visitor):
    cookies = visitor.page.context
    cookies.add_cookies([{'name': 'prefs', 'value': '{"a":1}', 'url': visitor.url}])
    visitor.like('tea', 'cats')
    assert 'prefs={"a":1}' in visitor.response.request.all_headers()['cookie']
    assert visitor.likes == ['tea', 'cats']
    (ours,) = [cookie for cookie in cookies.cookies() if cookie['name'] == 'likes_session']
    assert (ours['path'], ours['httpOnly'], ours['sameSite']) == ('/', True, 'Lax')
    assert abs(ours['expires'] - time.time() - 31 * 24 * 60 * 60) < 300
