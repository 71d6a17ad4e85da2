"""Sessions: the cookie, and which session it stands for.

The cookie holds nothing but a random key: all that the site knows of a visitor is in
the database, under that key.
"""

import uuid
from time import time as clock  # a name of our own, so that a test can set the time

from bottle import request, response

import db as database  # `db` is the connection everywhere else

COOKIE_NAME = 'likes_session'
DAY = 24 * 60 * 60  # seconds
UNUSED_LIFETIME = DAY  # until the first like: crawlers must not fill the disk
ANONYMOUS_LIFETIME = 30 * DAY  # from the last like
LOGIN_LIFETIME = DAY  # from the login, whatever happens meanwhile
MAX_COOKIES = 200  # of our name; browsers keep 180 for a site
MAX_FAILED_LOGINS = 5  # with one username, in the last THROTTLE_TIME seconds
THROTTLE_TIME = 300


class Throttled(Exception):
    """Too many logins with one name have failed: wait `retry_after` seconds."""

    def __init__(self, retry_after):
        self.retry_after = retry_after


def new_session(db, username=None):
    """Make a session, send its cookie and return its key.

    The session is anonymous, or that of the user who has just logged in.
    """
    key = str(uuid.uuid4())
    lifetime = LOGIN_LIFETIME if username else UNUSED_LIFETIME
    database.add_session(db, key, username, clock(), lifetime)
    send_cookie(key, lifetime)
    return key


def send_cookie(key, max_age):
    """Send the cookie, for `max_age` seconds.

    No script can read it, no other site's POST sends it along (OWASP ASVS 5.0, 3.3).
    """
    response.set_cookie(
        cookie_name(),
        key,
        max_age=max_age,
        path='/',
        httponly=True,
        samesite='lax',
        secure=over_https(),
    )


def get_session(db):
    """Return the key of the visitor's session; a new one is made if there is none."""
    key, _ = find_session(db)
    if not key:
        key = new_session(db)
    return key


def find_session(db):
    """Return (key, username) of the session that the visitor's cookie stands for.

    The username is None while it is anonymous; both are None if there is no session.
    """
    for key in sent_keys():
        session = database.load_session(db, key, clock())
        if session:  # else the app has not made this key, or it has expired
            return session
    return None, None


def sent_keys():
    """Return the values of the request's cookies that have our name.

    Not by request.get_cookie: that finds nothing once any other program on the same
    host has set an odd cookie, as prefs={"a":1}. And there may be several: a page under
    another path, or of a parent domain, can set a cookie of our name too.
    """
    ours = f'{cookie_name()}='
    # environ is the request as the server hands it over: this is its header Cookie.
    header = request.environ.get('HTTP_COOKIE', '')
    cookies = [cookie.strip() for cookie in header.split(';')]
    keys = [cookie.removeprefix(ours) for cookie in cookies if cookie.startswith(ours)]
    return keys[:MAX_COOKIES]  # each costs a query, and an attacker may send many


def cookie_name():
    """Return the cookie's name.

    Over https it has a prefix, by which the browser refuses it from other subdomains.
    """
    return f'__Host-{COOKIE_NAME}' if over_https() else COOKIE_NAME


def over_https():
    """Return whether the browser uses https, to this server or to a proxy before it.

    Each proxy of a chain may add its own to X-Forwarded-Proto: the first is the
    browser's.
    """
    environ = request.environ
    schemes = environ.get('HTTP_X_FORWARDED_PROTO') or environ['wsgi.url_scheme']
    return schemes.partition(',')[0].strip().lower() == 'https'


def prolong_session(db, key):
    """Let an anonymous session last its full time from now: it has got a like.

    Not at each visit: that would make every page a write. A login ends at its time.
    """
    if database.prolong_anonymous(db, key, clock() + ANONYMOUS_LIFETIME):
        send_cookie(key, ANONYMOUS_LIFETIME)  # in place of new_session()'s


def log_out(db, key):
    """End the session `key` and clear the cookie."""
    database.delete_session(db, key)
    send_cookie('', 0)  # Max-Age 0: the browser deletes it


def log_in(db, username, password):
    """Log the visitor in. Return False for a wrong password or an unknown user.

    The old session ends, and what an anonymous visitor liked becomes the user's.
    Raises Throttled (OWASP ASVS 5.0, 6.3.1).
    """
    if len(username) > database.MAX_USERNAME:
        return False  # nobody's, and not worth a row in failed_logins
    # To check takes 20 ms: before the transaction, so that others may write.
    old_hash = database.get_password_hash(db, username)
    is_right = database.verify_password(password, old_hash)
    if is_right:  # the old one, unless today's parameters are stronger
        new_hash = database.renew_hash(password, old_hash)
    # `with db:` is one transaction, in which all is decided: so of many guesses sent at
    # once, just five are answered.
    with db:
        now = clock()
        since = now - THROTTLE_TIME
        failures = database.get_failed_logins(db, username, since, now)
        if len(failures) >= MAX_FAILED_LOGINS:
            # Until the oldest no longer counts.
            raise Throttled(failures[0] + THROTTLE_TIME - now)
        # Meanwhile the password may have been changed, or the user deleted.
        was_changed = database.get_password_hash(db, username) != old_hash
        if was_changed or not is_right:
            database.add_failed_login(db, username, since, now)
            return False
        database.set_password_hash(db, username, new_hash)
        start_login(db, username)
    return True


def start_login(db, username):
    """End the visitor's session, and make one of the user, who gets what was liked."""
    database.delete_failed_logins(db, username)
    old_key, _ = find_session(db)
    if old_key:
        database.move_likes(db, old_key, username)
        database.delete_session(db, old_key)
    # Always a new key: an attacker may have planted the old one (session fixation;
    # OWASP ASVS 5.0, 7.2.4).
    new_session(db, username)
