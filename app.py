"""The likes application: routes, forms, status codes, headers, pages, and how the server starts (`python app.py`)."""

import argparse
import inspect
import logging
import math
import os
import queue
import signal
import socket
import sys
import unicodedata
from pathlib import Path

import bottle
from bottle import Bottle, HTTPError, request, response, static_file, template

import db as database  # `db` is the connection everywhere else
from db import COMP249Db, default_path, get_likes, get_user, store_like, writing
from sessions import Throttled, find_session, forget, get_session, keep_session, log_in, log_out, over_https

MAX_LIKE = 200  # characters
STATIC = Path(__file__).resolve().with_name('static')  # the app may be started in any folder
VIEWS = [str(STATIC.with_name('views'))]  # one list for all calls: Bottle keeps compiled templates by its id

app = Bottle()
logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')  # to standard error
log = logging.getLogger('likes')


@app.route('/')
def index(db):
    """Home page. DatabasePlugin hands in `db` and `form`, here and below."""
    key = get_session(db)
    return page('dblikes.tpl', title='Welcome Home!', username=get_user(db, key), likes=get_likes(db, key))


@app.post('/likes')
def like(db, form):
    """Process the like form."""
    thing = ' '.join(form.likes.split())  # a run of white space is one space, as the page shows it
    if len(thing) > MAX_LIKE:
        raise HTTPError(400, f'That is too long: a thing to like has at most {MAX_LIKE} characters.')
    if any(unicodedata.category(character) == 'Cc' for character in thing):
        raise HTTPError(400, 'That has control characters in it, which no page can show.')
    with writing(db):
        key = get_session(db)
        likes = get_likes(db, key)
        if thing and thing not in likes:
            if len(likes) >= database.MAX_LIKES:
                raise HTTPError(409, 'Your list is full. Forget Me, on the home page, empties it.')
            if not likes:
                keep_session(db, key)
            store_like(db, key, thing)
    return redirect()


@app.post('/forget')
def forget_me(db, form):
    """Process the Forget Me form (the chapter's first exercise)."""
    with writing(db):
        username = get_user(db, find_session(db))
        if 'username' in form and form.username != (username or ''):  # the page showed another list than this
            problem = 'Nothing was deleted: your session has changed since that page was opened. Please try again.'
            return page('login.tpl', title='Log in', username=username, name='', problem=problem)
        forget(db)
    log.info('forget: %r', username)
    return redirect()


@app.get('/login')
def login_page(db):
    """Login page."""
    user = get_user(db, find_session(db))
    return redirect() if user else page('login.tpl', title='Log in', username=None, name='', problem='')


@app.post('/login', pool='logins')
def login(db, form):
    """Process the login form (the chapter's exercise on authenticated sessions)."""
    name = database.normal_name(form.username)
    try:
        if log_in(db, name, form.password):
            log.info('login: %r', name)
            return redirect()
        problem = 'Login failed, please try again'
    except Throttled as error:
        wait = math.ceil(error.args[0])
        problem = f'Too many logins with this name have failed. Try again in {math.ceil(wait / 60)} min.'
        response.status = 429
        response.set_header('Retry-After', str(wait))
    log.info('login failed: %r', name[: database.MAX_USERNAME])
    return page('login.tpl', title='Log in', username=get_user(db, find_session(db)), name=name, problem=problem)


@app.post('/logout')
def logout(db):
    """Process the Log out button (the chapter's last exercise)."""
    username = get_user(db, find_session(db))
    log_out(db)
    log.info('logout: %r', username)
    return redirect()


@app.get('/static/<path:path>')
def static(path):
    """Style sheet and icon. Whoever edits them sees it after a minute at most."""
    return static_file(path, STATIC, headers={'Cache-Control': 'max-age=60'})


class DatabasePlugin:
    """Hands each handler that has a parameter `db` a connection, and the fields of the form if it has a `form`, too.

    Connections come from a pool. Logins have one of their own, as they keep theirs while a password is checked.
    """

    api = 2

    def __init__(self):
        self.pools = {'pages': queue.SimpleQueue(), 'logins': queue.SimpleQueue()}
        for name in ('pages', 'pages', 'logins', 'logins'):
            self.pools[name].put(None)  # a connection to be, opened when first needed and then kept

    def apply(self, handler, route):
        """Return the handler with its parameters filled in."""
        parameters = inspect.signature(handler).parameters
        pool = self.pools[route.config.get('pool', 'pages')]

        def filled_in(**fields):
            if 'form' in parameters:
                fields['form'] = read_form()  # first: whoever sends it slowly holds no connection
            db = pool.get()
            try:
                db = db or COMP249Db()
                return handler(db=db, **fields)
            except (database.OperationalError, OSError) as error:  # locked, disk full, read-only: it may pass
                log.error('%s %r: %s', request.method, request.path, error, exc_info=bottle.DEBUG)
                db = db and db.close()  # close() returns None: the next request opens the file anew
                raise HTTPError(503, retry_after=5) from None
            finally:
                pool.put(db)

        return filled_in if 'db' in parameters else handler


app.install(DatabasePlugin())


def read_form():
    """Return the fields of the form sent, decoded, '' for an absent one. Raises HTTPError 400, 411, 413."""
    if request.chunked:  # Bottle would read on without end
        raise HTTPError(411, 'The form came without a Content-Length.')
    try:
        if request.content_type and not request.content_type.startswith('application/x-www-form-urlencoded'):
            raise ValueError  # a multipart form may name a charset that is slow to decode
        form = request.forms.decode()  # forms.get() alone gives UTF-8 read as Latin-1, and never complains
        if request.body.seek(0, os.SEEK_END) < request.content_length:
            raise ValueError  # cut off on the way
    except ValueError:
        raise HTTPError(400, 'The form could not be read. Go back and send it again.') from None
    return form


def page(view, **info):
    """Return the page with the view in the layout. `username` is who is logged in, or None."""
    limits = {'max_like': MAX_LIKE, 'max_username': database.MAX_USERNAME}
    return template('layout.tpl', info, limits, view=view, template_lookup=VIEWS)


def redirect():
    """Send the visitor to the home page (Post/Redirect/Get)."""
    response.status = 303
    response.set_header('Location', '/')
    return 'Redirect to /'


@app.hook('before_request')
def refuse_other_origins():
    """Refuse a form that a page of another site has sent (cross-site request forgery; OWASP ASVS 5.0, 3.5.1).

    Browsers say where a request comes from (Fetch Metadata, RFC 6454), so no tokens are needed, as in Go 1.25's
    net/http. A request with neither header does not come from a browser.
    """
    site, origin = request.environ.get('HTTP_SEC_FETCH_SITE'), request.environ.get('HTTP_ORIGIN')
    if request.method in ('GET', 'HEAD', 'OPTIONS'):
        allowed = True
    elif site:
        allowed = site in ('same-origin', 'none')  # 'none': typed in, or a bookmark
    else:
        allowed = not origin or origin.partition('://')[2] == request.environ.get('HTTP_HOST')
    if not allowed:
        raise HTTPError(403, 'This form was sent from another site. Use the form on this one.')


@app.hook('after_request')
def add_headers():
    """Add the headers that keep other sites and scripts out of the pages (OWASP ASVS 5.0, 3.4)."""
    response.headers.update(SECURITY_HEADERS)
    response.headers.setdefault('Cache-Control', 'no-store')  # so that Back after a logout shows nothing
    if over_https():
        response.set_header('Strict-Transport-Security', 'max-age=31536000')  # a year


SECURITY_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',  # no-referrer would make browsers send `Origin: null` with our own forms
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
}


def error_page(error):
    """Return the page for an HTTPError."""
    add_headers()  # after a bug in a handler, those of the hook are gone
    text = ERRORS.get(error.status_code, error.body)
    return page('error.tpl', title='That did not work', username=None, text=text, error=error, debug=bottle.DEBUG)


ERRORS = {  # for other statuses, what the code that raised the error says
    503: 'The lists cannot be reached just now. Nothing was changed; please try again in a few seconds.',
    500: 'This is an error of the site, not of yours. It has been logged.',
}
app.default_error_handler = error_page


def main():
    """Run the server. What keeps it from starting is told in one line, with exit status 1 (wrong arguments: 2)."""
    parser = argparse.ArgumentParser(description='Serve the likes app.')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: %(default)s)')
    parser.add_argument('--port', default=8080, type=int, help='0 for any free one (default: %(default)s)')
    parser.add_argument('--db', default=default_path(), metavar='PATH', help='default: $LIKES_DB, or beside app.py')
    parser.add_argument('--workers', default=2, type=int, choices=range(1, 33), metavar='N', help='processes (2)')
    parser.add_argument('--debug', action='store_true', help='reload changed code, show tracebacks in the page')
    args = parser.parse_args()
    os.environ['LIKES_DB'] = str(args.db)  # for the workers
    try:
        COMP249Db().close()
    except (database.DatabaseError, OSError) as error:
        sys.exit(f'{args.db}: {error}')
    try:
        family = socket.AF_INET6 if ':' in args.host else socket.AF_INET
        with socket.create_server((args.host, args.port), family=family) as server:  # Granian would share a taken port
            host, port = server.getsockname()[:2]
    except (OSError, OverflowError) as error:
        sys.exit(f'{args.host}:{args.port}: {error}')
    if args.debug:
        app.run(host=host, port=port, debug=True, reloader=True)  # says itself where it listens
    else:
        print(f'Likes at http://{host}:{port}/, database {args.db}', flush=True)
        serve(host, port, args.workers)


def serve(host, port, workers):
    """Serve the app on Granian until Ctrl-C, SIGTERM or SIGHUP (a closed terminal)."""
    from granian import Granian  # not needed where another server runs app:app

    server = Granian(
        'app:app',
        address=host,
        port=port,
        interface='wsgi',
        http='1',
        workers=workers,
        blocking_threads=64,  # in each worker; most wait for a connection, or for a form to arrive
        backpressure=10_000,  # open connections; Granian's 512 could all be idle browsers
        respawn_failed_workers=True,
        workers_kill_timeout=10,  # seconds; SQLite waits five for another program
        log_level='error',
    )
    if hasattr(signal, 'SIGHUP'):  # Granian would start its workers anew
        server.on_startup(lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt))
    try:
        server.serve(target_loader=load, wrap_loader=False)
    except Exception:  # a worker could not be started again
        log.exception('the server cannot go on')
        server.shutdown(1)
    COMP249Db().close()  # the last connection: its close moves what the write-ahead log holds into the file


def load():
    """Return the app, for a worker process."""
    if hasattr(signal, 'pthread_sigmask'):  # these reach all processes, but only the first is to act
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    return app


if __name__ == '__main__':
    main()
