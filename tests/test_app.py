"""What visitors see: the chapter's application and its exercises, through the forms of the pages."""

import pytest

import db as database
from conftest import PASSWORD


def test_the_first_visit_is_welcomed_with_an_empty_list_and_a_cookie(browser):
    page = browser.get('/')
    assert page.html.title.string == 'Welcome Home!'
    assert browser.likes == []
    assert 'likes_session=' in page.headers['Set-Cookie']


def test_the_field_takes_no_more_than_the_site(browser):
    assert browser.get('/').forms['likeform']['likes'].attrs['maxlength'] == '200'


def test_the_page_counts(browser):
    browser.like('tea')
    assert browser.get('/').html.h2.string == 'You like 1 thing'
    browser.like('coffee')
    assert browser.get('/').html.h2.string == 'You like 2 things'


def test_forget_me_says_what_it_does(browser, user):
    browser.like('tea')
    assert 'logs you out' not in browser.get('/').text
    browser.log_in()
    assert 'logs you out' in browser.get('/').html.find(id='forgetform').p.string


def test_a_second_visit_keeps_the_key_and_sends_no_cookie(browser):
    browser.get('/')
    key = browser.key
    assert 'Set-Cookie' not in browser.get('/').headers
    assert browser.key == key


def test_likes_are_listed_in_the_order_liked(browser):
    for thing in ('walnuts', 'apples', 'mango'):
        browser.like(thing)
    assert browser.likes == ['walnuts', 'apples', 'mango']


def test_a_like_is_answered_by_a_redirect_home(browser):
    answer = browser.like('tea')
    assert (answer.status, answer.headers['Location'], answer.text) == ('303 See Other', '/', 'Redirect to /')


def test_two_browsers_see_two_lists(browser, other_browser):
    browser.like('tea')
    other_browser.like('coffee')
    assert browser.likes == ['tea']
    assert other_browser.likes == ['coffee']


def test_the_same_thing_is_liked_once(browser):
    browser.like('tea')
    assert browser.like('tea').status_int == 303
    assert browser.likes == ['tea']


def test_a_like_without_a_session_makes_one(browser):
    browser.post('/likes', {'likes': 'tea'})
    assert browser.likes == ['tea']


def test_forget_me_ends_the_session_and_its_likes(browser, db):
    browser.like('tea')
    old = browser.key
    browser.forget()
    assert browser.key is None
    assert browser.likes == []
    assert browser.key != old
    assert db.execute('SELECT count(*) FROM likes').fetchone() == (0,)


def test_forget_me_is_not_offered_where_there_is_nothing_to_forget(browser):
    assert 'forgetform' not in browser.get('/').forms


@pytest.mark.parametrize('address', ['/forget', '/logout'])
def test_ending_a_session_that_is_not_there_does_nothing(browser, db, address):
    answer = browser.post(address)
    assert answer.status_int == 303
    assert 'Set-Cookie' not in answer.headers
    assert db.execute('SELECT count(*) FROM sessions').fetchone() == (0,)


def test_the_login_page_makes_no_session(browser, db):
    answer = browser.get('/login')
    assert 'Set-Cookie' not in answer.headers
    assert db.execute('SELECT count(*) FROM sessions').fetchone() == (0,)


def test_the_login_page_sends_home_who_is_logged_in(browser, user):
    browser.log_in()
    assert browser.get('/login').status_int == 303


@pytest.mark.parametrize('page', ['/', '/login'])
def test_logging_in_from_either_form(browser, user, page):
    assert browser.submit(page, 'loginform', username='anna', password=PASSWORD).status_int == 303
    assert browser.username == 'anna'


def test_likes_from_before_the_login_are_there_after_it(browser, user):
    browser.like('tea')
    browser.log_in()
    assert browser.likes == ['tea']


def test_the_user_finds_the_likes_in_another_browser(browser, other_browser, user):
    browser.like('tea')
    browser.log_in()
    other_browser.like('coffee')
    other_browser.log_in()
    assert browser.likes == other_browser.likes == ['tea', 'coffee']


def test_a_thing_liked_before_and_after_the_login_is_listed_once(browser, other_browser, user):
    browser.log_in()
    browser.like('tea')
    other_browser.like('coffee')
    other_browser.like('tea')
    other_browser.log_in()
    assert other_browser.likes == ['tea', 'coffee']


def test_likes_survive_logout(browser, user):
    browser.log_in()
    browser.like('tea')
    browser.log_out()
    assert (browser.username, browser.likes) == (None, [])
    browser.log_in()
    assert (browser.username, browser.likes) == ('anna', ['tea'])


def test_forget_me_forgets_in_every_browser_of_the_user(browser, other_browser, user):
    browser.log_in()
    browser.like('tea')
    other_browser.log_in()
    browser.forget()
    assert browser.username is None
    assert (other_browser.username, other_browser.likes) == ('anna', [])
    browser.log_in()
    assert browser.likes == []


def test_a_wrong_password_keeps_the_name_the_session_and_the_likes(browser, user):
    browser.like('tea')
    key = browser.key
    answer = browser.log_in(password='wrong')
    assert answer.status_int == 200
    assert 'Login failed, please try again' in answer.text
    assert answer.forms['loginform']['username'].value == 'anna'
    assert answer.forms['loginform']['password'].value == ''
    assert (browser.key, browser.username, browser.likes) == (key, None, ['tea'])


def test_a_failed_login_makes_no_session(browser, db):
    answer = browser.log_in()
    assert 'Set-Cookie' not in answer.headers
    assert db.execute('SELECT count(*) FROM sessions').fetchone() == (0,)


def test_a_space_that_a_phone_adds_to_the_name_does_no_harm(browser, user):
    browser.log_in(username='anna ')
    assert browser.username == 'anna'


def test_logging_in_as_somebody_else_leaves_the_first_users_likes(browser, user, db):
    database.add_user(db, 'ben', PASSWORD)
    browser.log_in()
    browser.like('tea')
    browser.post('/login', {'username': 'ben', 'password': PASSWORD})
    assert (browser.username, browser.likes) == ('ben', [])
    browser.log_out()
    browser.log_in()
    assert browser.likes == ['tea']


def test_a_like_on_a_session_that_ends_meanwhile_goes_to_a_new_one(browser, monkeypatch):
    browser.like('tea')
    store_like = database.store_like

    def end_it_first(db, key, like):
        monkeypatch.setattr('app.store_like', store_like)
        database.end_session(db, key)
        return store_like(db, key, like)

    monkeypatch.setattr('app.store_like', end_it_first)
    browser.post('/likes', {'likes': 'coffee'})
    assert browser.likes == ['coffee']


def test_head_answers_as_get_without_a_page(browser):
    assert browser.head('/').status_int == 200
