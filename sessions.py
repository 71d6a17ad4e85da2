"""Sessions: the cookie, and which session it stands for.

The cookie holds nothing but a random key: all that the site knows of a visitor is in the database, under that key.
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
clock = time.time  # a name of our own, so that a test can set the time


class Throttled(Exception):
    """Too many logins with one username have failed; args[0] is the time in seconds until the next may be tried."""


def new_session(db):
    """Make an anonymous session, send its cookie and return its key."""
    key = str(uuid.uuid4())
    database.add_session(db, key, None, clock(), UNUSED_LIFETIME)
    send_cookie(key, UNUSED_LIFETIME + ANONYMOUS_LIFETIME)  # at most; it is the server that ends the session
    return key


def get_session(db):
    """Return the key of the visitor's session; a new one is made if there is none."""
    return find_session(db) or new_session(db)


def find_session(db):
    """Return the key of the visitor's session, None if there is none."""
    # Not by request.get_cookie, which finds nothing once any program on the same host has set an odd cookie.
    for cookie in request.environ.get('HTTP_COOKIE', '').split(';'):
        name, _, key = cookie.replace('"', '').strip().partition('=')  # some clients quote the value
        if name != cookie_name():
            continue
        expires = database.get_expires(db, key)
        if expires is None:  # a made-up key, or that of a session which has been ended
            continue
        if expires <= clock():  # its time is over, whatever the browser does with its cookie
            continue
        return key
    return None


def keep_session(db, key):
    """Give the session `key`, if it is anonymous, its full lifetime: it is about to get its first like."""
    database.extend_session(db, key, clock() + ANONYMOUS_LIFETIME)


def log_in(db, username, password):
    """Log the visitor in. Returns True, or False for a wrong password or an unknown user. Raises Throttled.

    The old session ends, and what an anonymous visitor liked in it becomes the user's.
    """
    if len(username) > database.MAX_USERNAME:
        return False  # nobody's, and not worth a row in failed_logins
    with database.writing(db):
        now = clock()
        # Each try counts as failed until it succeeds: so of many guesses sent at once no more than five are answered.
        failed = database.add_failed_login(db, username, now, now - THROTTLE_TIME)
        if len(failed) > MAX_FAILED_LOGINS:  # OWASP ASVS 5.0, 6.3.1
            raise Throttled(failed[0] + THROTTLE_TIME - now)  # which undoes the transaction
    password_hash = database.check_password(db, username, password)
    with database.writing(db):
        if password_hash is None or password_hash != database.get_password_hash(db, username):
            return False  # wrong, or changed while it was checked
        database.renew_password_hash(db, username, password)
        database.remove_failed_logins(db, username)
        old_key = find_session(db)
        database.move_likes(db, old_key, username)
        database.end_session(db, old_key)
        # Always a new key: an attacker may have planted the old one (session fixation; OWASP ASVS 5.0, 7.2.4).
        key = str(uuid.uuid4())
        database.add_session(db, key, username, clock(), LOGIN_LIFETIME)
        send_cookie(key, LOGIN_LIFETIME)
    return True


def log_out(db):
    """End the visitor's session, if any, and clear the cookie. Only an anonymous visitor's likes end with it."""
    key = find_session(db)
    if key:
        database.end_session(db, key)
        send_cookie('', 0)


def forget(db):
    """Remove all that the visitor likes, and log out."""
    with database.writing(db):
        database.forget_likes(db, find_session(db))
        log_out(db)


def over_https():
    """Return whether the request came by https, to this server or to a proxy before it (X-Forwarded-Proto)."""
    return (request.environ.get('HTTP_X_FORWARDED_PROTO') or request.environ['wsgi.url_scheme']) == 'https'


def cookie_name():
    """Return the name of the cookie: over https with a prefix, so that no other subdomain can set it."""
    return f'__Host-{COOKIE_NAME}' if over_https() else COOKIE_NAME


def send_cookie(key, max_age):
    """Send the cookie, for `max_age` seconds. No script can read it, no other site's POST sends it along (ASVS 3.3)."""
    flags = {'path': '/', 'httponly': True, 'samesite': 'lax', 'secure': over_https()}
    response.set_cookie(cookie_name(), key, max_age=max_age, **flags)
