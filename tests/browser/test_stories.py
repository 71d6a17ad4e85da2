"""What people do at the site."""

import time

from conftest import PASSWORD

DAY = 24 * 60 * 60  # seconds


def test_several_things_are_liked_by_keyboard_alone(visitor):
    visitor.open()
    for thing in 'tea', 'cats', 'rain':
        visitor.type(thing)
        visitor.press_enter()
    assert visitor.likes == ['tea', 'cats', 'rain']


def test_the_button_likes_too(visitor):
    visitor.open()
    visitor.type('tea')
    visitor.click('Like')
    assert visitor.likes == ['tea']


def test_two_browsers_show_two_lists(visit):
    one, other = visit(), visit()
    one.like('tea')
    other.like('coffee')
    one.open()
    assert one.likes == ['tea']
    assert other.likes == ['coffee']


def test_a_thing_is_shown_as_it_was_typed(visitor):
    things = ['<b>bold</b> & "quoted"', "'; DROP TABLE likes; --", '🐈‍⬛', 'קפה', 'e\u0301', '{{title}}']
    visitor.like(*things)
    assert visitor.likes == things


def test_forget_me_empties_the_list(visitor):
    visitor.like('tea')
    old = visitor.cookie['value']
    visitor.click('Forget Me')
    assert visitor.likes == []
    assert visitor.cookie['value'] != old


def test_login_by_keyboard_on_the_home_page_takes_the_list_along(visitor, user):
    visitor.like('tea')
    visitor.page.locator('#likes:focus').wait_for()
    visitor.page.keyboard.press('Shift+Tab')
    visitor.page.keyboard.press('Enter')
    visitor.page.keyboard.press('Tab')
    visitor.type(user)
    visitor.page.keyboard.press('Tab')
    visitor.type(PASSWORD)
    visitor.press_enter()
    assert visitor.username == user
    assert visitor.likes == ['tea']


def test_a_failed_login_is_announced_and_only_the_password_is_to_type_again(visitor, user):
    visitor.open('/login')
    assert visitor.focus == 'username'
    visitor.type(user)
    visitor.page.keyboard.press('Tab')
    visitor.type('wrong')
    visitor.press_enter()
    assert visitor.page.get_by_role('alert').text_content() == 'Login failed, please try again'
    assert visitor.page.get_by_label('Username').input_value() == user
    assert visitor.focus == 'password'
    visitor.type(PASSWORD)
    visitor.press_enter()
    assert visitor.username == user


def test_a_password_manager_knows_the_fields(visitor):
    visitor.open('/login')
    assert visitor.page.get_by_label('Username').get_attribute('autocomplete') == 'username'
    assert visitor.page.get_by_label('Password').get_attribute('autocomplete') == 'current-password'


def test_back_after_logout_shows_nothing(visitor, user):
    visitor.log_in()
    visitor.like('tea')
    visitor.open('/nowhere')
    assert visitor.username == user
    visitor.click('Log out')
    assert visitor.username is None
    for _ in 'nowhere', 'home':
        visitor.page.go_back()
        assert visitor.username is None
        assert visitor.likes == []


def test_another_login_brings_the_list_back(visit, user):
    home, work = visit(), visit()
    home.log_in()
    home.like('tea')
    home.click('Log out')
    work.log_in()
    assert work.likes == ['tea']


def test_the_browser_keeps_the_cookie_from_scripts_and_other_sites(visitor):
    visitor.open()
    assert visitor.cookie['httpOnly'] is True
    assert visitor.cookie['sameSite'] == 'Lax'
    assert visitor.cookie['path'] == '/'


def test_the_browser_keeps_the_cookie_for_a_month(visitor):
    visitor.open()
    visitor.like('tea')
    assert abs(visitor.cookie['expires'] - time.time() - 31 * DAY) < 60


def test_another_programs_odd_cookie_does_no_harm(visitor):
    visitor.page.context.add_cookies([{'name': 'prefs', 'value': '{"a":1}', 'url': visitor.url}])
    visitor.like('tea', 'cats')
    assert 'prefs={"a":1}' in visitor.response.request.all_headers()['cookie']
    assert visitor.likes == ['tea', 'cats']
