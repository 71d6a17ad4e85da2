"""The database: tables, every SQL statement, passwords at rest, the admin command.

Each function takes the connection `db` first, as in the chapter; what changes data
does so in a transaction, `with db:`. Times are seconds since 1970, handed in by the
caller. Nothing here knows of HTTP.
"""

import argparse
import logging
import os
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from getpass import getpass
from pathlib import Path
from sqlite3 import DatabaseError, IntegrityError, OperationalError
from threading import Lock
from time import monotonic, sleep
from traceback import clear_frames
from unicodedata import normalize

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

MAX_LIKES = 1000  # things on one list
MAX_USERNAME = 100  # characters
MIN_PASSWORD = 8  # characters (OWASP ASVS 5.0, 6.2.1)

log = logging.getLogger('likes')

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------

APPLICATION_ID = 0x4C696B65  # 'Like' in ASCII; other programs' files have another
SCHEMA_VERSION = 2  # raise it with each change of SCHEMA

SCHEMA = (
    'DROP TABLE IF EXISTS likes',
    'DROP TABLE IF EXISTS sessions',
    'DROP TABLE IF EXISTS users',
    'DROP TABLE IF EXISTS failed_logins',
    # A like has one owner: the session `key` while that is anonymous, else the user.
    # `id` keeps the order: the number that SQLite gives each row by itself may change
    # when the file is made anew (VACUUM).
    """CREATE TABLE likes (
        id INTEGER PRIMARY KEY,
        thing TEXT NOT NULL,
        key TEXT REFERENCES sessions (key) ON DELETE CASCADE,
        username TEXT REFERENCES users (username) ON DELETE CASCADE,
        CHECK ((key IS NULL) <> (username IS NULL))
    )""",
    """CREATE TABLE sessions (
        key TEXT NOT NULL PRIMARY KEY,
        username TEXT REFERENCES users (username) ON DELETE CASCADE,
        expires REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE users (
        username TEXT NOT NULL PRIMARY KEY,
        password TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE failed_logins (
        username TEXT NOT NULL,
        at REAL NOT NULL
    )""",
    # Indexes: without them every page gets slower with every like stored. The two
    # unique ones also make a repeated like (a double click) a no-op.
    """CREATE UNIQUE INDEX likes_of_session ON likes (key, thing)
        WHERE key IS NOT NULL""",
    """CREATE UNIQUE INDEX likes_of_user ON likes (username, thing)
        WHERE username IS NOT NULL""",
    """CREATE INDEX sessions_of_user ON sessions (username)
        WHERE username IS NOT NULL""",
    'CREATE INDEX sessions_by_expiry ON sessions (expires)',
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
        if username:
            key = None  # the like is the user's, and outlives the session
        db.execute(
            """INSERT INTO likes (thing, key, username) VALUES (?, ?, ?)
                ON CONFLICT DO NOTHING""",
            (like, key, username),
        )


def get_likes(db, key):
    """Return what the session `key`, or the user logged in with it, likes.

    The things are a list of str, in the order liked. For an anonymous session the
    inner SELECT gives NULL, which equals nothing.
    """
    rows = db.execute(
        """SELECT thing FROM likes
            WHERE (key = ? OR username = (SELECT username FROM sessions WHERE key = ?))
            ORDER BY id""",
        (key, key),
    )
    return [row[0] for row in rows]


def delete_likes(db, key):
    """Delete all that the session `key`, or the user logged in with it, likes."""
    with db:
        db.execute(
            """DELETE FROM likes
                WHERE (key = ?
                    OR username = (SELECT username FROM sessions WHERE key = ?))""",
            (key, key),
        )


def move_likes(db, key, username):
    """Give the user what the anonymous session `key` likes and the user does not yet.

    The oldest come first, as many as the list has room for: MAX_LIKES less what the
    user has. The others stay with the session, and end with it.
    """
    with db:
        db.execute(
            """UPDATE likes SET key = NULL, username = :username WHERE id IN (
                SELECT id FROM likes WHERE key = :key
                AND thing NOT IN (SELECT thing FROM likes WHERE username = :username)
                ORDER BY id LIMIT max(0, :most - (
                    SELECT count(*) FROM likes WHERE username = :username)))""",
            {'key': key, 'username': username, 'most': MAX_LIKES},
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


def read_session(db, key, now):
    """Return (key, username) of the session `key`, None if there is none (any more)."""
    query = 'SELECT key, username FROM sessions WHERE key = ? AND expires > ?'
    return db.execute(query, (key, now)).fetchone()


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
    """End all sessions of the user. Raises ValueError if there is no such user."""
    with db:
        require_user(db, username)
        db.execute('DELETE FROM sessions WHERE username = ?', (username,))


# ---------------------------------------------------------------------------
# Users
# ---------------------------------------------------------------------------

# Argon2id with the parameters that OWASP recommends: 19 MiB, about 20 ms.
HASHER = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
# One thread hashes for all logins: each that has hashed keeps 19 MiB.
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


def hash_password(password):
    """Return the hash of a new password. Raises ValueError if it is too short."""
    if len(password) < MIN_PASSWORD:
        raise ValueError(f'a password needs at least {MIN_PASSWORD} characters')
    return HASHER.hash(password)


def is_password(password, stored):
    """Return whether the password has the hash `stored`; None is an unknown user's.

    Takes 20 ms in each case.
    """
    try:
        return HASHING.submit(HASHER.verify, stored or NOBODYS_HASH, password).result()
    except VerifyMismatchError:
        return False


def get_password_hash(db, username):
    """Return the hash of the user's password, None if there is no such user."""
    query = 'SELECT password FROM users WHERE username = ?'
    row = db.execute(query, (username,)).fetchone()
    return row[0] if row else None


def renew_hash(db, username, password, stored):
    """Store the password's hash anew if `stored` has not today's parameters.

    One that has been changed meanwhile stays.
    """
    if HASHER.check_needs_rehash(stored):
        renewed = HASHING.submit(HASHER.hash, password).result()
        with db:
            db.execute(
                'UPDATE users SET password = ? WHERE username = ? AND password = ?',
                (renewed, username, stored),
            )


def require_user(db, username):
    """Raise ValueError if there is no such user."""
    if not get_password_hash(db, username):
        raise ValueError(f'there is no user {username!r}')


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


def set_password(db, username, password):
    """Set the user's password, end the user's sessions and forget failed logins.

    Raises ValueError if the password is too short or there is no such user.
    """
    password_hash = hash_password(password)
    with db:
        log_out_everywhere(db, username)
        delete_failed_logins(db, username)
        db.execute(
            'UPDATE users SET password = ? WHERE username = ?',
            (password_hash, username),
        )


def delete_user(db, username):
    """Delete the user, with the user's sessions and likes (CASCADE).

    Raises ValueError if there is no such user.
    """
    with db:
        require_user(db, username)
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
    return [row[0] for row in rows]


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

MAX_WAIT = 5  # seconds, for a connection and for other writers together
RETRY_PAUSE = 0.0003  # seconds, while another connection writes


def default_path():
    """Return the path of the database: $LIKES_DB, else likes.db beside this file."""
    return Path(os.environ.get('LIKES_DB', Path(__file__).with_name('likes.db')))


class COMP249Db(sqlite3.Connection):
    """A connection to the database at `path`, default_path() if that is None.

    A missing file is made, with its tables; ':memory:' is a database of its own.

    `with db:` is a transaction: committed at the end of the block, rolled back by an
    exception. It begins as a write, so nothing can come between a read in it and the
    write that depends on that. A block inside another is a part of it.

    Raises OSError or OperationalError (cannot be opened), DatabaseError (not this
    app's, or of another version unless `any_version` is true).
    """

    def __init__(self, path=None, any_version=False):
        if path is None:
            path = default_path()
        if path != ':memory:':
            path = Path(path).resolve()
            path.touch(0o600)  # SQLite would let everybody read it
        # isolation_level: we begin transactions ourselves, as Python's sqlite3 begins
        # them at the first write, after the reads. check_same_thread: requests share a
        # connection, one thread after another.
        super().__init__(path, isolation_level=None, check_same_thread=False)
        self.path = path
        self.deadline = None  # of a request: until when to wait, by monotonic()
        self._blocks = 0  # that are open
        try:
            self._prepare(any_version)
        except BaseException:
            self.close()
            raise

    def _prepare(self, any_version):
        """Make the tables in a new file; refuse one that is not this app's."""
        kind = 'SELECT * FROM pragma_application_id, pragma_user_version'
        if self.execute(kind).fetchone() == (0, 0):
            with self:  # several processes may start at once
                if not self.execute('SELECT 1 FROM sqlite_master').fetchone():
                    delete_log(self.path)  # that of a deleted database
                    create_table(self)
        application, version = self.execute(kind).fetchone()
        if application != APPLICATION_ID:
            raise DatabaseError('this is a database of another program')
        if version != SCHEMA_VERSION and not any_version:
            raise DatabaseError(
                f'the tables are of version {version}, not {SCHEMA_VERSION}: '
                '`db.py reset` drops them, with all that they hold, and makes new ones'
            )
        self.execute('PRAGMA journal_mode = WAL')  # also of a restored backup
        self.execute('PRAGMA synchronous = FULL')  # COMMIT waits for the disk
        self.execute('PRAGMA foreign_keys = ON')

    def __enter__(self):
        """Begin a transaction; inside another block, be a part of its."""
        if not self.in_transaction:
            self._begin()
        self._blocks += 1
        return self

    def __exit__(self, *error):
        """At the end of the outer block commit, or roll back after an exception."""
        self._blocks -= 1
        if self._blocks == 0:
            super().__exit__(*error)

    def _begin(self):
        """Begin a write as soon as no other connection writes.

        SQLite's own waiting sleeps longer each time, so that whoever comes later gets
        in first; to ask at short, equal intervals is fair.
        """
        deadline = self.deadline or monotonic() + MAX_WAIT
        self.execute('PRAGMA busy_timeout = 0')
        try:
            while not self.in_transaction:
                try:
                    self.execute('BEGIN IMMEDIATE')
                except OperationalError as error:
                    is_busy = primary_code(error) == sqlite3.SQLITE_BUSY
                    if not is_busy or monotonic() > deadline:
                        raise
                    sleep(RETRY_PAUSE)
        finally:
            # For a statement outside of a block SQLite waits itself.
            self.execute(f'PRAGMA busy_timeout = {MAX_WAIT * 1000}')


def delete_log(path):
    """Delete the write-ahead log of the database at `path`, and the log's index."""
    for suffix in ('-wal', '-shm'):
        Path(f'{path}{suffix}').unlink(missing_ok=True)


def primary_code(error):
    """Return SQLite's primary result code of an error, 0 for one of Python's."""
    return getattr(error, 'sqlite_errorcode', 0) & 0xFF


# ---------------------------------------------------------------------------
# What requests use
# ---------------------------------------------------------------------------

# SQLite's result codes for what may pass by itself.
TEMPORARY = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
)


class WriteNeeded(Exception):
    """A connection that only reads was to write. It has changed nothing."""


class Unavailable(Exception):
    """The database cannot be reached, or cannot write; that may pass by itself."""


class SharedConnection:
    """A connection that requests use one after another.

    In WAL mode one that only reads never waits for those that write.
    """

    def __init__(self, writes):
        self._writes = writes
        self._lock = Lock()
        self._db = None  # opened when first needed

    @contextmanager
    def lend(self, deadline):
        """Lend the connection to a `with` block. Raises WriteNeeded, Unavailable.

        What was committed is on the disk when the block has been left, by an exception
        too: bottle.redirect() raises one.
        """
        if not self._lock.acquire(timeout=max(0, deadline - monotonic())):
            raise Unavailable('others use the connection')
        db = None
        try:
            db = self.open()
            db.deadline = deadline
            yield db
            if db.in_transaction:
                raise RuntimeError('a transaction was begun, and not ended')
        except Exception as error:
            # The traceback keeps the handler's variables. A query among them that was
            # not read to its end would keep the connection from seeing what is new.
            clear_frames(error.__traceback__)
            if db:
                db.rollback()
            code = primary_code(error)
            if code == sqlite3.SQLITE_READONLY and not self._writes:
                raise WriteNeeded from None
            if code in TEMPORARY:
                raise Unavailable(error) from error
            raise
        finally:
            self._lock.release()
            if db and self._writes:
                sync(db)

    def open(self):
        """Return the connection, a new one if its file was deleted or replaced.

        Raises Unavailable.
        """
        try:
            if self._db and close_orphan(self._db):
                self._db = None
            if self._db is None:
                self._db = connect(self._writes)
        except (DatabaseError, OSError) as error:
            raise Unavailable(error) from error
        return self._db


def connect(writes):
    """Return a connection for requests. Raises what COMP249Db() raises."""
    db = COMP249Db()
    if not writes:
        db.execute('PRAGMA query_only = ON')
    # COMMIT does not wait for the disk, and so holds SQLite's lock but briefly; sync()
    # waits afterwards.
    db.execute('PRAGMA synchronous = NORMAL')
    db.execute('PRAGMA user_version')  # SQLite opens the log when it first reads
    db.inode = inode(db.path)
    mode = 'r+b' if writes else 'rb'
    db.wal = open(f'{db.path}-wal', mode, buffering=0)  # noqa: SIM115
    return db


def sync(db):
    """Wait until the disk has what was committed. Raises Unavailable.

    In WAL mode a transaction survives a power cut once the log is on the disk. A
    request that wrote nothing waits as well: it may have read what another has just
    committed, as the second press of a double click does.
    """
    try:
        os.fsync(db.wal.fileno())
    except (OSError, ValueError) as error:  # ValueError: an orphan, just closed
        raise Unavailable(error) from error


def inode(path):
    """Return the inode of a file, 0 if it is gone."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def close_orphan(db):
    """Close a connection whose file was deleted or replaced. Return whether it was.

    Its log is deleted: SQLite would take it for that of the new file.
    """
    if inode(db.path) == db.inode:
        return False
    log.error(f'{db.path} was deleted or replaced: it is opened anew')
    with suppress(DatabaseError):  # the old file may live on under another name
        db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    if inode(db.wal.name) == os.fstat(db.wal.fileno()).st_ino:
        delete_log(db.path)
    db.wal.close()
    db.close()
    return True


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


def printable(value):
    """Return a value of a table as it can be printed.

    Names of failed logins come from anybody, and could play tricks on the terminal.
    """
    text = str(value)
    return text if text.isprintable() else ascii(text)


def reset(db, yes):
    """Drop everything; asks first."""
    if yes or input('Drop all users, sessions and likes? [y/N] ').lower() == 'y':
        # A table of another version may refer to one that is dropped.
        db.execute('PRAGMA foreign_keys = OFF')
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
        ('reset', reset, 'drop everything, also tables of another version; asks first'),
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
    if hasattr(signal, 'SIGPIPE'):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `show | head` just ends
    arguments = parse_arguments()
    run = arguments.pop('run')
    path = arguments.pop('db')
    try:
        if run is not reset and not os.path.exists(path):
            raise ValueError(f'there is no file {path}: the app makes it, or `reset`')
        with closing(COMP249Db(path, any_version=run is reset)) as db:
            if run in (add_user, set_password):
                arguments['password'] = ask_password()
            run(db, **arguments)
    except (ValueError, DatabaseError, OSError, EOFError) as error:
        sys.exit(f'db.py: {error}')
    except KeyboardInterrupt:
        sys.exit('db.py: stopped')


if __name__ == '__main__':
    main()
