"""The likes application: routes, forms, status codes, headers, pages, the server.

The way of a request:

1. The server calls `app` (WSGI), in a thread of one of its processes.
2. Hooks refuse odd paths, and forms of other sites.
3. `DatabasePlugin` reads the form, and waits for a connection to the database.
4. A page (GET) is made with a connection that only reads. A form is one transaction,
   begun before its handler runs: committed when that has returned, rolled back when it
   has raised an error. Where a page has to write (a first visit), its handler runs a
   second time, in a transaction like a form's.
5. Whoever has written waits until the disk has it.
6. A hook adds headers, and the server sends the answer.
"""

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
from collections import deque
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from unicodedata import category
from urllib.parse import quote
from wsgiref.headers import Headers

import bottle
from bottle import (
    Bottle,
    HTTPError,
    HTTPResponse,
    request,
    response,
    static_file,
    template,
)

import db as database  # `db` is the connection everywhere else
from sessions import (
    COOKIE_NAME,
    Throttled,
    find_session,
    get_session,
    log_in,
    log_out,
    new_session,
    over_https,
    prolong_session,
)

MAX_LENGTH = 200  # characters in a thing to like
FOLDER = Path(__file__).parent  # the app may be started in any other
bottle.TEMPLATE_PATH.insert(0, str(FOLDER / 'views'))

app = Bottle()
log = logging.getLogger('likes')
log.setLevel(logging.INFO)

# ---------------------------------------------------------------------------
# Routes. DatabasePlugin, below, hands each handler `db`, and that of a form `form`.
# ---------------------------------------------------------------------------


# With `template=` Bottle makes the page from what `index` returns, when the transaction
# of a first visit is over. A first visit runs `index` twice (DatabasePlugin).
@app.route('/', template='dblikes.tpl')
def index(db):
    """Home page."""
    key = get_session(db)  # just the key, as in the chapter
    return {
        'title': 'Welcome Home!',
        'username': database.get_user(db, key),
        'likes': database.get_likes(db, key),
    }


@app.post('/likes')
def like(db, form):
    """Process the like form."""
    thing = tidy(form.likes)
    if len(thing) > MAX_LENGTH:
        raise HTTPError(
            400, f'It has {len(thing):,} characters; at most {MAX_LENGTH} fit.'
        )
    key, username = find_session(db)
    if is_for_another_list(form, username):
        return ask_for_which_list(thing, username)
    if not key:
        key = new_session(db)
    if thing:
        likes = database.get_likes(db, key)
        if len(likes) >= database.MAX_LIKES and thing not in likes:
            raise HTTPError(
                409,
                f'Your list is full: it has {database.MAX_LIKES:,} things. The only '
                'way to make room is Forget Me, which deletes the whole list.',
            )
        database.store_like(db, key, thing)
        prolong_session(db, key)
    return redirect_home()


def tidy(text):
    """Return a text with one space for each run of white space or control characters.

    It has none at the ends, and is '' where nothing could be seen.
    """
    # \x00-\x1f and \x7f-\x9f are Unicode's control characters.
    text = re.sub(r'[\s\x00-\x1f\x7f-\x9f]+', ' ', text).strip()
    kinds = {category(character) for character in text}
    unseen = {'Zs', 'Cf'}  # spaces; format characters, as U+200B
    return '' if kinds <= unseen else text  # <=: is a subset


def is_for_another_list(form, username):
    """Return whether a form's page showed another list than the visitor has now.

    A login may have ended since, or begun in another tab. The form names the list's
    owner, '' for an anonymous visitor; a request by curl may lack that field.
    """
    return 'owner' in form and form.owner != (username or '')


def ask_for_which_list(thing, username):
    """Return a page that keeps what was typed, to be sent again for today's list."""
    response.status = 409
    info = {'title': 'Not stored yet', 'username': username, 'typed': thing}
    return template('otherlist.tpl', info)


@app.post('/forget')
def forget_me(db, form):
    """Process the Forget Me form (the chapter's first exercise)."""
    key, username = find_session(db)
    if is_for_another_list(form, username):
        raise HTTPError(
            409,
            'This press deleted nothing: the login that its page showed has ended '
            'or changed. If you pressed twice, the first has deleted the list.',
        )
    if key:
        database.delete_likes(db, key)
        log_out(db, key)
        log.info(f'forget: {username!r}')
    return redirect_home()


@app.get('/login')
def login_page(db):
    """Login page."""
    _, username = find_session(db)
    if username:
        return redirect_home()
    return template('login.tpl', title='Log in', name='', failed=False)


# autocommit: in no transaction, as checking a password takes 20 ms, and nobody could
# write meanwhile. log_in() begins its own.
@app.post('/login', autocommit=True)
def login(db, form):
    """Process the login form (the chapter's exercise on authenticated sessions)."""
    name = database.normalize_username(form.username)
    wait = 0  # seconds
    try:
        if log_in(db, name, form.password):
            log.info(f'login: {name!r}')  # !r: no name can fake a line of the log
            return redirect_home()
        log.info(f'login failed: {name[:100]!r}')
    except Throttled as error:
        log.info(f'login throttled: {name[:100]!r}')
        wait = math.ceil(error.retry_after)
        response.status = 429
        response.set_header('Retry-After', wait)
    info = {'title': 'Login failed', 'name': name, 'failed': True, 'wait': wait}
    return template('login.tpl', info)


@app.post('/logout')
def logout(db, form):
    """Process the Log out button (the chapter's last exercise).

    A page that still shows it after a logout must not end an anonymous session.
    """
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
    headers = {'Cache-Control': 'max-age=60'}
    answer = static_file(path, FOLDER / 'static', headers=headers)
    if answer.status_code == 403:  # outside of the folder, or not readable
        raise HTTPError(404)
    return answer


# ---------------------------------------------------------------------------
# What handlers are handed
# ---------------------------------------------------------------------------


class DatabasePlugin:
    """Hands each handler a connection, `db`, and that of a form its fields, `form`.

    Each process has three connections, at which its requests take turns.
    """

    def __init__(self):
        self.reader = database.Reader()
        self.writer = database.Writer()
        # Of its own, so that nobody waits for the password of another to be checked.
        self.login_writer = database.Writer(autocommit=True)

    def open(self):
        """Open the connections, before the first request."""
        for connection in (self.reader, self.writer, self.login_writer):
            with suppress(database.Unavailable):
                connection.open()

    def apply(self, handler, route):
        """Return the handler with its parameters filled in."""
        writer = self.login_writer if 'autocommit' in route.config else self.writer

        def answer(**arguments):
            if route.method != 'GET':
                # Before a connection is taken; an error page shows it, too.
                request.form = read_form()
                arguments['form'] = request.form
            try:
                if route.method == 'GET':
                    with suppress(database.ReadOnly):
                        return run(handler, self.reader, arguments)
                    tell('That failed: this connection only reads. Once more:')
                return run(handler, writer, arguments)
            except database.Unavailable as error:
                log.error(f'{request.path!r}: {error}')
                raise HTTPError(503, str(error), retry_after=5) from None

        return answer


def run(handler, connection, arguments):
    """Return what the handler returns. Raises TypeError if that is no answer."""
    refuse_unreadable_cookies()
    with connection.lend() as db:
        try:
            answer = handler(db=db, **arguments)
        except HTTPError:
            raise
        except HTTPResponse as redirect:  # bottle.redirect() raises what it returns
            answer = redirect
        if not isinstance(answer, (str, bytes, dict, HTTPResponse)):
            code = handler.__code__
            raise TypeError(
                f'{handler.__name__}() returned {type(answer).__name__}, not a str, '
                'bytes, dict or response: does a `return` lack, or its value? '
                f'({code.co_filename}:{code.co_firstlineno})'
            )
        return answer


def refuse_unreadable_cookies():
    """Refuse a request whose cookies the server could not read.

    To make a new session would lose the visitor's. Granian passes '' on in place of a
    header with any byte beyond ASCII.
    """
    if request.environ.get('HTTP_COOKIE') == '':
        raise HTTPError(
            400,
            'The cookies that came could not be read, so your list was not found. '
            'Another program on this address has set one with letters that are not '
            'allowed. Delete that one in your browser, or all cookies of this site '
            '(without an account, your list is lost then), and load the page again.',
        )


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
    environ = request.environ  # get_header() fails for bytes that are not UTF-8
    site = environ.get('HTTP_SEC_FETCH_SITE')
    origin = environ.get('HTTP_ORIGIN')
    if request.method in ('GET', 'HEAD'):
        is_ours = True  # at most they make a new session
    elif site:
        is_ours = site in ('same-origin', 'none')  # none: typed in, or a bookmark
    elif origin:  # an old browser
        is_ours = origin.partition('://')[2] == environ.get('HTTP_HOST')
    else:
        is_ours = True  # not a browser
    if not is_ours:
        told = 'This form came from another site. Use the form on this one.'
        raise HTTPError(403, told)


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
    """Return the page for an HTTPError. It holds the like form as it was sent."""
    add_headers()  # after a bug in a handler, those of the hook are gone
    info = {
        'title': 'That did not work',
        'problem': ERRORS.get(error.status_code, error.body),
        'form': getattr(request, 'form', bottle.FormsDict()),
        'error': error,
        'back': request.path,
    }
    return template('error.tpl', info, debug=bottle.DEBUG)


app.default_error_handler = error_page

# ---------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------

# Where a server has set up no logging, Python would print warnings alone.
logging.lastResort.setLevel(logging.INFO)


def main():
    """Run the server until Ctrl-C, SIGTERM or SIGHUP (a closed terminal).

    What keeps it from starting is told in one line, with exit status 1.
    """
    args = parse_arguments()
    os.environ['LIKES_DB'] = str(args.db)  # for the workers
    try:
        db = database.COMP249Db()
        # Granian would share a port that another program has, without a word.
        family = socket.AF_INET6 if ':' in args.host else socket.AF_INET
        with socket.create_server((args.host, args.port), family=family) as probe:
            host, port = probe.getsockname()[:2]
    except (database.DatabaseError, OSError, OverflowError) as error:
        sys.exit(f'{error} ({args.host}:{args.port}, database {args.db})')
    if args.debug:
        import hupper  # not needed elsewhere

        db.close()
        # Runs serve_debug() in a process of its own, again after each edit.
        hupper.start_reloader(
            'app.serve_debug',
            worker_args=(host, port),
            reload_interval=0.2,  # seconds between two looks at the files
            shutdown_interval=10,  # seconds for a request under way
        )
    serve(host, port, max(1, args.workers))
    with suppress(database.DatabaseError):
        # Into the file that was there at the start, even if another is there now.
        db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    db.close()


def parse_arguments():
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser()
    option = parser.add_argument
    option('--host', default='127.0.0.1', help='address to listen on (%(default)s)')
    option('--port', default=8080, type=int, help='0 for any free one (%(default)s)')
    option('--db', default=database.default_path())
    option('--workers', default=2, type=int, help='number of processes (%(default)s)')
    option('--debug', action='store_true', help='tell each request; reload the code')
    return parser.parse_args()


def announce(host, port):
    """Tell where the server listens, and where the database is."""
    shown = f'[{host}]' if ':' in host else host
    path = database.default_path()
    print(f'Likes at http://{shown}:{port}/, database {path}', file=sys.stderr)


def serve(host, port, workers):
    """Serve the app on Granian."""
    from granian import Granian  # not needed where another server runs app:app

    # Workers are started anew, not forked: SQLite's connections survive no fork.
    multiprocessing.set_start_method('spawn')
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
    stop_at_signal(server)
    announce(host, port)
    try:
        server.serve(target_loader=load, wrap_loader=False)
    except Exception:  # a worker could not be started again
        log.exception('the server cannot go on')
        server.shutdown(1)


def stop_at_signal(server):
    """Let a thread wait for the signals that stop the server (not on Windows).

    Under nohup SIGHUP is ignored.
    """
    if not hasattr(signal, 'sigwait'):
        return
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    stopping = {one for one in signals if signal.getsignal(one) != signal.SIG_IGN}
    # Blocked, they wait until sigwait() takes one; the workers have them blocked too.
    # The tracker would unblock them, if it started with the first worker.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait():
        signal.sigwait(stopping)
        server.signal_handler_interrupt()

    threading.Thread(target=wait, daemon=True).start()


def load():
    """Return the app, for a worker process."""
    logging.basicConfig(format='%(asctime)s %(levelname)s %(message)s')
    if hasattr(signal, 'sigwait'):  # by which the first process ends this one
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=end_with_first_process, daemon=True).start()
    plugin.open()
    return app


def end_with_first_process():
    """End this worker once the first process has been killed, by an editor's Stop say.

    It would go on for ever, and keep the port.
    """
    multiprocessing.parent_process().join()
    os._exit(1)


# ---------------------------------------------------------------------------
# --debug: what happens is told on the terminal, and below each page
# ---------------------------------------------------------------------------

stories = deque(maxlen=2)  # of the newest requests, each a list of lines


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
    database.TRACE = tell_sql
    database.RETRY_PAUSE = 1  # second: each try is told
    plugin.open()
    for route in app.routes:
        log.debug(f'{route.method:5} {route.rule:22} {route.callback.__name__}')
    announce(host, port)
    waitress.serve(tell_request, host=host, port=port)


def tell_request(environ, start_response):
    """Run the app (WSGI); tell what happens in the terminal, and below the page."""
    if environ['PATH_INFO'].startswith('/static/'):
        return app(environ, start_response)
    path = quote(environ['PATH_INFO'], encoding='latin-1')  # as WSGI has bytes
    sent = environ.get('HTTP_COOKIE', '(none)')
    story = [
        f'{environ["REQUEST_METHOD"]} {path} -> {handler_name(environ)}',
        f'Cookie: {sent}',
    ]
    stories.append(story)
    environ['likes.story'] = story
    log.debug('\n' + '\n    '.join(story))
    started = []
    body = b''.join(app(environ, lambda *start: started.append(start)))
    status, headers = started[0][:2]
    fields = Headers(headers)
    received = fields['Set-Cookie'] or '(none)'
    tell(status)
    tell(f'Set-Cookie: {received}')
    kind = fields['Content-Type'] or ''
    if kind.startswith('text/html') and b'</body>' in body:
        body = body.replace(b'</body>', panel(f'{received}; {sent}') + b'</body>')
        fields['Content-Length'] = str(len(body))
    start_response(status, headers)
    return [body]


def handler_name(environ):
    """Return the name of the function that handles a request."""
    try:
        route, _ = app.match(environ)
    except HTTPError as error:
        return error.status_line
    return route.callback.__name__


def tell(line):
    """Add a line to the story of this request, and print it."""
    log.debug(f'    {line}')
    request.environ.get('likes.story', []).append(line)


def tell_sql(statement):
    """Tell a statement that SQLite runs, with its values, on one line."""
    if not statement.startswith('PRAGMA'):
        tell(' '.join(statement.split()))


def panel(cookies):
    """Return what stands below a page: the newest stories, the visitor's rows."""
    key = re.search(f'{COOKIE_NAME}=([^;]*)|$', cookies)[1]
    tables = {}
    unavailable = (database.Unavailable, database.DatabaseError)
    with suppress(*unavailable), plugin.reader.lend() as db:
        db.set_trace_callback(None)
        try:
            tables = database.get_rows_of_session(db, key)
        finally:
            db.set_trace_callback(tell_sql)
    info = {'stories': list(stories), 'key': key, 'tables': tables}
    return template('panel.tpl', info).encode()


if __name__ == '__main__':
    main()
