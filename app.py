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
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import GeneratorType
from unicodedata import category
from urllib.parse import quote

import bottle
from bottle import Bottle, HTTPError, request, response, static_file, template

import db as database  # `db` is the connection everywhere else
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

app = Bottle()
log = logging.getLogger('likes')
log.setLevel(logging.INFO)
# For a server that has set up no logging: Python would print warnings alone.
logging.lastResort.setLevel(logging.INFO)

# ---------------------------------------------------------------------------
# Routes. DatabasePlugin, below, hands in `db` and `form`.
# ---------------------------------------------------------------------------


@app.route('/')
def index(db):
    """Home page."""
    key = get_session(db)
    info = {
        'title': 'Welcome Home!',
        'username': database.get_user(db, key),
        'likes': database.get_likes(db, key),
    }
    return template('dblikes.tpl', info)


@app.post('/likes')
def like(db, form):
    """Process the like form."""
    thing = tidy(form.likes)
    if len(thing) > MAX_LENGTH:
        raise HTTPError(400, f'That is too long: at most {MAX_LENGTH} characters.')
    with db:  # one transaction: the blocks in functions that are called belong to it
        key = get_session(db)
        likes = database.get_likes(db, key)
        if thing and thing not in likes:
            if len(likes) >= database.MAX_LIKES:
                raise HTTPError(
                    409,
                    f'Your list is full: it has {database.MAX_LIKES:,} things. The '
                    'only way to make room is Forget Me, which deletes the whole list.',
                )
            if not likes:
                keep_session(db, key)
            database.store_like(db, key, thing)
    return redirect_home()


def tidy(text):
    """Return a text with one space for each run of white space or control characters.

    It has none at the ends, and is '' where nothing could be seen.
    """
    # \x00 to \x9f: Unicode's control characters, category Cc.
    text = re.sub(r'[\s\x00-\x1f\x7f-\x9f]+', ' ', text).strip()
    kinds = {category(character) for character in text}
    unseen = {'Zs', 'Cf'}  # spaces; format characters, as U+200B
    return '' if kinds <= unseen else text


@app.post('/forget')
def forget_me(db, form):
    """Process the Forget Me form (the chapter's first exercise)."""
    with db:
        key, username = find_session(db)
        # The form names the user whose list its page showed, '' for an anonymous
        # visitor. A request by curl may lack that field.
        owner = username or ''
        if form.get('username', owner) != owner:
            raise HTTPError(
                409,
                'This press deleted nothing: the login that its page showed has ended '
                'or changed. If you pressed twice, the first has deleted the list.',
            )
        if key:
            forget(db, key)
    if key:
        log.info(f'forget: {username!r}')
    return redirect_home()


@app.get('/login')
def login_page(db):
    """Login page."""
    _, username = find_session(db)
    if username:
        return redirect_home()
    return template('login.tpl', title='Log in', name='', failed=False)


@app.post('/login', logs_in=True)  # for DatabasePlugin: by a connection of its own
def login(db, form):
    """Process the login form (the chapter's exercise on authenticated sessions)."""
    name = database.normal_name(form.username)
    wait = 0  # seconds
    try:
        if log_in(db, name, form.password):
            log.info(f'login: {name!r}')
            return redirect_home()
        log.info(f'login failed: {name[:100]!r}')
    except Throttled as error:
        log.info(f'login throttled: {name[:100]!r}')
        wait = math.ceil(error.args[0])
        response.status = 429
        response.set_header('Retry-After', wait)
    info = {'title': 'Login failed', 'name': name, 'failed': True, 'wait': wait}
    return template('login.tpl', info)


@app.post('/logout')
def logout(db, form):
    """Process the Log out button (the chapter's last exercise).

    A page that still shows it after a logout must not end an anonymous session.
    """
    with db:
        key, username = find_session(db)
        if username:
            log_out(db, key)
    if username:
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
    headers = {'Cache-Control': 'max-age=60'}
    answer = static_file(path, FOLDER / 'static', headers=headers)
    if answer.status_code == 403:  # outside of the folder, or not readable
        raise HTTPError(404)
    return answer


# ---------------------------------------------------------------------------
# What handlers are handed
# ---------------------------------------------------------------------------


class DatabasePlugin:
    """Hands each handler a connection, `db`, and for a form its fields, `form`.

    A GET gets a connection that only reads. If that is not enough (a first visit makes
    a session), the handler runs again, with one that writes. There is one of these in
    each process: its requests queue for it, and not for SQLite's lock.
    """

    def __init__(self):
        self.reader = database.SharedConnection(writes=False)
        self.writer = database.SharedConnection(writes=True)
        # A login needs its own for the 20 ms that a password takes to check.
        self.login_writer = database.SharedConnection(writes=True)

    def open(self):
        """Open the connections, before the first request.

        Only one that is open notices that its file was replaced; a new one would read
        the new file with the log of the old one.
        """
        for connection in (self.reader, self.writer, self.login_writer):
            with suppress(database.Unavailable):
                connection.open()

    def apply(self, handler, route):
        """Return the handler with its parameters filled in."""
        writer = self.login_writer if 'logs_in' in route.config else self.writer

        def read(**arguments):
            deadline = monotonic() + database.MAX_WAIT
            try:
                return run(handler, arguments, self.reader, deadline)
            except database.WriteNeeded:
                log.debug('    This connection only reads. By the writer:')
            return run(handler, arguments, writer, deadline)

        def write(**arguments):
            form = read_form()  # first: a slow browser holds no connection
            request.typed = form.likes  # for an error page
            deadline = monotonic() + database.MAX_WAIT
            return run(handler, {**arguments, 'form': form}, writer, deadline)

        return read if route.method == 'GET' else write


def run(handler, arguments, connection, deadline):
    """Return what the handler returns. Raises WriteNeeded, HTTPError 503, TypeError."""
    try:
        with connection.lend(deadline) as db:
            if bottle.DEBUG:
                db.set_trace_callback(log_sql)
            answer = handler(db=db, **arguments)
    except database.Unavailable as error:
        log.error(f'{request.path!r}: {error}')
        raise HTTPError(503, retry_after=5) from None
    # A generator, of a handler with `yield`, would run when others have the connection.
    if answer is None or isinstance(answer, GeneratorType):
        raise TypeError(f'{handler.__name__}() returned {answer!r}: no `return`?')
    return answer


plugin = DatabasePlugin()
app.install(plugin)


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
        if request.body.seek(0, os.SEEK_END) < request.content_length:
            raise ValueError('cut off')
    except ValueError:  # or not UTF-8; or a length that is no number
        told = 'The form could not be read. Please send it again.'
        raise HTTPError(400, told) from None
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
    if request.method in ('GET', 'HEAD'):  # at most they make a new session
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


# What is told where Bottle itself, or a bug, has raised the error.
ERRORS = {
    404: 'There is no such page here.',
    405: 'This is no page to open by its address: a form of this site is sent to it.',
    411: 'The form came without its length (Content-Length).',
    413: 'That is far too much: a form has at most 100 KB.',
    415: 'A form is expected as application/x-www-form-urlencoded.',
    416: 'The file has no such part.',
    500: 'This is an error of the site, not of yours. It has been logged.',
    503: 'Nothing can be read or stored just now. Please try again in a few seconds.',
}


def error_page(error):
    """Return the page for an HTTPError. It holds what the visitor typed."""
    add_headers()  # after a bug in a handler, those of the hook are gone
    info = {
        'title': 'That did not work',
        'problem': ERRORS.get(error.status_code, error.body),
        'typed': getattr(request, 'typed', None),
        'error': error,
    }
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
        database.COMP249Db().close()
        # Granian would share a port that another program has, without a word.
        family = socket.AF_INET6 if ':' in args.host else socket.AF_INET
        with socket.create_server((args.host, args.port), family=family) as probe:
            host, port = probe.getsockname()[:2]
    except (database.DatabaseError, OSError, OverflowError) as error:
        sys.exit(f'{error} ({args.host}:{args.port}, database {args.db})')
    if args.debug:
        import hupper  # not needed elsewhere

        # Runs serve_debug() in a process of its own, again after each edit.
        hupper.start_reloader('app.serve_debug', worker_args=(host, port))
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


def announce(host, port):
    """Tell where the server listens, and where the database is."""
    shown = f'[{host}]' if ':' in host else host
    path = database.default_path()
    print(f'Likes at http://{shown}:{port}/, database {path}', file=sys.stderr)


def serve(host, port, workers):
    """Serve the app on Granian."""
    from granian import Granian  # not needed where another server runs app:app

    announce(host, port)
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
        workers_kill_timeout=database.MAX_WAIT + 1,  # seconds; a like may wait so long
        log_level='error',
    )
    stop_by_signals(server)
    try:
        server.serve(target_loader=load, wrap_loader=False)
    except Exception:  # a worker could not be started again
        log.exception('the server cannot go on')
        server.shutdown(1)
    with suppress(database.DatabaseError, OSError):  # by now it may be no database
        # The last connection that closes moves the write-ahead log into the file.
        database.COMP249Db().close()


def stop_by_signals(server):
    """Let each of these signals stop the server, once; SIGHUP not under nohup.

    By Granian's own handlers SIGHUP starts its workers anew, and a second Ctrl-C may
    meet the first in a lock that it holds.
    """
    names = ('SIGINT', 'SIGTERM', 'SIGHUP')  # Windows lacks the last
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    found = {one: signal.getsignal(one) for one in signals}

    def set_all(handler):
        for one, before in found.items():
            signal.signal(one, before if before == signal.SIG_IGN else handler)

    def stop(*_):
        set_all(signal.SIG_IGN)
        server.signal_handler_interrupt()

    server.on_startup(lambda: set_all(stop))


def load():
    """Return the app, for a worker process."""
    logging.basicConfig(format='%(asctime)s %(levelname)s %(message)s')
    if hasattr(signal, 'pthread_sigmask'):  # the first process gets these too, and acts
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    threading.Thread(target=end_with_first_process, daemon=True).start()
    plugin.open()
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
    import waitress

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # as Ctrl-C: with status 0
    log.setLevel(logging.DEBUG)
    logging.basicConfig(format='%(message)s')
    bottle.DEBUG = True
    database.RETRY_PAUSE = 1  # second: each try is a line on the terminal
    plugin.open()
    announce(host, port)
    waitress.serve(log_request, host=host, port=port)


def log_request(environ, start_response):
    """Run the app (WSGI), and log each request: its cookie, its SQL, and the answer."""

    def start(status, headers, *error):
        log.debug(f'    {status}\n    Set-Cookie: {dict(headers).get("Set-Cookie")}\n')
        return start_response(status, headers, *error)

    path = quote(environ['PATH_INFO'], encoding='latin-1')  # as WSGI has bytes
    log.debug(
        f'{environ["REQUEST_METHOD"]} {path}\n    Cookie: {environ.get("HTTP_COOKIE")}'
    )
    return app(environ, start)


def log_sql(statement):
    """Log a statement that SQLite runs, with its values, on one line."""
    if not statement.startswith('PRAGMA'):
        log.debug(f'    {" ".join(statement.split())}')


if __name__ == '__main__':
    main()
