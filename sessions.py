"""Sessions: the cookie, and which session it stands for.

The cookie holds nothing but a random key; all that the site knows of the visitor is in the database under that key. A
key that is not in the table of sessions, or whose time is over, counts as no cookie at all.
"""

import re
import time
import uuid

from bottle import request, response

import db as database

COOKIE_NAME = 'likes_session'

MINUTE, HOUR, DAY = 60, 60 * 60, 24 * 60 * 60  # seconds
UNUSED_LIFETIME = 1 * DAY  # until the first like: crawlers bring one with each visit and must not fill the disk
ANONYMOUS_LIFETIME = 30 * DAY  # from the first like
LOGIN_LIFETIME = 12 * HOUR  # from the login, whatever happens meanwhile

MAX_FAILED_LOGINS = 5  # with one username, in the last THROTTLE_TIME seconds
THROTTLE_TIME = 5 * MINUTE

clock = time.time  # a name of our own, so that a test can set the time

# Read straight from the header: http.cookies, behind request.get_cookie, gives up at the first odd cookie, and any
# program on the same host may have set one. The value is one of str(uuid.uuid4()); some clients quote it.
COOKIE = re.compile(rf'(?:^|;)\s*{COOKIE_NAME}="?([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})"?(?=;|$)')


class Throttled(Exception):
    """Too many logins with one username have failed; args[0] is the time in seconds until the next may be tried."""


def over_https(environ):
    """Return whether the request came by https, to this server or to a proxy before it."""
    return environ['wsgi.url_scheme'] == 'https' or environ.get('HTTP_X_FORWARDED_PROTO') == 'https'


def _send_cookie(key, max_age):
    """Set the session cookie, which no script can read and no other site can use (OWASP ASVS 5.0, 3.3)."""
    response.set_cookie(
        COOKIE_NAME,
        key,
        max_age=max_age,
        path='/',
        httponly=True,
        samesite='lax',
        secure=over_https(request.environ),
    )


def _current(db):
    """Return (key, username, expires) of the session that came with the request, or three times None.

    Looked up once, since several functions ask; a session that ends within the request is still known after it.
    """
    environ = request.environ
    if 'likes.session' not in environ:
        environ['likes.session'] = None, None, None
        for key in COOKIE.findall(environ.get('HTTP_COOKIE', '')):
            session = database.find_session(db, key, clock())
            if session:
                environ['likes.session'] = key, *session
                break
    return environ['likes.session']


def get_session(db):
    """Return the key of the visitor's session; a new one is made if there is none."""
    return _current(db)[0] or new_session(db)


def get_user(db):
    """Return the username that the visitor is logged in with, or None. Makes no session."""
    return _current(db)[1]


def new_session(db):
    """Make an anonymous session, send its cookie and return its key."""
    key, now = str(uuid.uuid4()), clock()
    database.remove_expired_sessions(db, now)
    database.add_session(db, key, None, now + UNUSED_LIFETIME)
    # The cookie may outlive the session, which the server ends, but must not end before it.
    _send_cookie(key, UNUSED_LIFETIME + ANONYMOUS_LIFETIME)
    request.environ['likes.session'] = key, None, now + UNUSED_LIFETIME
    return key


def keep_session(db):
    """Give the visitor's session its full lifetime if it is anonymous and about to get its first like."""
    key, username, expires = _current(db)
    now = clock()
    if username is None and expires <= now + UNUSED_LIFETIME:  # a later end shows that it has likes
        database.extend_session(db, key, now + ANONYMOUS_LIFETIME)


def log_in(db, username, password):
    """Log the visitor in. Returns True, or False for a wrong password or an unknown user. Raises Throttled.

    The old session ends, and what an anonymous visitor liked in it becomes the user's. The key is always a new one: an
    attacker may have planted the old one (session fixation; OWASP ASVS 5.0, 7.2.4).
    """
    if len(username) > database.MAX_USERNAME:
        return False  # nobody's, and too long to be worth a row
    _throttle(db, username)
    password_hash = database.check_password(db, username, password)
    old_key, key = _current(db)[0], str(uuid.uuid4())
    with database.writing(db):
        now = clock()
        # Asked again, now that nobody else can write: of many guesses sent at once only five are answered, and a
        # password changed while it was checked no longer opens.
        _throttle(db, username)
        if password_hash is None or password_hash != database.get_password_hash(db, username):
            database.add_failed_login(db, username, now, now - THROTTLE_TIME)
            return False
        database.remove_failed_logins(db, username)
        database.remove_expired_sessions(db, now)
        database.move_likes(db, old_key, username)
        database.end_session(db, old_key)
        database.add_session(db, key, username, now + LOGIN_LIFETIME)
    _send_cookie(key, LOGIN_LIFETIME)
    return True


def _throttle(db, username):
    """Raise Throttled if too many logins with this name, known or not, have failed of late (ASVS 6.3.1)."""
    now = clock()
    failed = database.get_failed_logins(db, username, now - THROTTLE_TIME)
    if len(failed) >= MAX_FAILED_LOGINS:
        raise Throttled(failed[-MAX_FAILED_LOGINS] + THROTTLE_TIME - now)


def log_out(db):
    """End the visitor's session, if any, and clear the cookie. Only an anonymous visitor's likes end with it."""
    key, _, _ = _current(db)
    if key:
        database.end_session(db, key)
        _send_cookie('', 0)


def forget(db):
    """Remove all that the visitor likes, then log out."""
    key, _, _ = _current(db)
    if key:
        with database.writing(db):
            database.forget_likes(db, key)
            log_out(db)
