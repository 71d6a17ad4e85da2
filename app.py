"""The likes application: routes, forms, status codes, headers, pages, the server."""

import argparse
import logging
import math
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import bottle
from bottle import Bottle, HTTPError, request, response, static_file, template

import db as database  # `db` is the connection everywhere else
from db import COMP249Db, Pool, get_likes, get_user, store_like
from sessions import (
    Throttled,
    find_session,
    forget,
    get_session,
    keep_session,
    log_in,
    log_out,
    over_https,
)

MAX_LENGTH = 200  # characters in a thing to like
FOLDER = Path(__file__).parent  # the app may be started in any other
bottle.TEMPLATE_PATH.insert(0, str(FOLDER / 'views'))
bottle.SimpleTemplate.defaults = {  # for all templates
    'max_length': MAX_LENGTH,
    'max_username': database.MAX_USERNAME,
}

app = Bottle()
log = logging.getLogger('likes')

# ---------------------------------------------------------------------------
# Routes. DatabasePlugin, below, hands in `db` and `form`.
# ---------------------------------------------------------------------------


@app.route('/')
def index(db):
    """Home page."""
    key = get_session(db)
    info = {
        'title': 'Welcome Home!',
        'username': get_user(db, key),
        'likes': get_likes(db, key),
    }
    return template('dblikes.tpl', info)


@app.post('/likes')
def like(db, form):
    """Process the like form."""
    # A run of white space is one space, as the page shows it.
    thing = ' '.join(form.likes.split())
    if len(thing) > MAX_LENGTH:
        raise HTTPError(400, f'That is too long: at most {MAX_LENGTH} characters.')
    if re.search('[\x00-\x1f\x7f-\x9f]', thing):  # Unicode's category Cc
        raise HTTPError(400, 'That has invisible characters that cannot be saved.')
    with db:
        key = get_session(db)
        likes = get_likes(db, key)
        if thing and thing not in likes:
            if len(likes) >= database.MAX_LIKES:
                raise HTTPError(
                    409,
                    f'Your list is full: it has {database.MAX_LIKES:,} things. The '
                    'only way to make room is Forget Me, which deletes the whole list.',
                )
            if not likes:
                keep_session(db, key)
            store_like(db, key, thing)
    return redirect_home()


@app.post('/forget')
def forget_me(db, form):
    """Process the Forget Me form (the chapter's first exercise)."""
    with db:
        key, username = find_session(db)
        # The form says whose list its page showed; a request by curl need not.
        if 'username' in form and form.username != (username or ''):
            raise HTTPError(
                409,
                'Nothing was deleted: somebody has logged in or out since that page '
                'was opened, and it showed another list than yours is now.',
            )
        if key:
            forget(db, key)
            log.info(f'forget: {username!r}')
    return redirect_home()


@app.get('/login')
def login_page(db):
    """Login page."""
    _, username = find_session(db)
    if username:
        return redirect_home()
    return template('login.tpl', title='Log in', name='')


@app.post('/login', pool='logins')
def login(db, form):
    """Process the login form (the chapter's exercise on authenticated sessions)."""
    name = database.normal_name(form.username)
    try:
        if log_in(db, name, form.password):
            log.info(f'login: {name!r}')
            return redirect_home()
        wait = 0
    except Throttled as error:
        wait = math.ceil(error.wait)
        response.status = 429
        response.set_header('Retry-After', wait)
    log.info(f'login failed: {name[:100]!r}')
    # With no-store, Back to this page would ask whether to send the password again.
    response.set_header('Cache-Control', 'private, no-cache')
    return template('login.tpl', title='Log in', name=name, failed=True, wait=wait)


@app.post('/logout')
def logout(db, form):
    """Process the Log out button (the chapter's last exercise).

    A page that still shows it after a logout must not end an anonymous session.
    """
    with db:
        key, username = find_session(db)
        if username:
            log_out(db, key)
            log.info(f'logout: {username!r}')
    return redirect_home()


def redirect_home():
    """Send the visitor to the home page (Post/Redirect/Get)."""
    response.status = 303
    response.set_header('Location', '/')
    return 'Redirect to /'


@app.get('/static/<path:path>', skip=True)  # needs no database
def static(path):
    """Style sheet and icon. Whoever edits them sees it after a minute at most."""
    return static_file(path, FOLDER / 'static', headers={'Cache-Control': 'max-age=60'})


# ---------------------------------------------------------------------------
# What handlers are handed
# ---------------------------------------------------------------------------


class DatabasePlugin:
    """Hands each handler a connection, `db`, and for a POST the fields of its `form`.

    There are three connection pools in each process: who reads waits neither for those
    who write nor for those whose password is being checked.
    """

    def __init__(self):
        self.pools = {
            'GET': Pool(2),
            'POST': Pool(4),  # a write waits for the disk, not the processor
            'logins': Pool(1),
        }

    def apply(self, handler, route):
        """Return the handler with its parameters filled in."""
        pool = self.pools[route.config.get('pool', route.method)]

        def filled_in(**arguments):
            if route.method == 'POST':  # first: a slow browser holds no connection
                request.form = arguments['form'] = read_form()
            try:
                with pool.connection() as db:
                    if bottle.DEBUG:
                        db.set_trace_callback(log_sql)
                    return handler(db, **arguments)
            except database.Unavailable as error:
                log.error(f'{request.path!r}: {error}')
                raise HTTPError(503, retry_after=5) from None

        return filled_in


app.install(DatabasePlugin())


def read_form():
    """Return the fields of the form sent, as a FormsDict of str; an absent one is ''.

    Raises HTTPError 400, 411, 413 or 415.
    """
    if request.chunked:  # Bottle would read on without end
        raise HTTPError(411)
    kind = request.content_type
    if kind and not kind.startswith('application/x-www-form-urlencoded'):
        raise HTTPError(415)
    try:
        # forms.get() alone would give UTF-8 read as Latin-1, and never complain.
        form = request.forms.decode()
        is_whole = request.body.seek(0, os.SEEK_END) >= request.content_length
    except ValueError:  # not UTF-8; a length that is no number
        is_whole = False
    if not is_whole:
        raise HTTPError(400, 'The form could not be read. Please send it again.')
    return form


# ---------------------------------------------------------------------------
# What is checked before, and added after, each request
# ---------------------------------------------------------------------------


@app.hook('before_request')
def refuse_broken_paths():
    """Refuse a path that is not UTF-8.

    Bottle drops the odd bytes: /login%FF would be /login, past a proxy's limits. The
    path that was sent has a character for each byte.
    """
    sent = request.environ['bottle.raw_path']
    if len(sent) != len(request.environ['PATH_INFO'].encode()):
        raise HTTPError(404)


@app.hook('before_request')
def refuse_other_origins():
    """Refuse a form that a page of another site has sent (OWASP ASVS 5.0, 3.5.1).

    Against cross-site request forgery. Browsers say where a request comes from (Fetch
    Metadata; Origin, RFC 6454), so no tokens are needed. The rule is that of Go 1.25's
    net/http.
    """
    if request.method != 'POST':  # only POST changes likes, logins or accounts
        return
    environ = request.environ  # get_header() fails for bytes that are not UTF-8
    site = environ.get('HTTP_SEC_FETCH_SITE')
    origin = environ.get('HTTP_ORIGIN')
    if site in ('same-origin', 'none'):  # none: typed in, or a bookmark
        return
    if not site and not origin:  # not a browser
        return
    if not site and origin.partition('://')[2] == environ.get('HTTP_HOST'):
        return
    raise HTTPError(403, 'This form came from another site. Use the form on this one.')


@app.hook('after_request')
def add_headers():
    """Add the headers that keep other sites and scripts out (OWASP ASVS 5.0, 3.4)."""
    response.headers.update(SECURITY_HEADERS)
    # no-store: Back after a logout on a shared computer shows nothing.
    response.headers.setdefault('Cache-Control', 'no-store')
    if over_https():
        response.set_header('Strict-Transport-Security', 'max-age=31536000')  # a year


SECURITY_HEADERS = {
    'Content-Security-Policy': (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    'X-Content-Type-Options': 'nosniff',
    # no-referrer would make browsers send `Origin: null` with our own forms.
    'Referrer-Policy': 'same-origin',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
}


def error_page(error):
    """Return the page for an HTTPError. Its form holds what the visitor typed."""
    add_headers()  # after a bug in a handler, those of the hook are gone
    typed = getattr(request, 'form', {}).get('likes')
    info = {'title': 'That did not work', 'error': error, 'typed': typed}
    return template('error.tpl', info, debug=bottle.DEBUG)


app.default_error_handler = error_page

# ---------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------


def main():
    """Run the server until Ctrl-C, SIGTERM or SIGHUP (a closed terminal).

    What keeps it from starting is told in one line, with exit status 1.
    """
    args = parse_arguments()
    os.environ['LIKES_DB'] = str(args.db)  # for the workers
    try:
        COMP249Db().close()
        # Granian would share a port that another program has, without a word.
        family = socket.AF_INET6 if ':' in args.host else socket.AF_INET
        with socket.create_server((args.host, args.port), family=family) as probe:
            host, port = probe.getsockname()[:2]
    except (database.DatabaseError, OSError, OverflowError) as error:
        sys.exit(f'{error} ({args.host}:{args.port}, database {args.db})')
    # With --debug, Bottle's reloader runs this program again, and that one serves.
    if 'BOTTLE_CHILD' in os.environ or not args.debug:
        shown = f'[{host}]' if ':' in host else host
        print(f'Likes at http://{shown}:{port}/, database {args.db}', file=sys.stderr)
    if args.debug:
        serve_debug(host, port)
    else:
        serve(host, port, max(1, args.workers))


def parse_arguments():
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser()
    option = parser.add_argument
    option('--host', default='127.0.0.1', help='address to listen on (%(default)s)')
    option('--port', default=8080, type=int, help='0 for any free one (%(default)s)')
    option('--db', default=database.default_path())
    option('--workers', default=2, type=int, help='number of processes (%(default)s)')
    option('--debug', action='store_true', help='log each request; reload the code')
    return parser.parse_args()


def serve(host, port, workers):
    """Serve the app on Granian."""
    from granian import Granian  # not needed where another server runs app:app

    server = Granian(
        'app:app',
        address=host,
        port=port,
        interface='wsgi',
        http='1',
        workers=workers,
        blocking_threads=512,  # at most, in each worker; most wait for something
        backpressure=10_000,  # open connections; 512 could all be idle browsers
        respawn_failed_workers=True,
        workers_kill_timeout=6,  # seconds; a like waits five (db.MAX_WAIT)
        log_level='error',
    )
    if hasattr(signal, 'SIGHUP'):  # Granian would start its workers anew
        server.on_startup(
            lambda: signal.signal(signal.SIGHUP, server.signal_handler_interrupt)
        )
    try:
        server.serve(target_loader=load, wrap_loader=False)
    except Exception:  # a worker could not be started again
        log.exception('the server cannot go on')
        server.shutdown(1)
    COMP249Db().close()  # the last one moves the write-ahead log into the file


def load():
    """Return the app, for a worker process."""
    logging.basicConfig(level='INFO', format='%(asctime)s %(levelname)s %(message)s')
    if hasattr(signal, 'pthread_sigmask'):  # all get these; only the first is to act
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    threading.Thread(target=end_with_first_process, daemon=True).start()
    return app


def end_with_first_process():
    """End this worker once the first process has been killed, by an editor's Stop say.

    It would go on for ever, and keep the port.
    """
    multiprocessing.parent_process().join()
    os._exit(1)


def serve_debug(host, port):
    """Serve the app for whoever reads or edits the code; never on the internet.

    By waitress: Bottle's own server would answer nobody while a browser keeps a
    connection open that it may need later.
    """
    logging.basicConfig(level='DEBUG', format='%(message)s')
    bottle.DEBUG = True  # bottle.run(debug=True) would also show Python's warnings
    bottle.run(
        log_request,
        server='waitress',
        host=host,
        port=port,
        reloader=True,
        quiet=True,
    )


def log_request(environ, start_response):
    """Run the app (WSGI), and log each request: its cookie, its SQL, and the answer."""

    def start(status, headers, *error):
        log.debug(f'    {status}\n    Set-Cookie: {dict(headers).get("Set-Cookie")}\n')
        return start_response(status, headers, *error)

    log.debug(
        f'{environ["REQUEST_METHOD"]} {quote(environ["PATH_INFO"])}\n'
        f'    Cookie: {environ.get("HTTP_COOKIE")}'
    )
    return app(environ, start)


def log_sql(statement):
    """Log a statement that SQLite runs, with its values, on one line."""
    if not statement.startswith('PRAGMA'):
        log.debug(f'    {" ".join(statement.split())}')


if __name__ == '__main__':
    main()
