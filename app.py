"""The likes application: routes, forms, status codes, headers, pages, and how the server starts (`python app.py`)."""

import argparse
import inspect
import logging
import math
import os
import signal
import socket
import sys
import threading
import traceback
import unicodedata
from contextlib import suppress
from pathlib import Path

import bottle
from bottle import Bottle, HTTPError, HTTPResponse, request, response, static_file, template

from db import COMP249Db, DatabaseError, ListFull, OperationalError, check_file, default_path, get_likes, store_like
from sessions import Throttled, forget, get_session, get_user, keep_session, log_in, log_out, new_session, over_https

HERE = Path(__file__).resolve().parent  # the app may be started in any folder
STATIC = str(HERE / 'static')
VIEWS = [str(HERE / 'views')]

MAX_LIKE = 200  # characters
THREADS = 2  # in each worker
YEAR = 365 * 24 * 60 * 60  # seconds

SECURITY_HEADERS = [  # OWASP ASVS 5.0, 3.4
    (
        'Content-Security-Policy',
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ('X-Content-Type-Options', 'nosniff'),
    ('Referrer-Policy', 'same-origin'),  # no-referrer would make browsers send `Origin: null` with our own forms
    ('Cross-Origin-Opener-Policy', 'same-origin'),
    ('Cross-Origin-Resource-Policy', 'same-origin'),
]
HTTPS_HEADERS = [*SECURITY_HEADERS, ('Strict-Transport-Security', f'max-age={YEAR}')]

ERRORS = {  # what the page says; for other statuses, what the code that raised the error says
    404: 'There is nothing at this address.',
    405: 'This address does not take that kind of request.',
    500: 'Something broke on this side. It has been written down; nothing that you stored is lost.',
    503: 'The lists cannot be reached just now. Nothing is lost; please try again in a few seconds.',
}

logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')  # to standard error
log = logging.getLogger('likes')


class LikesApp(Bottle):
    """Bottle, with the security headers on every response and a page of the site for every error."""

    def wsgi(self, environ, start_response):
        """Answer one request (PEP 3333)."""

        # Not in an after_request hook: what that sets is gone when a handler fails.
        def start(status, headers, exc_info=None):
            headers += HTTPS_HEADERS if over_https(environ) else SECURITY_HEADERS
            return start_response(status, headers, exc_info)

        return super().wsgi(environ, start)

    def default_error_handler(self, error):
        """Return the page for an HTTPError."""
        username = None
        with suppress(DatabaseError):  # may be what the page is about
            if error.status_code != 503 or hasattr(plugin.local, 'db'):  # else it would be waited for once more
                username = get_user(plugin.connection())
        text = ERRORS.get(error.status_code, error.body)
        info = {'text': text, 'status': error.status_line, 'traceback': bottle.DEBUG and error.traceback}
        return page('error.tpl', username, title='That did not work', **info)


class Closer:
    """Closes a connection when the thread ends that keeps this object.

    Python alone would close it when the garbage collector comes by: sqlite3 makes each connection part of a cycle.
    """

    def __init__(self, db):
        self.close = db.close

    def __del__(self):
        """Close it."""
        self.close()


class DatabasePlugin:
    """Hands a connection to the database to each handler that takes a `db`.

    Every thread keeps one open: to open and configure it takes longer than all the rest of a request.
    """

    api = 2
    local = threading.local()

    def connection(self):
        """Return the connection of this thread."""
        if not hasattr(self.local, 'db'):
            self.local.db = COMP249Db()
            self.local.closer = Closer(self.local.db)
        return self.local.db

    def apply(self, callback, route):
        """Return the handler with its `db` filled in and its failures logged (Bottle's plugin interface)."""
        if 'db' not in inspect.signature(callback).parameters:
            return callback

        def handler(**args):
            try:
                return callback(self.connection(), **args)
            except HTTPResponse:
                raise  # an answer, not a failure: an HTTPError is one
            except OperationalError as error:  # locked, disk full, read-only: it may pass
                log.error('%s %r: %s', request.method, request.path, error)
                raise HTTPError(503, retry_after=5) from None
            except Exception as error:
                log.exception('%s %r', request.method, request.path)
                raise HTTPError(500, None, error, traceback.format_exc()) from None

        return handler


app = LikesApp()
plugin = app.install(DatabasePlugin())


@app.hook('before_request')
def refuse_other_origins():
    """Refuse a form that a page of another site has sent (cross-site request forgery), as Go 1.25's net/http does.

    Browsers say where a request comes from (Fetch Metadata, RFC 6454); what says nothing is no browser, and holds no
    visitor's cookie. So no tokens are needed (OWASP ASVS 5.0, 3.5.1).
    """
    environ = request.environ
    if environ['REQUEST_METHOD'] in ('GET', 'HEAD', 'OPTIONS'):
        return
    site = environ.get('HTTP_SEC_FETCH_SITE')
    origin = environ.get('HTTP_ORIGIN')
    if site:
        allowed = site in ('same-origin', 'none')
    else:
        allowed = not origin or origin.partition('://')[2] == environ.get('HTTP_HOST')
    if not allowed:
        raise HTTPError(403, 'This form was sent from another site. Use the form on this one.')


def page(view, username, **info):
    """Return the page with the view in the layout. `username` is who is logged in, or None."""
    response.set_header('Cache-Control', 'no-store')  # so that Back after a logout shows nothing
    return template('layout.tpl', info, view=view, username=username, asset=asset, template_lookup=VIEWS)


def asset(name):
    """Return the URL of a static file. It changes with the file, so that browsers may keep what they have for good."""
    return f'/static/{name}?{os.stat(f"{STATIC}/{name}").st_mtime_ns:x}'


def redirect():
    """Send the visitor to the home page, by GET."""
    response.status = 303
    response.set_header('Location', '/')
    return 'Redirect to /'


def form():
    """Return the fields of the form that was sent, decoded, as attributes ('' for an absent one).

    Raises HTTPError 400, 411, 413.
    """
    if request.chunked:  # Bottle would read on without end
        raise HTTPError(411, 'A form must say how long it is. Go back and send it again.')
    try:
        if request.content_length > request.MEMFILE_MAX:
            raise HTTPError(413, 'That is more than this site takes at once. Go back and send less.')
        if request.body.seek(0, os.SEEK_END) < request.content_length:
            raise HTTPError(400, 'Only a part of the form arrived. Go back and send it again.')
        # No page sends multipart, where any field may name a charset: some take seconds to decode, and unknown names
        # stay in Python's memory for good. The type may stand in quotes.
        if 'multipart/' in request.content_type:
            raise ValueError
        return request.forms.decode()  # forms.get() alone gives UTF-8 read as Latin-1, and never complains
    except ValueError:
        raise HTTPError(400, 'The form could not be read. Go back and send it again.') from None


@app.route('/')
def index(db):
    """Home page. DatabasePlugin hands in `db`, here and below."""
    key = get_session(db)
    return page('dblikes.tpl', get_user(db), title='Welcome Home!', likes=get_likes(db, key), max_like=MAX_LIKE)


@app.post('/likes')
def like(db):
    """Process the like form."""
    likes = ' '.join(form().likes.split())  # a run of white space is one space, as the page shows it
    # Checked before get_session: an error page sends no cookie, so a new session would be lost.
    if len(likes) > MAX_LIKE:
        raise HTTPError(400, f'That is too long: a thing to like has at most {MAX_LIKE} characters.')
    if any(unicodedata.category(character) == 'Cc' for character in likes):
        raise HTTPError(400, 'That has control characters in it, which no page can show.')
    key = get_session(db)
    try:
        if likes:
            keep_session(db)
            while not store_like(db, key, likes):  # the session has ended since get_session
                key = new_session(db)
                keep_session(db)
    except ListFull:
        raise HTTPError(409, 'Your list is full. Forget Me, on the home page, empties it.') from None
    return redirect()


@app.post('/forget')
def forget_me(db):
    """Process the Forget Me button (the chapter's first exercise)."""
    username = get_user(db)
    forget(db)
    log.info('forget: %r', username)
    return redirect()


@app.get('/login')
def login_page(db):
    """Login page."""
    return redirect() if get_user(db) else page('login.tpl', None, title='Log in', name='', problem='')


@app.post('/login')
def login(db):
    """Process the login form."""
    fields = form()
    name = fields.username.strip()
    try:
        if log_in(db, name, fields.password):
            log.info('login: %r', name)
            return redirect()
        problem = 'Login failed, please try again'
    except Throttled as error:
        wait = math.ceil(error.args[0])
        problem = f'Too many logins with this name have failed. Try again in {math.ceil(wait / 60)} min.'
        response.status = 429
        response.set_header('Retry-After', str(wait))
    log.info('login failed: %r', name[:100])
    return page('login.tpl', get_user(db), title='Log in', name=name, problem=problem)


@app.post('/logout')
def logout(db):
    """Process the Log out button."""
    username = get_user(db)
    log_out(db)
    log.info('logout: %r', username)
    return redirect()


@app.get('/static/<path:path>')
def static(path):
    """Style sheet and icon."""
    # A link made by asset() stands for one version of the file.
    cache = f'public, max-age={YEAR}, immutable' if request.query_string else 'no-cache'
    return static_file(path, STATIC, headers={'Cache-Control': cache})


def load():
    """Return the app, for a worker process."""
    if hasattr(signal, 'pthread_sigmask'):  # Ctrl-C and a closed terminal reach all processes; the first is to act
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    return app


def free_address(host, port):
    """Return the numeric (host, port) to listen on, any free port for 0. Raises OSError if it is taken or not ours."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.create_server(address, family=family) as server:
        return server.getsockname()[:2]


def main():
    """Run the server until Ctrl-C or SIGTERM. What keeps it from starting is said in one line, with exit status 1."""
    parser = argparse.ArgumentParser(description='Serve the likes app.')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: %(default)s)')
    parser.add_argument('--port', default=8080, type=int, help='0 for any free one (default: %(default)s)')
    parser.add_argument('--db', metavar='PATH', help='default: $LIKES_DB, else likes.db beside this file')
    parser.add_argument('--workers', default=2, type=int, help='processes (default: %(default)s)')
    parser.add_argument('--debug', action='store_true', help='reload changed code, show tracebacks in the page')
    args = parser.parse_args()
    if args.workers < 1 or not 0 <= args.port <= 65535:
        sys.exit('app.py: --workers must be at least 1, and --port from 0 to 65535')
    if args.db:
        os.environ['LIKES_DB'] = args.db
    try:
        check_file(default_path())
        COMP249Db().close()
    except DatabaseError as error:
        sys.exit(f'{default_path()}: {error}')
    try:
        host, port = free_address(args.host, args.port)  # Granian would share a taken port in silence
    except (OSError, UnicodeError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        sys.exit(f'{args.host}:{args.port}: {reason.partition(" (while")[0]}')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # until the server takes over
    if args.debug:
        sys.argv.append(f'--port={port}')  # for the process that Bottle's reloader starts
    if sys.stdout:
        sys.stdout.reconfigure(errors='replace')  # one that cannot show the name of the file still shows the rest
    print(f'Likes at http://{f"[{host}]" if ":" in host else host}:{port}/, database {default_path()}', flush=True)
    if args.debug:
        app.run(host=host, port=port, debug=True, reloader=True)
        return
    serve(load, host, port, args.workers)


def serve(load, host, port, workers):
    """Serve the WSGI app that `load` returns in each worker, until Ctrl-C or SIGTERM."""
    from granian import Granian  # not needed where another server runs app:app

    if hasattr(os, 'register_at_fork'):  # a worker that starts has the first process's handler, which does not end it
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    server = Granian(
        'app:app',
        address=host,
        port=port,
        interface='wsgi',
        http='1',
        workers=workers,
        blocking_threads=THREADS,
        backpressure=10_000,  # open connections; with Granian's 512, as many idle browsers would keep out all others
        respawn_failed_workers=True,
        workers_kill_timeout=10,  # seconds; longer than a request waits for the database
        log_level='warning',
    )
    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
        signals.append(signal.SIGHUP)  # a closed terminal ends the server; Granian would start its workers anew

    def stop(*_):
        for number in signals:  # Granian's handler waits for itself for ever if a second signal comes while it runs
            signal.signal(number, signal.SIG_IGN)
        server.signal_handler_interrupt()

    server.on_startup(lambda: [signal.signal(number, stop) for number in signals])
    server.serve(target_loader=load, wrap_loader=False)


if __name__ == '__main__':
    main()
