"""Sessions: the cookie, and which session it stands for.

The cookie holds nothing but a random key: all that the site knows of a visitor is in
the database, under that key.
"""

import uuid
from time import time as clock  # a name of our own, so that a test can set the time

from bottle import HTTPError, request, response

import db as database  # `db` is the connection everywhere else

COOKIE_NAME = 'likes_session'
DAY = 24 * 60 * 60  # seconds
UNUSED_LIFETIME = DAY  # until the first like: crawlers must not fill the disk
ANONYMOUS_LIFETIME = 30 * DAY  # from the first like
LOGIN_LIFETIME = DAY  # from the login, whatever happens meanwhile
KEY_LENGTH = 36  # characters, of a UUID
MAX_COOKIES = 200  # of our name; browsers keep 180 for a site
MAX_FAILED_LOGINS = 5  # with one username, in the last THROTTLE_TIME seconds
THROTTLE_TIME = 300


class Throttled(Exception):
    """Too many logins with one name have failed. Its argument: seconds to wait."""


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
    return key or new_session(db)


def find_session(db):
    """Return (key, username) of the visitor's session.

    The username is None while it is anonymous; both are None if there is no session.
    """
    for key in sent_keys():
        session = database.read_session(db, key, clock())
        if session:  # else the app has not made this key, or it has expired
            return session
    return None, None


def sent_keys():
    """Return the values of the request's cookies that have our name: keys, it seems.

    There may be several: a page under another path or domain can set one as well.
    Not by request.get_cookie: that finds nothing once any other program on the same
    host has set an odd cookie, as prefs={"a":1}. Raises HTTPError 400 for cookies that
    cannot be read: to make a new session then would lose the visitor's.
    """
    header = request.environ.get('HTTP_COOKIE')
    if header is None:  # no cookie came
        return []
    if not header:  # Granian, our server, passes '' on for any byte beyond ASCII
        raise HTTPError(
            400,
            'The cookies that came could not be read, so your list was not found. '
            'Another program on this address has set one with letters that are not '
            'allowed. Delete that one in your browser, or all cookies of this site '
            '(without an account, your list is lost then), and load the page again.',
        )
    ours = f'{cookie_name()}='
    cookies = [cookie.strip() for cookie in header.split(';')]
    values = [cookie[len(ours) :] for cookie in cookies if cookie.startswith(ours)]
    # Each costs a query, and an attacker may send many.
    return [value for value in values if len(value) == KEY_LENGTH][:MAX_COOKIES]


def cookie_name():
    """Return the cookie's name.

    Over https it has a prefix that keeps other subdomains from setting it.
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


def keep_session(db, key):
    """Give an anonymous session its full lifetime: it is about to get its first like.

    Not at each visit: that would make every page a write.
    """
    if database.get_user(db, key) is None:
        database.extend_session(db, key, clock() + ANONYMOUS_LIFETIME)
        send_cookie(key, ANONYMOUS_LIFETIME)


def forget(db, key):
    """Delete all that the visitor with the session `key` likes, and end the session."""
    database.delete_likes(db, key)
    log_out(db, key)


def log_out(db, key):
    """End the session `key` and clear the cookie."""
    database.delete_session(db, key)
    send_cookie('', 0)


def log_in(db, username, password):
    """Log the visitor in. Return False for a wrong password or an unknown user.

    The old session ends, and what an anonymous visitor liked becomes the user's.
    Raises Throttled (OWASP ASVS 5.0, 6.3.1).
    """
    if len(username) > database.MAX_USERNAME:
        return False  # nobody's, and not worth a row in failed_logins
    stored = database.get_password_hash(db, username)
    # This takes 20 ms: outside of the transaction, so that others may write.
    is_right = database.is_password(password, stored)
    # What counts is decided in one transaction: so of many guesses sent at once, just
    # five are answered.
    with db:
        if database.get_password_hash(db, username) != stored:
            # Changed meanwhile, by `db.py passwd` say. Check again, now inside of the
            # transaction, where nobody can change it.
            return log_in(db, username, password)
        now = clock()
        since = now - THROTTLE_TIME
        failed = database.get_failed_logins(db, username, since, now)
        if len(failed) >= MAX_FAILED_LOGINS:
            # Until the fifth last is too old to count.
            raise Throttled(failed[-MAX_FAILED_LOGINS] + THROTTLE_TIME - now)
        if not is_right:
            database.add_failed_login(db, username, since, now)
            return False
        start_login(db, username)
    database.renew_hash(db, username, password, stored)
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
