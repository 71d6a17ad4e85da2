"""Sessions: the cookie, and which session it stands for.

The cookie holds nothing but a random key; all that the site knows of the visitor is in the database under that key. A
key that is not in the table of sessions, or whose time is over, counts as no cookie at all.
"""

import time
import uuid

from bottle import request, response

import db as database  # `db` is the connection everywhere else

COOKIE_NAME = 'likes_session'

MINUTE, HOUR, DAY = 60, 60 * 60, 24 * 60 * 60  # seconds
UNUSED_LIFETIME = 1 * DAY  # until the first like: a crawler starts one at each visit, and must not fill the disk
ANONYMOUS_LIFETIME = 30 * DAY  # from the first like; to extend it at each visit would make every page a write
LOGIN_LIFETIME = 12 * HOUR  # from the login, whatever happens meanwhile

MAX_FAILED_LOGINS = 5  # with one username, in the last THROTTLE_TIME seconds
THROTTLE_TIME = 5 * MINUTE

NOBODY = None, None, None  # key, username, expires where there is no session

clock = time.time  # a name of our own, so that a test can set the time


class Throttled(Exception):
    """Too many logins with one username have failed; args[0] is the time in seconds until the next may be tried."""


def over_https(environ):
    """Return whether the request came by https, to this server or to a proxy before it."""
    return environ['wsgi.url_scheme'] == 'https' or environ.get('HTTP_X_FORWARDED_PROTO') == 'https'


def _switch_to(session, max_age):
    """Make (key, username, expires) the session of the request from here on, and send its cookie.

    No script can read the cookie, and no form on another site sends it along (OWASP ASVS 5.0, 3.3).
    """
    request.environ['likes.session'] = session
    response.set_cookie(
        COOKIE_NAME,
        session[0] or '',
        max_age=max_age,
        path='/',
        httponly=True,
        samesite='lax',
        secure=over_https(request.environ),
    )


def _current(db):
    """Return (key, username, expires) of the visitor's session, or NOBODY if there is none.

    Looked up once and kept in the environ, which lasts as long as the request, since several functions ask.
    """
    environ = request.environ
    if 'likes.session' not in environ:
        environ['likes.session'] = NOBODY
        # Not request.get_cookie: it finds nothing once any program on the same host has set an odd cookie.
        for cookie in environ.get('HTTP_COOKIE', '').split(';'):
            name, _, key = cookie.strip().partition('=')
            key = key.strip('"')  # some clients quote it
            session = name == COOKIE_NAME and database.find_session(db, key, clock())
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
    # The cookie lasts as long as the session can at most; the server ends the session, maybe sooner.
    _switch_to((key, None, now + UNUSED_LIFETIME), UNUSED_LIFETIME + ANONYMOUS_LIFETIME)
    return key


def keep_session(db):
    """Give the visitor's session its full lifetime if it is anonymous and about to get its first like."""
    key, username, expires = _current(db)
    now = clock()
    if username is None and expires <= now + UNUSED_LIFETIME:  # else it has been extended already
        database.extend_session(db, key, now + ANONYMOUS_LIFETIME)


def log_in(db, username, password):
    """Log the visitor in. Returns True, or False for a wrong password or an unknown user. Raises Throttled.

    The old session ends, and what an anonymous visitor liked in it becomes the user's. The key is always a new one: an
    attacker may have planted the old one (session fixation; OWASP ASVS 5.0, 7.2.4).
    """
    if len(username) > database.MAX_USERNAME:
        return False  # nobody's, and not worth a row in failed_logins
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
    _switch_to((key, username, now + LOGIN_LIFETIME), LOGIN_LIFETIME)
    return True


def _throttle(db, username):
    """Raise Throttled if too many logins with this name, known or not, have failed of late (ASVS 6.3.1)."""
    now = clock()
    failed = database.get_failed_logins(db, username, now - THROTTLE_TIME)
    if len(failed) >= MAX_FAILED_LOGINS:
        raise Throttled(failed[0] + THROTTLE_TIME - now)


def log_out(db):
    """End the visitor's session, if any, and clear the cookie. Only an anonymous visitor's likes end with it."""
    key, _, _ = _current(db)
    if key:
        database.end_session(db, key)
        _switch_to(NOBODY, 0)


def forget(db):
    """Remove all that the visitor likes, then log out."""
    key, _, _ = _current(db)
    if key:
        with database.writing(db):
            database.forget_likes(db, key)
            database.end_session(db, key)
        _switch_to(NOBODY, 0)
