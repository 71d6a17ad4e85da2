"""The database: tables, every SQL statement, passwords at rest, the admin command.

Each function takes the connection `db` first, as in the chapter. None of them begins a
transaction: `app.DatabasePlugin` does so for each form, `sessions.log_in` for a login,
and `main` for each command. Times are seconds since 1970, handed in by the caller.
Nothing here knows of HTTP.
"""

import argparse
import os
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from getpass import getpass
from pathlib import Path
from sqlite3 import DatabaseError, IntegrityError, OperationalError
from tempfile import TemporaryDirectory
from threading import Lock
from time import monotonic, sleep
from traceback import clear_frames
from unicodedata import normalize

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

MAX_LIKES = 1000  # things on one list
MAX_USERNAME = 100  # characters
MIN_PASSWORD = 8  # characters (OWASP ASVS 5.0, 6.2.1)

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------

APPLICATION_ID = 0x4C696B65  # 'Like' in ASCII; other programs' files have another
SCHEMA_VERSION = 2  # raise it with each change of SCHEMA

SCHEMA = f"""
DROP TABLE IF EXISTS likes;
DROP TABLE IF EXISTS sessions;
DROP TABLE IF EXISTS users;
DROP TABLE IF EXISTS failed_logins;

CREATE TABLE users (
    username TEXT NOT NULL PRIMARY KEY,
    password TEXT NOT NULL  -- its Argon2id hash
);

CREATE TABLE sessions (
    key TEXT NOT NULL PRIMARY KEY,
    username TEXT REFERENCES users (username) ON DELETE CASCADE,  -- NULL: anonymous
    expires REAL NOT NULL
);

CREATE TABLE likes (
    id INTEGER PRIMARY KEY,  -- the order: a higher one is newer
    thing TEXT NOT NULL,
    -- The owner is one of these two, and the other is NULL: an anonymous session, or
    -- the user. UNIQUE (also below): nobody likes a thing twice. Of two NULLs none is a
    -- repeat of the other.
    key TEXT REFERENCES sessions (key) ON DELETE CASCADE,
    username TEXT REFERENCES users (username) ON DELETE CASCADE,
    CHECK ((key IS NULL) <> (username IS NULL)),
    UNIQUE (key, thing)
);

CREATE TABLE failed_logins (
    username TEXT NOT NULL,
    at REAL NOT NULL
);

-- Without an index (UNIQUE makes one, too) each search would read the whole table.
-- WHERE: anonymous rows, by far the most, need no entry.
CREATE UNIQUE INDEX likes_of_user ON likes (username, thing)
    WHERE username IS NOT NULL;
CREATE INDEX sessions_of_user ON sessions (username) WHERE username IS NOT NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires);
CREATE INDEX failed_logins_of_user ON failed_logins (username, at);
CREATE INDEX failed_logins_by_time ON failed_logins (at);

-- Two numbers that SQLite keeps in the file, for us to recognize it by.
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


def create_table(db):
    """Create the tables. Those that exist are dropped, with all that they hold."""
    for statement in SCHEMA.split(';'):  # executescript() would end a transaction
        try:
            db.execute(statement)
        except OperationalError as error:
            raise OperationalError(f'{error} in{statement}') from error


# ---------------------------------------------------------------------------
# Likes
# ---------------------------------------------------------------------------


def store_like(db, key, like):
    """Store a like of the session `key`, or of the user logged in with it.

    What is liked already (see UNIQUE above) is not stored twice: it becomes the newest.
    """
    username = get_user(db, key)
    if username:
        key = None  # the like is the user's, and outlives the session
    db.execute(
        """INSERT INTO likes (thing, key, username) VALUES (?, ?, ?)
            ON CONFLICT DO UPDATE SET id = (SELECT max(id) + 1 FROM likes)""",
        (like, key, username),
    )


def get_likes(db, key):
    """Return what the session `key`, or the user logged in with it, likes.

    The things are a list of str, in the order liked. (The username of an anonymous
    session is NULL, and nothing equals NULL.)
    """
    rows = db.execute(
        """SELECT thing FROM likes
            WHERE key = :key
            OR username = (SELECT username FROM sessions WHERE key = :key)
            ORDER BY id""",
        {'key': key},
    )
    return [row[0] for row in rows]


def delete_likes(db, key):
    """Delete all that the session `key`, or the user logged in with it, likes."""
    db.execute(
        """DELETE FROM likes
            WHERE key = :key
            OR username = (SELECT username FROM sessions WHERE key = :key)""",
        {'key': key},
    )


def move_likes(db, key, username):
    """Give the user what the anonymous session `key` likes and the user does not yet.

    The oldest come first, as many as the user's list has room for. The others stay
    with the session, and end with it.
    """
    query = 'SELECT count(*) FROM likes WHERE username = ?'
    (count,) = db.execute(query, (username,)).fetchone()
    db.execute(
        """UPDATE likes SET key = NULL, username = :username WHERE id IN (
            SELECT id FROM likes WHERE key = :key
            AND thing NOT IN (SELECT thing FROM likes WHERE username = :username)
            ORDER BY id LIMIT :room)""",
        {'key': key, 'username': username, 'room': max(0, MAX_LIKES - count)},
    )


# ---------------------------------------------------------------------------
# Sessions
# ---------------------------------------------------------------------------


def add_session(db, key, username, now, lifetime):
    """Store a session, anonymous if `username` is None, for `lifetime` seconds.

    Up to three that have expired are deleted, and with each its list (CASCADE): so they
    get fewer with each new session, and no visitor waits for long.
    """
    db.execute(
        'INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)',
        (key, username, now + lifetime),
    )
    db.execute(
        """DELETE FROM sessions WHERE key IN
            (SELECT key FROM sessions WHERE expires <= ? LIMIT 3)""",
        (now,),
    )


def load_session(db, key, now):
    """Return (key, username) of the session `key`, None if there is none (any more)."""
    query = 'SELECT key, username FROM sessions WHERE key = ? AND expires > ?'
    return db.execute(query, (key, now)).fetchone()


def get_user(db, key):
    """Return the name of the user logged in with the session `key`, None for none.

    The key is one that load_session() has found: it has not expired.
    """
    row = db.execute('SELECT username FROM sessions WHERE key = ?', (key,)).fetchone()
    return row[0] if row else None


def prolong_anonymous(db, key, expires):
    """Set when the session `key` ends, if it is anonymous. Return whether it is."""
    query = 'UPDATE sessions SET expires = ? WHERE key = ? AND username IS NULL'
    return db.execute(query, (expires, key)).rowcount == 1  # rows changed


def delete_session(db, key):
    """End the session `key`. The likes of an anonymous one end with it (CASCADE)."""
    db.execute('DELETE FROM sessions WHERE key = ?', (key,))


def log_out_everywhere(db, username):
    """End all sessions of a user.

    Raises ValueError if there is no such user.
    """
    require_user(db, username)
    db.execute('DELETE FROM sessions WHERE username = ?', (username,))


# ---------------------------------------------------------------------------
# Users
# ---------------------------------------------------------------------------

# Argon2id with the parameters that OWASP recommends: 19 MiB, about 20 ms.
HASHER = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
# One thread hashes for all logins: each that has hashed keeps 19 MiB.
HASHING = ThreadPoolExecutor(1)
# Is checked in place of an unknown user's, so that the answer takes as long as for a
# wrong password (ASVS 6.3.8).
DUMMY_HASH = HASHER.hash('')


def normalize_username(text):
    """Return a username in the form in which it is stored (Unicode NFC).

    Some keyboards send é as two characters; none needs more than four.
    """
    text = text.strip()
    if len(text) > 4 * MAX_USERNAME:
        return text  # nobody's, and normalize() would take long
    return normalize('NFC', text)


def hash_password(password):
    """Return the hash of a password."""
    return HASHING.submit(HASHER.hash, password).result()


def verify_password(password, password_hash):
    """Return whether the password has this hash. None, an unknown user's, is no hash.

    Takes 20 ms in each case.
    """
    try:
        HASHING.submit(HASHER.verify, password_hash or DUMMY_HASH, password).result()
    except VerifyMismatchError:
        return False
    return password_hash is not None


def renew_hash(password, password_hash):
    """Return the hash of a right password: a new one if that is too weak now."""
    if HASHER.check_needs_rehash(password_hash):
        return hash_password(password)
    return password_hash


def get_password_hash(db, username):
    """Return the hash of the user's password, None if there is no such user."""
    query = 'SELECT password FROM users WHERE username = ?'
    row = db.execute(query, (username,)).fetchone()
    return row[0] if row else None


def set_password_hash(db, username, password_hash):
    """Store the hash of the user's password."""
    query = 'UPDATE users SET password = ? WHERE username = ?'
    db.execute(query, (password_hash, username))


def require_user(db, username):
    """Raise ValueError if there is no such user."""
    if not get_password_hash(db, username):
        raise ValueError(f'there is no user {username!r}')


def require_length(password):
    """Raise ValueError if the password is too short."""
    if len(password) < MIN_PASSWORD:
        raise ValueError(f'a password needs at least {MIN_PASSWORD} characters')


def add_user(db, username, password):
    """Add a user.

    Raises ValueError for a name or a password that cannot be, or a name that is taken.
    """
    username = normalize_username(username)
    if not username.isprintable() or not 0 < len(username) <= MAX_USERNAME:
        raise ValueError(f'a username is 1 to {MAX_USERNAME} printable characters')
    require_length(password)
    values = (username, hash_password(password))
    try:
        db.execute('INSERT INTO users (username, password) VALUES (?, ?)', values)
    except IntegrityError:
        raise ValueError(f'there is a user {username!r} already') from None


def set_password(db, username, password):
    """Change a user's password, end the user's sessions and forget failed logins.

    Raises ValueError if the password is too short or there is no such user.
    """
    require_length(password)
    log_out_everywhere(db, username)
    delete_failed_logins(db, username)
    set_password_hash(db, username, hash_password(password))


def delete_user(db, username):
    """Delete a user, with the user's sessions and likes (CASCADE).

    Raises ValueError if there is no such user.
    """
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
    db.execute('DELETE FROM failed_logins WHERE at <= ? OR at > ?', (since, now))
    db.execute(
        'INSERT INTO failed_logins (username, at) VALUES (?, ?)', (username, now)
    )


def delete_failed_logins(db, username):
    """Forget the failed logins with this name."""
    db.execute('DELETE FROM failed_logins WHERE username = ?', (username,))


# ---------------------------------------------------------------------------
# What is shown of the tables
# ---------------------------------------------------------------------------

SHOWN = {  # keys and hashes are cut short: whoever has a whole key has the session
    'users': 'SELECT username, substr(password, 1, 20) AS password FROM users',
    'sessions': """SELECT substr(key, 1, 8) AS key, username,
        datetime(expires, 'unixepoch', 'localtime') AS expires FROM sessions""",
    'likes': """SELECT id, thing, substr(key, 1, 8) AS key, username
        FROM likes ORDER BY id""",
    'failed_logins': """SELECT username,
        datetime(at, 'unixepoch', 'localtime') AS at FROM failed_logins""",
}


def read_table(db, query, key=None):
    """Return the column names and the rows that a query finds, as two lists."""
    cursor = db.execute(query, {'key': key})
    names = [column[0] for column in cursor.description]
    return names, cursor.fetchall()


def get_rows_of_session(db, key):
    """Return the whole rows of the session `key`: names and rows of each table."""
    session = 'SELECT * FROM sessions WHERE key = :key'
    likes = """SELECT * FROM likes WHERE key = :key
        OR username = (SELECT username FROM sessions WHERE key = :key) ORDER BY id"""
    return {
        'sessions': read_table(db, session, key),
        'likes': read_table(db, likes, key),
    }


# ---------------------------------------------------------------------------
# The admin command
# ---------------------------------------------------------------------------


def show(db):
    """Print the tables, keys shortened."""
    for table, query in SHOWN.items():
        names, rows = read_table(db, query)
        print(f'{table} ({", ".join(names)}): {len(rows)}')
        for row in rows:  # repr() escapes what could play tricks on the terminal
            print('   ', *map(repr, row))


def reset(db, yes):
    """Drop everything, also tables of another version; asks first."""
    question = f'Drop all users, sessions and likes in {db.path}? [y/N] '
    if not yes and input(question).lower() != 'y':
        raise ValueError('nothing was dropped')
    # A table of another version may refer to one that is dropped.
    db.execute('PRAGMA foreign_keys = OFF')
    with db:
        create_table(db)


def backup(db, file):
    """Copy the database to a file, in place of one of that name.

    That one is replaced once the copy is whole. Only its owner can read it. Raises
    ValueError, DatabaseError, OSError.
    """
    file = Path(file).resolve()
    if file == db.path or (file.exists() and not file.is_file()):  # /dev/null, say
        raise ValueError(f'{file} is the database itself, a folder or a device')
    with TemporaryDirectory(dir=file.parent, prefix='backup-') as folder:
        path = Path(folder, 'copy.db')
        path.touch(0o600)
        with closing(sqlite3.connect(path)) as copy:
            db.backup(copy)
            copy.execute('PRAGMA journal_mode = DELETE')  # it is one file, without log
            require_whole(copy, db.path)  # else the older copy is the better one
        path.replace(file)


def restore(db, file):
    """Replace all that the database has by a copy that `backup` has made.

    Raises ValueError, DatabaseError; nothing is changed then.
    """
    path = Path(file).resolve()
    if not path.is_file() or path.samefile(db.path):
        raise ValueError(f'{file} is no file, or the database itself')
    with closing(sqlite3.connect(path)) as copy:
        require_whole(copy, file)
        # In steps, so that Ctrl-C stops it; together they are one transaction.
        copy.backup(db, pages=1000, progress=refuse_to_wait)


def require_whole(db, file):
    """Raise DatabaseError if a database is damaged, or not of this app and version."""
    try:
        found = *read_kind(db), *db.execute('PRAGMA integrity_check(1)').fetchone()
    except DatabaseError as error:
        found = error
    if found != (APPLICATION_ID, SCHEMA_VERSION, 'ok'):
        told = f'{file} is damaged, or not of this app and version: {found}'
        raise DatabaseError(told)


def refuse_to_wait(status, remaining, total):
    """Raise OperationalError after a step that has waited for the lock in vain.

    Python would try again for ever.
    """
    if status == sqlite3.SQLITE_BUSY:
        raise OperationalError('another program is writing to the database')


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


COMMANDS = {
    'adduser': add_user,
    'passwd': set_password,
    'deluser': delete_user,
    'logout': log_out_everywhere,
    'show': show,
    'reset': reset,
    'backup': backup,
    'restore': restore,
}


def parse_arguments():
    """Return the arguments of the command line, as a dict."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--db', default=default_path())
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, run in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__.splitlines()[0])
        if run in (backup, restore):
            command.add_argument('file', metavar='FILE')
        elif run is reset:
            command.add_argument('--yes', action='store_true')
        elif run is not show:
            kind = normalize_username
            command.add_argument('username', metavar='NAME', type=kind)
    return vars(parser.parse_args())


def main():
    """Run the admin command.

    An error is told in one line, with exit status 1 (wrong arguments: 2).
    """
    sys.stdout.reconfigure(errors='backslashreplace')  # for letters that it lacks
    if hasattr(signal, 'SIGPIPE'):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `show | head` just ends
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: tidies up
    arguments = parse_arguments()
    path = arguments.pop('db')
    command = arguments.pop('command')
    run = COMMANDS[command]
    try:
        if run is not reset and not os.path.exists(path):
            raise ValueError(f'there is no file {path}: the app makes it, or `reset`')
        with closing(COMP249Db(path, any_version=run is reset)) as db:
            if run in (add_user, set_password):
                arguments['password'] = ask_password()
            if run in (show, reset, backup, restore):
                run(db, **arguments)
            else:
                with db:
                    run(db, **arguments)
            subject = arguments.get('username') or arguments.get('file') or 'all'
            print(f'{db.path}: {command} {subject}: done')
    except (ValueError, DatabaseError, OSError, EOFError) as error:
        sys.exit(f'db.py: {explained(error)}')
    except KeyboardInterrupt:
        sys.exit('db.py: stopped')


# ---------------------------------------------------------------------------
# Connection and transaction
# ---------------------------------------------------------------------------

MAX_WAIT = 5  # seconds, for a connection and for other writers together
RETRY_PAUSE = 0.0003  # seconds, while another connection writes

PRAGMAS = """
PRAGMA journal_mode = WAL;  -- who reads and who writes do not wait for each other
PRAGMA synchronous = FULL;  -- COMMIT waits until the disk has it
PRAGMA foreign_keys = ON;
PRAGMA user_version;  -- to read something opens the write-ahead log
"""


def default_path():
    """Return the path of the database: $LIKES_DB, else likes.db beside this file."""
    return Path(os.environ.get('LIKES_DB', Path(__file__).with_name('likes.db')))


def inode(path):
    """Return the number of the file that is at `path` now, 0 if there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def read_kind(db):
    """Return what program a database is of, and the version of its tables."""
    query = 'SELECT * FROM pragma_application_id, pragma_user_version'
    return db.execute(query).fetchone()


def is_of_kind(error, *names):
    """Return whether an error is SQLite's, and its name begins with one of these."""
    return getattr(error, 'sqlite_errorname', '').startswith(names)


def explained(error):
    """Return what is told of an error; SQLite does not say who holds the lock."""
    if is_of_kind(error, 'SQLITE_BUSY'):
        return f'{error}: another connection or program has written, and not committed'
    return str(error)


class COMP249Db(sqlite3.Connection):
    """A connection to the database at `path`, default_path() if that is None.

    A missing file is made, with its tables; ':memory:' is a database of its own.

    Each statement is committed at once; `with db:` is a transaction: committed at the
    end of the block, rolled back by an exception. It begins as a write, so nothing can
    come between a read in it and the write that depends on that.

    Raises OSError or OperationalError (cannot be opened), DatabaseError (not this
    app's, or of another version unless `any_version` is true).
    """

    deadline = None  # of the request that has it: until when to wait, by monotonic()

    def __init__(self, path=None, any_version=False):
        if path is None:
            path = default_path()
        if path != ':memory:':
            path = Path(path).resolve()
            path.touch(0o600)  # SQLite would let everybody read it
        self.path = path
        self.inode = inode(path)
        # isolation_level: we begin transactions ourselves, as Python's sqlite3 begins
        # them at the first write, after the reads. check_same_thread: requests share a
        # connection, one thread after another.
        super().__init__(
            path, timeout=MAX_WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(any_version)
        except BaseException:
            self.close()
            raise

    def _prepare(self, any_version):
        """Make the tables in a new file; refuse one that is not this app's."""
        if read_kind(self) == (0, 0):
            with self:  # several processes may start at once
                if not self.execute('SELECT 1 FROM sqlite_master').fetchone():
                    for suffix in ('-wal', '-shm'):  # of a database that was deleted
                        Path(f'{self.path}{suffix}').unlink(missing_ok=True)
                    create_table(self)
        application, version = read_kind(self)
        if application != APPLICATION_ID:
            raise DatabaseError(
                f'{self.path} is a database of another program, or of the chapter as '
                'printed: move it away, or name another file with --db'
            )
        if version != SCHEMA_VERSION and not any_version:
            raise DatabaseError(
                f'the tables are of version {version}, not {SCHEMA_VERSION}: '
                '`db.py reset` drops them, with all that they hold, and makes new ones'
            )
        self.executescript(PRAGMAS)

    def __enter__(self):
        """Begin a transaction, as soon as no other connection writes.

        SQLite's own waiting sleeps longer each time, so that whoever comes later gets
        in first; to ask at short, equal intervals is fair.
        """
        deadline = self.deadline or monotonic() + MAX_WAIT
        while not self.in_transaction:
            try:
                self.execute('BEGIN IMMEDIATE')
            except OperationalError as error:
                is_busy = is_of_kind(error, 'SQLITE_BUSY')
                if not is_busy or monotonic() > deadline:
                    raise
                sleep(RETRY_PAUSE)
        return self


# ---------------------------------------------------------------------------
# What requests use
# ---------------------------------------------------------------------------

TRACE = None  # a function that is called with each statement, for --debug


class Unavailable(Exception):
    """The database cannot be reached, or cannot write; that may pass by itself."""


class ReadOnly(Unavailable):
    """The connection, or the file, can only be read. Nothing was changed."""


class SharedConnection:
    """A connection that requests use one after another."""

    pragmas = ''

    def __init__(self):
        self._in_use = Lock()
        self._db = None  # opened when first needed

    @contextmanager
    def lend(self):
        """Lend the connection to a `with` block. Raises Unavailable."""
        deadline = monotonic() + MAX_WAIT
        if not self._in_use.acquire(timeout=MAX_WAIT):
            raise Unavailable('a request before this one has not ended')
        try:
            db = self.open()
            db.rollback()  # what a handler has begun itself, and not ended
            db.deadline = deadline
            yield db
        except BaseException as error:
            # The traceback keeps the handler's variables. A query among them that was
            # not read to its end would keep the connection from seeing what is new.
            clear_frames(error.__traceback__)
            raise_if_passing(error)
            raise
        finally:
            self._in_use.release()

    def open(self):
        """Return the connection. Raises Unavailable if it cannot be used."""
        try:
            if not self._db:
                self._db = COMP249Db()
                self._db.executescript(self.pragmas)
                self._db.set_trace_callback(TRACE)
        except (DatabaseError, OSError) as error:
            raise Unavailable(error) from error
        path = self._db.path
        if inode(path) != self._db.inode:
            # Beside a new file SQLite would take the old one's log for the new one's:
            # what is in it goes into the file that it belongs to.
            self._db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
            raise Unavailable(f'{path} was deleted or replaced: start the app anew')
        return self._db


class Reader(SharedConnection):
    """One that only reads: in WAL mode it never waits for those that write."""

    pragmas = 'PRAGMA query_only = ON'


class Writer(SharedConnection):
    """One that writes: lent in a transaction, unless `autocommit` is true.

    COMMIT does not wait for the disk, and so keeps others from writing but briefly. The
    request waits afterwards, in _sync().
    """

    # busy_timeout: `with db:` waits, not SQLite.
    pragmas = 'PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 0'

    def __init__(self, autocommit=False):
        super().__init__()
        self._autocommit = autocommit
        self._lent = 0  # how often
        self._synced = 0  # what `_lent` was when the disk had all of the log
        self._log = None  # the file of the write-ahead log
        self._syncing = Lock()
        self._sync_failed = False

    @contextmanager
    def lend(self):
        """Lend the connection. What was committed is on the disk after the block."""
        with super().lend() as db:
            if self._sync_failed:
                self._save_log()
            if self._autocommit:
                yield db
            else:
                with db:
                    yield db
            self._lent += 1
            number = self._lent
        self._sync(number)

    def _sync(self, number):
        """Wait until the disk has what was committed, up to the request of a number.

        In WAL mode a transaction survives a power cut once the log is on the disk. A
        request that wrote nothing waits as well: it may have read what another has just
        committed, as the second press of a double click does. One sync serves all who
        have committed before it (group commit). Raises Unavailable.
        """
        with self._syncing:
            if self._synced >= number:
                return
            if self._sync_failed:  # the kernel tells of that once, to one request
                raise Unavailable('the disk has not kept the write-ahead log')
            newest = self._lent
            try:
                if not self._log:
                    self._log = open(f'{self._db.path}-wal', 'r+b')  # noqa: SIM115
                os.fsync(self._log.fileno())
            except OSError as error:
                self._sync_failed = True
                raise Unavailable(error) from error
            self._synced = newest

    def _save_log(self):
        """After a sync has failed, move all of the log into the database file.

        The disk may lack a part of it, though SQLite still reads it from memory.
        """
        with closing(COMP249Db()) as db:
            busy, _, _ = db.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()
        self._sync_failed = bool(busy)


def raise_if_passing(error):
    """Raise Unavailable where an error may pass by itself, as a full disk does.

    All others are mistakes in the code.
    """
    if is_of_kind(error, 'SQLITE_READONLY'):
        raise ReadOnly(error) from error
    if is_of_kind(error, 'SQLITE_BUSY', 'SQLITE_FULL', 'SQLITE_IOERR'):
        raise Unavailable(explained(error)) from error


if __name__ == '__main__':
    main()
