"""What visitors see: the chapter's application and its exercises, through the forms."""

import logging

import pytest

import db as database
from conftest import PASSWORD, another_writer, rows


def test_the_first_visit_is_welcomed_with_an_empty_list_and_a_cookie(browser):
    page = browser.get('/')
    assert page.html.h1.string == 'Welcome Home!'
    assert 'Nothing here yet' in page.text
    assert 'forgetform' not in page.forms
    assert 'likes_session=' in page.headers['Set-Cookie']


def test_the_second_visit_gets_no_cookie(browser):
    browser.get('/')
    assert 'Set-Cookie' not in browser.get('/').headers


def test_likes_are_listed_in_the_order_liked(browser):
    for thing in ('walnuts', 'apples', 'mango'):
        browser.like(thing)
    assert browser.likes == ['walnuts', 'apples', 'mango']


def test_what_is_liked_again_becomes_the_newest(browser):
    for thing in ('walnuts', 'apples', 'walnuts', 'mango', 'apples', 'apples'):
        browser.like(thing)
    assert browser.likes == ['walnuts', 'mango', 'apples']


def test_what_a_user_likes_again_becomes_the_newest(browser, user):
    browser.log_in()
    for thing in ('walnuts', 'apples', 'walnuts'):
        browser.like(thing)
    assert browser.likes == ['apples', 'walnuts']


def test_the_page_counts_the_likes_and_names_the_newest(browser):
    browser.like('walnuts')
    page = browser.like('apples').follow()
    count = page.html.find(id='count').get_text()
    assert count == 'You like 2 things; the newest is apples'


def assert_leads_home(answer):
    assert answer.status == '303 See Other'
    assert answer.headers['Location'] == '/'
    assert answer.text == 'Redirect to /'


@pytest.mark.parametrize('address', ['/likes', '/forget', '/logout'])
def test_what_was_done_is_answered_by_a_redirect_home(browser, address):
    browser.like('tea')
    assert_leads_home(browser.post(address, {'likes': 'milk'}))


def test_a_login_is_answered_by_a_redirect_home(browser, user):
    assert_leads_home(browser.log_in())


def test_two_browsers_see_two_lists(browser, other_browser):
    browser.like('tea')
    other_browser.like('coffee')
    assert browser.likes == ['tea']
    assert other_browser.likes == ['coffee']


def test_forget_me_ends_the_session_and_its_likes(browser, db):
    browser.like('tea')
    browser.forget()
    assert browser.key is None
    assert rows(db, 'likes') == 0
    assert rows(db, 'sessions') == 0


def test_forget_me_forgets_a_users_list_and_keeps_the_account(
    browser, other_browser, user
):
    browser.log_in()
    browser.like('tea')
    other_browser.log_in()
    browser.forget()
    assert browser.username is None
    assert other_browser.username == 'anna'
    assert other_browser.likes == []
    assert browser.log_in().status_code == 303


@pytest.fixture
def send_in_vain(db):
    """A function that sends a form of a page that showed the list of another login."""

    def send(form):
        likes = db.execute('SELECT * FROM likes').fetchall()
        sessions = rows(db, 'sessions')
        answer = form.submit(status=409)
        assert answer.html.main.find('a', href='/')
        assert db.execute('SELECT * FROM likes').fetchall() == likes
        assert rows(db, 'sessions') == sessions
        return answer

    return send


def test_forget_me_deletes_nothing_after_a_logout(browser, user, send_in_vain):
    browser.log_in()
    browser.like('tea')
    form = browser.get('/').forms['forgetform']
    browser.log_out()
    browser.like('milk')
    assert 'This press deleted nothing' in send_in_vain(form)


def test_forget_me_deletes_nothing_after_a_login(browser, user, send_in_vain):
    browser.like('tea')
    form = browser.get('/').forms['forgetform']
    browser.log_in()
    assert 'This press deleted nothing' in send_in_vain(form)


@pytest.fixture
def filled_in(browser):
    """A function that returns the like form of the page as it is now, filled in."""

    def fill_in():
        form = browser.get('/').forms['likeform']
        form['likes'] = 'walnuts'
        return form

    return fill_in


def test_a_like_after_the_end_of_its_login_is_kept_and_may_be_sent_again(
    browser, user, filled_in, send_in_vain
):
    browser.log_in()
    form = filled_in()
    browser.log_out()
    answer = send_in_vain(form)
    assert answer.forms['likeform']['likes'].value == 'walnuts'
    assert answer.html.main.find('a', href='/login')
    answer.forms['likeform'].submit()
    assert browser.likes == ['walnuts']


def test_a_like_kept_after_the_end_of_a_login_may_go_to_the_account(
    browser, user, filled_in, send_in_vain
):
    browser.log_in()
    form = filled_in()
    browser.log_out()
    answer = send_in_vain(form)
    browser.log_in()
    answer.forms['likeform'].submit()
    assert browser.username == 'anna'
    assert browser.likes == ['walnuts']


def test_a_refused_like_that_is_sent_again_is_for_the_same_list(
    browser, user, send_in_vain
):
    browser.log_in()
    form = browser.like('tea' * 100).forms['likeform']
    browser.log_out()
    form['likes'] = 'tea'
    send_in_vain(form)


def test_a_like_of_an_anonymous_page_does_not_land_on_an_account(
    browser, user, filled_in, send_in_vain
):
    form = filled_in()
    browser.log_in()
    send_in_vain(form)


def test_a_like_of_one_user_does_not_land_on_the_list_of_another(
    browser, db, user, filled_in, send_in_vain
):
    database.add_user(db, 'ben', PASSWORD)
    browser.log_in()
    form = filled_in()
    browser.log_in('ben')
    send_in_vain(form)


def test_forget_me_without_its_field_is_taken_at_its_word(browser):
    browser.like('tea')
    browser.post('/forget')
    assert browser.likes == []


def test_a_log_out_button_that_is_still_shown_ends_no_anonymous_session(browser, user):
    browser.log_in()
    form = browser.get('/').forms['logoutform']
    browser.log_out()
    browser.like('tea')
    form.submit()
    assert browser.likes == ['tea']


@pytest.mark.parametrize('address', ['/likes', '/forget', '/logout'])
def test_no_link_changes_anything(browser, user, address):
    browser.log_in()
    browser.like('tea')
    browser.get(address, status=405)
    assert browser.username == 'anna'
    assert browser.likes == ['tea']


@pytest.mark.parametrize('address', ['/forget', '/logout'])
def test_without_a_session_none_is_made_to_end_it(browser, db, address, caplog):
    caplog.set_level(logging.INFO)
    answer = browser.post(address)
    assert caplog.messages == []
    assert answer.status_code == 303
    assert 'Set-Cookie' not in answer.headers
    assert rows(db, 'sessions') == 0


def test_neither_the_login_page_nor_a_failed_login_makes_a_session(browser, db):
    answer = browser.submit('/login', 'loginform', username='anna', password='guess')
    assert answer.status_code == 200
    assert browser.key is None
    assert rows(db, 'sessions') == 0


def test_the_home_page_has_a_login_form(browser, user):
    browser.submit('/', 'loginform', username='anna', password=PASSWORD)
    assert browser.username == 'anna'


def test_who_is_logged_in_is_led_from_the_login_page_home(browser, user):
    browser.log_in()
    assert_leads_home(browser.get('/login'))


def test_a_login_moves_as_many_likes_as_there_is_room_for(browser, user, monkeypatch):
    monkeypatch.setattr(database, 'MAX_LIKES', 4)
    browser.log_in()
    browser.like('cake')
    browser.like('tea')
    browser.log_out()
    for thing in ('tea', 'milk', 'cats', 'dogs'):
        browser.like(thing)
    browser.log_in()  # there is room for milk and cats
    browser.log_out()
    browser.like('birds')
    browser.log_in()  # there is none
    assert browser.likes == ['cake', 'tea', 'milk', 'cats']


def test_likes_survive_logout(browser, user):
    browser.log_in()
    browser.like('tea')
    browser.log_out()
    assert browser.likes == []
    browser.log_in()
    assert browser.likes == ['tea']


def test_a_wrong_password_keeps_the_name_but_not_the_password(browser, user):
    answer = browser.log_in(password='wrong')
    assert answer.html.h1.string == 'Login failed'
    alert = answer.html.find(role='alert').string
    assert 'Login failed, please try again' in alert
    assert answer.forms['loginform']['username'].value == 'anna'
    assert answer.forms['loginform']['password'].value == ''


def test_a_wrong_password_changes_no_session(browser, user):
    browser.like('tea')
    key = browser.key
    browser.log_in(password='wrong')
    assert browser.username is None
    assert browser.likes == ['tea']
    assert browser.key == key


def test_a_like_that_was_refused_can_be_sent_again(browser):
    answer = browser.like('tea' * 100)
    form = answer.forms['likeform']
    assert form['likes'].value == 'tea' * 100
    form['likes'] = 'tea'
    form.submit()
    assert browser.likes == ['tea']


def test_a_like_that_met_a_locked_database_can_be_sent_again(
    browser, path, filled_in, monkeypatch
):
    monkeypatch.setattr(database, 'MAX_WAIT', 0)  # seconds
    form = filled_in()
    with another_writer(path):
        answer = form.submit(status=503)
    assert answer.headers['Retry-After'] == '5'
    assert 'Please try again' in answer
    answer.forms['likeform'].submit()
    assert browser.likes == ['walnuts']


def test_a_database_that_cannot_be_opened_is_told_until_it_can(browser, path):
    path.mkdir()  # in the place of the file
    answer = browser.get('/', status=503)
    assert 'Please try again' in answer
    path.rmdir()
    assert browser.get('/').html.h1.string == 'Welcome Home!'


def test_a_login_that_met_a_locked_database_leads_back_to_the_login(
    browser, path, user, monkeypatch
):
    monkeypatch.setattr(database, 'MAX_WAIT', 0)  # seconds
    with another_writer(path):
        answer = browser.log_in()
    assert answer.status_code == 503
    assert answer.html.main.find('a', href='/login')
