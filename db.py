"""The database: tables, every SQL statement, passwords at rest, the admin command.

Each function takes the connection `db` first, as in the chapter; what changes data
does so in a transaction, `with db:`. Times are seconds since 1970, handed in by the
caller. Nothing here knows of HTTP.
"""

import argparse
import os
import queue
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from getpass import getpass
from pathlib import Path
from sqlite3 import Connection, DatabaseError, IntegrityError, OperationalError
from time import monotonic
from unicodedata import normalize

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

if os.name != 'nt':  # Windows has no flock
    from fcntl import LOCK_EX, LOCK_UN, flock

MAX_LIKES = 1000  # things on one list
MAX_USERNAME = 100  # characters
MIN_PASSWORD = 8  # characters (OWASP ASVS 5.0, 6.2.1)

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------

APPLICATION_ID = 0x4C696B65  # 'Like' in ASCII; other programs' files have another
SCHEMA_VERSION = 2

# A like has one owner: the session `key` while that is anonymous, else the user.
# The two unique indexes make a repeated like (a double click) a no-op, and find what
# get_likes asks for: without them every page gets slower with every like stored.
SCHEMA = (
    'DROP TABLE IF EXISTS likes',
    'DROP TABLE IF EXISTS sessions',
    'DROP TABLE IF EXISTS users',
    'DROP TABLE IF EXISTS failed_logins',
    """CREATE TABLE users (
        username TEXT NOT NULL PRIMARY KEY,
        password TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE sessions (
        key TEXT NOT NULL PRIMARY KEY,
        username TEXT REFERENCES users ON DELETE CASCADE,
        expires REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE INDEX sessions_of_user ON sessions (username)
        WHERE username IS NOT NULL""",
    'CREATE INDEX sessions_by_expiry ON sessions (expires)',
    # `id` keeps the order: an implicit rowid may change in a VACUUM.
    """CREATE TABLE likes (
        id INTEGER PRIMARY KEY,
        thing TEXT NOT NULL,
        key TEXT REFERENCES sessions ON DELETE CASCADE,
        username TEXT REFERENCES users ON DELETE CASCADE,
        CHECK ((key IS NULL) <> (username IS NULL))
    )""",
    """CREATE UNIQUE INDEX likes_of_session ON likes (key, thing)
        WHERE key IS NOT NULL""",
    """CREATE UNIQUE INDEX likes_of_user ON likes (username, thing)
        WHERE username IS NOT NULL""",
    'CREATE TABLE failed_logins (username TEXT NOT NULL, at REAL NOT NULL)',
    'CREATE INDEX failed_logins_of_user ON failed_logins (username, at)',
    'CREATE INDEX failed_logins_by_time ON failed_logins (at)',
    f'PRAGMA application_id = {APPLICATION_ID}',
    f'PRAGMA user_version = {SCHEMA_VERSION}',
)


def create_table(db):
    """Create the tables. Those that exist are dropped, with all that they hold."""
    with db:
        for statement in SCHEMA:
            db.execute(statement)


# ---------------------------------------------------------------------------
# Likes
# ---------------------------------------------------------------------------


def store_like(db, key, like):
    """Store a like of the session `key`, or of the user logged in with it.

    What is liked already stays as it is.
    """
    with db:
        username = get_user(db, key)
        owner = (None, username) if username else (key, None)
        db.execute(
            """INSERT INTO likes (thing, key, username) VALUES (?, ?, ?)
                ON CONFLICT DO NOTHING""",
            (like, *owner),
        )


def get_likes(db, key):
    """Return what the session `key`, or the user logged in with it, likes.

    The things are a list of str, in the order liked.
    """
    rows = db.execute(
        """SELECT thing FROM likes WHERE key = ?
            OR username = (SELECT username FROM sessions WHERE key = ?)
            ORDER BY id""",
        (key, key),
    )
    return [thing for (thing,) in rows]


def move_likes(db, key, username):
    """Give the user what the anonymous session `key` likes and the user does not yet.

    The oldest come first, as many as the list has room for. The others stay with the
    session, and end with it.
    """
    with db:
        db.execute(
            """UPDATE likes SET key = NULL, username = :username WHERE id IN (
                SELECT id FROM likes WHERE key = :key
                AND thing NOT IN (SELECT thing FROM likes WHERE username = :username)
                ORDER BY id LIMIT :most - (
                    SELECT count(*) FROM likes WHERE username = :username))""",
            {'key': key, 'username': username, 'most': MAX_LIKES},
        )


def delete_likes(db, key):
    """Delete all that the session `key`, or the user logged in with it, likes."""
    with db:
        db.execute(
            """DELETE FROM likes WHERE key = ?
                OR username = (SELECT username FROM sessions WHERE key = ?)""",
            (key, key),
        )


# ---------------------------------------------------------------------------
# Sessions
# ---------------------------------------------------------------------------


def add_session(db, key, username, now, lifetime):
    """Store a session, anonymous if `username` is None, for `lifetime` seconds.

    A few sessions that have expired are deleted: not all of them, so that no visitor
    waits for long, as each may have a whole list of likes.
    """
    with db:
        db.execute(
            'INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)',
            (key, username, now + lifetime),
        )
        db.execute(
            """DELETE FROM sessions WHERE key IN
                (SELECT key FROM sessions WHERE expires <= ? LIMIT 3)""",
            (now,),
        )


def get_sessions(db, keys):
    """Return the rows (key, username, expires) of the sessions with these keys."""
    marks = ', '.join('?' * len(keys))  # one query for all: an attacker sends many
    query = f'SELECT key, username, expires FROM sessions WHERE key IN ({marks})'
    return db.execute(query, keys).fetchall()


def get_user(db, key):
    """Return the name of the user logged in with the session `key`, None for none."""
    row = db.execute('SELECT username FROM sessions WHERE key = ?', (key,)).fetchone()
    return row[0] if row else None


def extend_session(db, key, expires):
    """Set the time at which the session `key` ends."""
    with db:
        db.execute('UPDATE sessions SET expires = ? WHERE key = ?', (expires, key))


def delete_session(db, key):
    """End the session `key`. The likes of an anonymous one end with it (CASCADE)."""
    with db:
        db.execute('DELETE FROM sessions WHERE key = ?', (key,))


def log_out_everywhere(db, username):
    """End all sessions of the user. Raises ValueError if there is none."""
    require_user(db, username)
    with db:
        db.execute('DELETE FROM sessions WHERE username = ?', (username,))


# ---------------------------------------------------------------------------
# Users
# ---------------------------------------------------------------------------

# Argon2id with the parameters that OWASP recommends: 19 MiB, about 20 ms.
HASHER = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
# In one thread: each that has checked a password keeps 19 MiB for the next.
HASHING = ThreadPoolExecutor(1)
# Stands in for an unknown user's hash, so that the answer takes as long as for a wrong
# password (ASVS 6.3.8). It is all zeros, which no password gives.
NOBODYS_HASH = (
    f'$argon2id$v=19$m={HASHER.memory_cost},t={HASHER.time_cost},p={HASHER.parallelism}'
    f'${"A" * 22}${"A" * 43}'
)


def normal_name(text):
    """Return a username in the form in which it is stored (Unicode NFC).

    Some keyboards send é as two characters.
    """
    return normalize('NFC', text.strip())


def require_user(db, username):
    """Raise ValueError if there is no such user."""
    query = 'SELECT 1 FROM users WHERE username = ?'
    if not db.execute(query, (username,)).fetchone():
        raise ValueError(f'there is no user {username!r}')


def hash_password(password):
    """Return the hash of a new password. Raises ValueError if it is too short."""
    if len(password) < MIN_PASSWORD:
        raise ValueError(f'a password needs at least {MIN_PASSWORD} characters')
    return HASHER.hash(password)


def add_user(db, username, password):
    """Store a new user.

    Raises ValueError for a name or a password that cannot be, or a name that is taken.
    """
    username = normal_name(username)
    if not username.isprintable() or not 0 < len(username) <= MAX_USERNAME:
        raise ValueError(f'a username is 1 to {MAX_USERNAME} printable characters')
    values = (username, hash_password(password))
    try:
        with db:
            db.execute('INSERT INTO users (username, password) VALUES (?, ?)', values)
    except IntegrityError:
        raise ValueError(f'there is a user {username!r} already') from None


def is_password(db, username, password):
    """Return whether it is the user's password. Takes 20 ms, as for an unknown user.

    A hash that was made with other parameters than today's is made anew.
    """
    query = 'SELECT password FROM users WHERE username = ?'
    row = db.execute(query, (username,)).fetchone()
    stored = row[0] if row else NOBODYS_HASH
    try:
        HASHING.submit(HASHER.verify, stored, password).result()
    except VerifyMismatchError:
        return False
    if HASHER.check_needs_rehash(stored):
        store_password(db, username, HASHER.hash(password))
    return True


def store_password(db, username, password_hash):
    """Store the hash of the user's password."""
    with db:
        db.execute(
            'UPDATE users SET password = ? WHERE username = ?',
            (password_hash, username),
        )


def set_password(db, username, password):
    """Set the user's password, end the user's sessions and forget failed logins.

    Raises ValueError if the password is too short or there is no such user.
    """
    password_hash = hash_password(password)
    # A login with the old password that is under way ends first.
    with db.holding(db.login_lock), db:
        store_password(db, username, password_hash)
        log_out_everywhere(db, username)
        delete_failed_logins(db, username)


def delete_user(db, username):
    """Delete the user, with the user's sessions and likes (CASCADE)."""
    require_user(db, username)
    with db.holding(db.login_lock), db:
        db.execute('DELETE FROM users WHERE username = ?', (username,))


def get_failed_logins(db, username, since, now):
    """Return when logins with this name, known or not, have failed.

    The times are a list, after `since` and up to `now`, the oldest first.
    """
    rows = db.execute(
        """SELECT at FROM failed_logins
            WHERE username = ? AND at > ? AND at <= ? ORDER BY at""",
        (username, since, now),
    )
    return [at for (at,) in rows]


def add_failed_login(db, username, since, now):
    """Store that a login with this name has failed.

    Those that no longer count are deleted: up to `since`, or after `now` (a clock that
    was wrong).
    """
    with db:
        db.execute('DELETE FROM failed_logins WHERE at <= ? OR at > ?', (since, now))
        db.execute(
            'INSERT INTO failed_logins (username, at) VALUES (?, ?)', (username, now)
        )


def delete_failed_logins(db, username):
    """Forget the failed logins with this name."""
    with db:
        db.execute('DELETE FROM failed_logins WHERE username = ?', (username,))


# ---------------------------------------------------------------------------
# Connection and transactions
# ---------------------------------------------------------------------------

# Seconds that a request waits: for a connection, in the queue of writers, and for
# another program that writes, in all.
MAX_WAIT = 5


def default_path():
    """Return the path of the database: $LIKES_DB, else likes.db beside this file."""
    return Path(os.environ.get('LIKES_DB', Path(__file__).with_name('likes.db')))


class COMP249Db(Connection):
    """A connection to the database at `path`, default_path() if that is None.

    A missing file is made, with its tables; ':memory:' is a database of its own.

    `with db:` is a transaction: committed at the end of the block, rolled back by an
    exception. It takes the write lock at once, so nothing can come between a read in it
    and the write that depends on that. A block inside another is a part of it.

    Raises OSError or OperationalError (cannot be opened), DatabaseError (not ours).
    """

    def __init__(self, path=None):
        if path is None:
            path = default_path()
        if path != ':memory:':
            path = Path(path).resolve()
            path.touch(0o600)  # SQLite would let everybody read it: it holds keys
        # isolation_level: we begin transactions ourselves, as Python's sqlite3 begins
        # them at the first write, after the reads. check_same_thread: a pool lends a
        # connection to one thread after another.
        super().__init__(path, isolation_level=None, check_same_thread=False)
        self.waited = 0  # seconds that its user has waited, for it and for locks
        self._blocks = []  # what the end of each open `with` block must do
        self._write_lock = _open_beside(path, '-lock')
        self.login_lock = _open_beside(path, '-login-lock')
        self._log = None
        self._prepare()
        self.execute('PRAGMA journal_mode = WAL')  # also of a restored backup
        self.execute('PRAGMA foreign_keys = ON')
        self.execute('PRAGMA user_version')  # opens the log, so that nobody deletes it
        self._log = _open_beside(path, '-wal')
        if self._log:
            self.execute('PRAGMA synchronous = NORMAL')  # see _transaction

    def _prepare(self):
        """Make the tables in a new file; refuse one that is not this app's."""
        kind = 'SELECT * FROM pragma_application_id, pragma_user_version'
        if self.execute(kind).fetchone() == (0, 0):
            with self:  # several processes may start at once
                if not self.execute('SELECT 1 FROM sqlite_master').fetchone():
                    create_table(self)
        if self.execute(kind).fetchone() != (APPLICATION_ID, SCHEMA_VERSION):
            raise DatabaseError('a database of another program, or of another version')

    def close(self):
        """Close the connection and its files."""
        for file in filter(None, (self._log, self._write_lock, self.login_lock)):
            file.close()
        super().close()

    def __enter__(self):
        """Begin a transaction; inside another block do nothing."""
        block = nullcontext() if self.in_transaction else self._transaction()
        block.__enter__()
        self._blocks.append(block)
        return self

    def __exit__(self, *error):
        """Commit or roll back the transaction that this block has begun, if any."""
        self._blocks.pop().__exit__(*error)

    @contextmanager
    def _transaction(self):
        with ExitStack() as stack:
            stack.enter_context(self.holding(self._write_lock))
            self.execute('PRAGMA busy_timeout = 10')  # milliseconds
            try:
                self.execute('BEGIN IMMEDIATE')
            except OperationalError:
                # Another program is writing. SQLite waits for it, here without the
                # lock: others have waited longer, and must not wait for us too.
                stack.close()
                left = MAX_WAIT - self.waited
                self.execute(f'PRAGMA busy_timeout = {left * 1000:.0f}')
                self.execute('BEGIN IMMEDIATE')
            try:
                yield
                self.execute('COMMIT')
            finally:
                self.rollback()  # does nothing after COMMIT
        # In WAL mode a transaction survives a power cut once the write-ahead log is on
        # the disk. SQLite would wait for that in COMMIT (synchronous = FULL), and keep
        # all others from writing; here many can wait for the same sync.
        if self._log:
            try:
                os.fsync(self._log.fileno())
            except OSError as error:
                raise OperationalError('disk I/O error') from error

    @contextmanager
    def holding(self, file):
        """Hold a lock for a `with` block: one connection has it at a time.

        The kernel wakes whoever waits for it. SQLite's own waiting sleeps and tries
        again, and is unfair: one in a hundred waits for most of a second.
        """
        began = monotonic()
        if file:
            flock(file, LOCK_EX)
        self.waited += monotonic() - began
        try:
            yield
        finally:
            if file:
                flock(file, LOCK_UN)


def _open_beside(path, suffix):
    """Return a file beside the database, open; it is made if it is missing.

    None for ':memory:', and on Windows: it has no flock, so SQLite's own waiting and
    sync must do.
    """
    if path == ':memory:' or os.name == 'nt':
        return None
    file = Path(f'{path}{suffix}')
    file.touch(0o600)
    if os.geteuid() == 0:  # root runs the admin command; the app runs as the owner
        owner = path.stat()
        os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return file.open('r+b', buffering=0)  # NFS locks only what is open for writing


class Unavailable(Exception):
    """The database cannot be reached; that may pass by itself."""


# SQLite's messages for what may pass by itself. (Its error codes need Python 3.11.)
TEMPORARY = (
    'database is locked',
    'database or disk is full',
    'attempt to write a readonly database',
    'disk I/O error',
    'unable to open database file',
)


class Pool:
    """A connection pool: `size` connections at most, each with one user at a time."""

    def __init__(self, size):
        self._free = queue.SimpleQueue()
        for _ in range(size):
            self._free.put(None)  # opened when first needed

    @contextmanager
    def connection(self):
        """Lend a connection to a `with` block. Raises Unavailable."""
        began = monotonic()
        try:
            db = self._free.get(timeout=MAX_WAIT)
        except queue.Empty:
            raise Unavailable('all connections are in use') from None
        try:
            if db is None:
                db = COMP249Db()
            db.waited = monotonic() - began
            yield db
        except (OperationalError, OSError) as error:
            if db:  # else it could not be opened
                if str(error) not in TEMPORARY:
                    raise
                db.close()
            db = None
            raise Unavailable(error) from error
        finally:
            self._free.put(db)


# ---------------------------------------------------------------------------
# The admin command
# ---------------------------------------------------------------------------

SHOWN = {  # keys and hashes are cut short: whoever has a whole key has the session
    'users': 'SELECT username, substr(password, 1, 20) FROM users',
    'sessions': """SELECT substr(key, 1, 8), ifnull(username, '-'),
        datetime(expires, 'unixepoch', 'localtime') FROM sessions""",
    'likes': """SELECT thing, ifnull(substr(key, 1, 8), '-'), ifnull(username, '-')
        FROM likes ORDER BY id""",
    'failed_logins': """SELECT username,
        datetime(at, 'unixepoch', 'localtime') FROM failed_logins""",
}


def show(db):
    """Print the tables."""
    for table, query in SHOWN.items():
        rows = db.execute(query).fetchall()
        print(f'{table}: {len(rows)}')
        for row in rows:
            print('   ', *map(printable, row))


def printable(text):
    """Return a value of a table as it can be printed.

    Names of failed logins come from anybody, and could play tricks on the terminal.
    """
    return text if text.isprintable() else ascii(text)


def reset(db, yes):
    """Drop everything; asks first."""
    if yes or input('Drop all users, sessions and likes? [y/N] ').lower() == 'y':
        create_table(db)


def ask_password():
    """Return a new password, asked for twice without echo.

    Where standard input is no terminal, it is read as one line.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip('\r\n')
    password = getpass('Password: ')
    if password != getpass('The same again: '):
        raise ValueError('the two passwords differ')
    return password


def parse_arguments():
    """Return the arguments of the command line, as a dict."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--db', default=default_path())
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for name, run, help in (
        ('adduser', add_user, 'add a user; asks for the password'),
        ('passwd', set_password, "change a user's password, end the user's sessions"),
        ('deluser', delete_user, 'remove a user, with all that the user likes'),
        ('logout', log_out_everywhere, "end all of a user's sessions"),
        ('show', show, 'print the tables, keys shortened'),
        ('reset', reset, 'drop everything; asks first'),
    ):
        command = commands.add_parser(name, help=help)
        command.set_defaults(run=run)
        if run is reset:
            command.add_argument('--yes', action='store_true')
        elif run is not show:
            command.add_argument('username', metavar='NAME', type=normal_name)
    return vars(parser.parse_args())


def main():
    """Run the admin command.

    An error is told in one line, with exit status 1 (wrong arguments: 2).
    """
    sys.stdout.reconfigure(errors='backslashreplace')  # for letters that it lacks
    arguments = parse_arguments()
    run = arguments.pop('run')
    path = arguments.pop('db')
    try:
        if run not in (add_user, reset) and not os.path.exists(path):
            raise ValueError(f'there is no file {path}')
        with closing(COMP249Db(path)) as db:
            if run in (add_user, set_password):
                arguments['password'] = ask_password()
            run(db, **arguments)
    except (ValueError, DatabaseError, OSError, EOFError) as error:
        sys.exit(f'db.py: {error}')
    except KeyboardInterrupt:
        sys.exit('db.py: stopped')


if __name__ == '__main__':
    main()
