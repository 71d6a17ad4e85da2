"""Sessions: the cookie, and which session it stands for.

The cookie holds nothing but a random key: all that the site knows of a visitor is in
the database, under that key.
"""

import uuid
from time import time as clock  # a name of our own, so that a test can set the time

from bottle import HTTPError, request, response

import db as database  # `db` is the connection everywhere else

COOKIE_NAME = 'likes_session'
HOUR = 3600  # seconds
DAY = 24 * HOUR
UNUSED_LIFETIME = DAY  # until the first like: crawlers must not fill the disk
ANONYMOUS_LIFETIME = 30 * DAY  # from the first like
LOGIN_LIFETIME = 12 * HOUR  # from the login, whatever happens meanwhile
MAX_FAILED_LOGINS = 5  # with one username, in the last THROTTLE_TIME seconds
THROTTLE_TIME = 300


class Throttled(Exception):
    """Too many logins with one name have failed: `wait` seconds until the next."""

    def __init__(self, wait):
        super().__init__()
        self.wait = wait


def new_session(db, username=None):
    """Make a session, send its cookie and return its key.

    The session is anonymous, or that of the user who has just logged in.
    """
    key = str(uuid.uuid4())
    lifetime = LOGIN_LIFETIME if username else UNUSED_LIFETIME
    database.add_session(db, key, username, clock(), lifetime)
    send_cookie(key, lifetime)
    return key


def get_session(db):
    """Return the key of the visitor's session; a new one is made if there is none."""
    key, _ = find_session(db)
    return key or new_session(db)


def find_session(db):
    """Return (key, username) of the visitor's session.

    The username is None while it is anonymous; both are None if there is no session.
    Of several keys that are valid, any one is taken.
    """
    for key, username, expires in database.get_sessions(db, sent_keys()):
        if expires > clock():  # whatever the browser does with its cookie
            return key, username
    return None, None


def keep_session(db, key):
    """Give an anonymous session its full lifetime: it is about to get its first like.

    Not at each visit: that would make every page a write.
    """
    if database.get_user(db, key) is None:
        database.extend_session(db, key, clock() + ANONYMOUS_LIFETIME)
        send_cookie(key, ANONYMOUS_LIFETIME)


def log_in(db, username, password):
    """Log the visitor in. Return False for a wrong password or an unknown user.

    The old session ends, and what an anonymous visitor liked becomes the user's.
    Raises Throttled (OWASP ASVS 5.0, 6.3.1).
    """
    if len(username) > database.MAX_USERNAME:
        return False  # nobody's, and not worth a row in failed_logins
    # One login at a time: so of many guesses sent at once, just five are checked.
    with db.holding(db.login_lock):
        now = clock()
        since = now - THROTTLE_TIME
        failed = database.get_failed_logins(db, username, since, now)
        if len(failed) >= MAX_FAILED_LOGINS:
            raise Throttled(failed[0] + THROTTLE_TIME - now)
        if not database.is_password(db, username, password):
            database.add_failed_login(db, username, since, now)
            return False
        with db:
            database.delete_failed_logins(db, username)
            old_key, _ = find_session(db)
            if old_key:
                database.move_likes(db, old_key, username)
                database.delete_session(db, old_key)
            # Always a new key: an attacker may have planted the old one (session
            # fixation; OWASP ASVS 5.0, 7.2.4).
            new_session(db, username)
    return True


def log_out(db, key):
    """End the session `key` and clear the cookie."""
    database.delete_session(db, key)
    send_cookie('', 0)


def forget(db, key):
    """Delete all that the visitor with the session `key` likes, and end the session."""
    database.delete_likes(db, key)
    log_out(db, key)


def over_https():
    """Return whether the browser uses https, to this server or to a proxy before it.

    Each proxy of a chain may add its own to X-Forwarded-Proto: the first is the
    browser's.
    """
    scheme = request.environ.get('HTTP_X_FORWARDED_PROTO', '').lstrip()
    return (scheme or request.environ['wsgi.url_scheme']).lower().startswith('https')


def cookie_name():
    """Return the cookie's name.

    Over https it has a prefix that keeps other subdomains from setting it.
    """
    return f'__Host-{COOKIE_NAME}' if over_https() else COOKIE_NAME


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


def sent_keys():
    """Return the values of the request's cookies that have our name.

    Not by request.get_cookie: that finds nothing once any other program on the same
    host has set an odd cookie. Raises HTTPError 400 for cookies that cannot be read:
    to make a new session then would lose the visitor's.
    """
    header = request.environ.get('HTTP_COOKIE')
    if header is None:  # no cookie came
        return []
    if not header:  # Granian passes '' on where there is a byte beyond ASCII
        raise HTTPError(
            400,
            'The cookies that came could not be read, so your list was not found. '
            'Another program on this address has set one with letters that are not '
            'allowed. Delete that one in your browser, or all cookies of this site '
            '(without an account, your list is lost then), and load the page again.',
        )
    ours = f'{cookie_name()}='
    cookies = [cookie.strip() for cookie in header.split(';')]
    return [cookie[len(ours) :] for cookie in cookies if cookie.startswith(ours)]
