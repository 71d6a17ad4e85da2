"""What visitors see, by HTTP."""


def test_two_browsers_see_two_lists(browser, other_browser):
    browser.like('tea').follow()
    other_browser.like('coffee')
    assert browser.likes == ['tea']
    assert other_browser.likes == ['coffee']


def test_real(serve):
    s = serve()
    assert s.stop() == 0


def test_login(browser, user):
    browser.like('tea')
    browser.log_in()
    assert browser.username == 'anna'
    assert browser.likes == ['tea']
