"""What visitors see: the chapter's application and its exercises, through the forms of the pages."""

import pytest

import db as database
from conftest import PASSWORD, rows


def test_the_first_visit_is_welcomed_with_an_empty_list_and_a_cookie(browser):
    page = browser.get('/')
    assert page.html.title.string == 'Welcome Home!'
    assert 'Nothing here yet' in page.text
    assert 'forgetform' not in page.forms
    assert (page.forms['likeform']['likes'].attrs['maxlength'], page.forms['loginform'].id) == ('200', 'loginform')
    assert 'likes_session=' in page.headers['Set-Cookie']
    assert 'Set-Cookie' not in browser.get('/').headers


def test_likes_are_listed_in_the_order_liked_and_counted(browser):
    browser.like('walnuts')
    assert browser.get('/').html.h2.string == 'You like 1 thing'
    browser.like('apples')
    browser.like('walnuts')
    browser.like('mango')
    assert browser.likes == ['walnuts', 'apples', 'mango']
    assert browser.get('/').html.h2.string == 'You like 3 things'


@pytest.mark.parametrize('address', ['/likes', '/forget', '/login', '/logout'])
def test_what_was_done_is_answered_by_a_redirect_home(browser, user, address):
    browser.like('tea')
    fields = {'username': user, 'password': PASSWORD} if address == '/login' else {'likes': 'tea'}
    answer = browser.post(address, fields)
    assert (answer.status, answer.headers['Location'], answer.text) == ('303 See Other', '/', 'Redirect to /')


def test_two_browsers_see_two_lists(browser, other_browser):
    browser.like('tea')
    other_browser.like('coffee')
    assert (browser.likes, other_browser.likes) == (['tea'], ['coffee'])


def test_forget_me_ends_the_session_and_its_likes(browser, db):
    browser.like('tea')
    old = browser.key
    browser.forget()
    assert browser.key is None
    assert browser.likes == []
    assert browser.key != old
    assert (rows(db, 'likes'), rows(db, 'sessions')) == (0, 1)


def test_forget_me_forgets_in_every_browser_of_the_user_and_keeps_the_account(browser, other_browser, user):
    browser.log_in()
    browser.like('tea')
    other_browser.log_in()
    browser.forget()
    assert browser.username is None
    assert (other_browser.username, other_browser.likes) == ('anna', [])
    assert browser.log_in().status_code == 303


@pytest.mark.parametrize('meanwhile', ['logged out', 'logged in', 'another user'])
def test_forget_me_on_a_page_of_another_login_deletes_nothing_and_says_so(browser, user, db, meanwhile):
    database.add_user(db, 'ben', PASSWORD)
    if meanwhile != 'logged in':
        browser.log_in()
    browser.like('tea')
    form = browser.get('/').forms['forgetform']
    if meanwhile == 'logged out':
        browser.log_out()
    else:
        browser.log_in('anna' if meanwhile == 'logged in' else 'ben')
    answer = form.submit()
    assert 'Nothing was deleted' in answer.html.find(role='alert').string
    assert 'loginform' in answer.forms
    browser.log_in()
    assert browser.likes == ['tea']


@pytest.mark.parametrize('address', ['/forget', '/logout', '/login'])
def test_without_a_session_none_is_made_to_end_it_or_by_a_failed_login(browser, db, address):
    assert 'Set-Cookie' not in browser.get('/login').headers
    answer = browser.post(address)
    assert answer.status_code == (200 if address == '/login' else 303)
    assert 'Set-Cookie' not in answer.headers
    assert rows(db, 'sessions') == 0


@pytest.mark.parametrize('page', ['/', '/login'])
def test_logging_in_from_either_form(browser, user, page):
    browser.submit(page, 'loginform', username='anna', password=PASSWORD)
    assert browser.username == 'anna'
    assert browser.get('/login').status_code == 303


def test_a_login_moves_as_many_likes_as_the_list_has_room_for(browser, user, db):
    browser.log_in()
    browser.like('0')
    with database.writing(db):
        for number in range(database.MAX_LIKES - 3):
            database.store_like(db, browser.key, f'mine {number}')
    browser.log_out()
    for number in range(4):
        browser.like(f'{number}')
    browser.log_in()
    assert len(browser.likes) == database.MAX_LIKES
    assert browser.likes[-2:] == ['1', '2']  # 0 was there already
    assert browser.like('one more').status_code == 409


def test_likes_survive_logout(browser, user):
    browser.log_in()
    browser.like('tea')
    browser.log_out()
    assert (browser.username, browser.likes) == (None, [])
    browser.log_in()
    assert (browser.username, browser.likes) == ('anna', ['tea'])


def test_a_wrong_password_keeps_the_name_the_session_and_the_likes(browser, user):
    browser.like('tea')
    key = browser.key
    answer = browser.log_in(password='wrong')
    assert answer.status_code == 200
    assert answer.html.find(role='alert').string == 'Login failed, please try again'
    assert [answer.forms['loginform'][name].value for name in ('username', 'password')] == ['anna', '']
    assert (browser.key, browser.username, browser.likes) == (key, None, ['tea'])


@pytest.mark.parametrize('typed', ['ë ', 'e\u0308', '\të'], ids=ascii)
def test_a_name_is_known_however_the_keyboard_sends_it(browser, db, typed):
    database.add_user(db, 'ë', PASSWORD)
    browser.log_in(typed)
    assert browser.username == 'ë'
