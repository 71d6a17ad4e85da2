"""The database: the tables, every SQL statement, passwords at rest, and the admin command (`python db.py --help`).

Every function that reads or writes takes the connection `db` first and does one thing. Nothing here knows of HTTP.
Times are seconds since 1970, handed in by the caller.
"""

import argparse
import getpass
import os
import secrets
import sqlite3
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import DatabaseError, OperationalError, ProgrammingError

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

APPLICATION_ID = 0x4C696B65  # 'Like' in ASCII; tells our files from other programs' (SQLite, PRAGMA application_id)
SCHEMA_VERSION = 1
LOCK_TIMEOUT = 5  # seconds to wait for another writer
LOCK_POLL = 0.01  # the pause before asking again, as a share of the time waited so far
CHECKPOINT_INTERVAL = 500  # rows that a connection changes, then it empties the write-ahead log
MAX_LIKES = 1000  # things on one list
MAX_USERNAME = 100  # characters
MIN_PASSWORD = 8  # characters (OWASP ASVS 5.0, 6.2.1)
CLEANUP_BATCH = 3  # expired sessions: one visitor's share of the clean-up; each may have a whole list of likes
SMALL_FILE = 10_000_000  # bytes that can be read through at every start, in well under 0.1 s

# A like has one owner: the session `key` while that is anonymous, else the user. The two unique indexes make a repeated
# like (a double click) a no-op, and find what get_likes asks for: without them every page gets slower with every like
# that anybody stores. The two numbers at the end are those above.
SCHEMA = """
    DROP TABLE IF EXISTS likes;
    DROP TABLE IF EXISTS sessions;
    DROP TABLE IF EXISTS users;
    DROP TABLE IF EXISTS failed_logins;
    CREATE TABLE users (
        username TEXT NOT NULL PRIMARY KEY,
        password TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE sessions (
        key TEXT NOT NULL PRIMARY KEY,
        username TEXT REFERENCES users ON DELETE CASCADE,
        expires REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX sessions_of_user ON sessions (username) WHERE username IS NOT NULL;
    CREATE INDEX sessions_by_expiry ON sessions (expires);
    CREATE TABLE likes (
        thing TEXT NOT NULL,
        key TEXT REFERENCES sessions ON DELETE CASCADE,
        username TEXT REFERENCES users ON DELETE CASCADE,
        CHECK ((key IS NULL) <> (username IS NULL))
    );
    CREATE UNIQUE INDEX likes_of_session ON likes (key, thing) WHERE key IS NOT NULL;
    CREATE UNIQUE INDEX likes_of_user ON likes (username, thing) WHERE username IS NOT NULL;
    CREATE TABLE failed_logins (username TEXT NOT NULL, at REAL NOT NULL);
    CREATE INDEX failed_logins_of_user ON failed_logins (username, at);
    CREATE INDEX failed_logins_by_time ON failed_logins (at);
    PRAGMA application_id = 0x4C696B65;
    PRAGMA user_version = 1
"""


class ListFull(Exception):
    """The owner of the list likes MAX_LIKES things already."""


def default_path():
    """Return the path of the database: LIKES_DB of the environment, else likes.db beside this file."""
    return os.path.abspath(os.environ.get('LIKES_DB') or Path(__file__).resolve().with_name('likes.db'))


class WaitingCursor(sqlite3.Cursor):
    """A cursor that waits for a locked database more evenly than SQLite does."""

    _queue = threading.Lock()  # of the threads of this process that want to write

    def execute(self, statement, *args):
        """Execute a statement, waiting up to LOCK_TIMEOUT for a locked database.

        One writer of the process asks again and again, the others queue behind it: under load a write takes a few
        milliseconds, where SQLite's own waiting makes one of a hundred take some hundreds.
        """
        reads = statement.lstrip()[:6].upper() in ('SELECT', 'PRAGMA')
        queues = not reads and not self.connection.in_transaction
        if queues and self.connection.total_changes >= self.connection.checkpoint_due:
            self.connection.checkpoint()
        began = time.monotonic()
        if queues and not self._queue.acquire(timeout=LOCK_TIMEOUT):
            raise OperationalError('database is locked')
        try:
            while True:
                try:
                    return super().execute(statement, *args)
                except OperationalError as error:  # SQLITE_BUSY; Python 3.10 has no more of it than the text
                    if getattr(error, 'sqlite_errorcode', None) == 1:  # SQLITE_ERROR: wrong SQL, which no waiting mends
                        raise ProgrammingError(str(error)) from error
                    waited = time.monotonic() - began
                    if str(error) != 'database is locked' or waited > LOCK_TIMEOUT:
                        raise
                time.sleep(waited * LOCK_POLL)
        finally:
            if queues:
                self._queue.release()


class COMP249Db(sqlite3.Connection):
    """A connection to the database at `path`, default_path() if that is None; ':memory:' is one of its own.

    A missing file is made, with its tables. A statement commits by itself unless it stands in a `with writing(db):`.
    Only execute() waits for other writers; executemany() is for such a transaction.
    Raises DatabaseError for a file that is no database of this app, OperationalError for one that cannot be opened.
    """

    def __init__(self, path=None):
        path = str(path or default_path())
        if path != ':memory:':
            path = os.path.realpath(path)  # SQLite may take a name that begins with file: for a URI
            try:
                # SQLite itself would let everybody read a new file, and it holds session keys. One that is there is not
                # opened here: to close it would drop the locks that other connections of this process have on it.
                os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                if not os.access(path, os.W_OK):
                    # SQLite would open it for reading, and the connection could not write when the file can be again.
                    raise OperationalError('the file cannot be written') from None
            except OSError as error:
                raise OperationalError(error.strerror) from None
        # isolation_level=None: the module's own transactions begin late and as reads, see writing().
        # timeout=0: WaitingCursor waits in SQLite's place.
        super().__init__(path, timeout=0, isolation_level=None)
        self.path, self.checkpoint_due = path, 0  # at the first write: there may be no other by this connection
        try:
            ours = _is_ours(self)  # asked before anything is changed: another program's file stays as it is
            if not ours and os.path.isfile(path):
                os.chmod(path, 0o600)  # an empty file that was there
            self.execute('PRAGMA journal_mode = WAL')  # readers do not wait for the writer
            self.execute('PRAGMA wal_autocheckpoint = 0')  # see checkpoint()
            self.execute('PRAGMA synchronous = FULL')  # what was answered survives a power cut
            self.execute('PRAGMA foreign_keys = ON')
            if not ours:
                with writing(self):
                    if not _is_ours(self):  # still so: another worker may have come first
                        _create_table(self)
        except OSError as error:  # the empty file belongs to somebody else
            self.close()
            raise OperationalError(error.strerror) from None
        except BaseException:
            self.close()
            raise

    def cursor(self, factory=WaitingCursor):
        """Return a cursor that waits for a locked database."""
        return super().cursor(factory)

    def execute(self, *args):
        """Execute a statement and return its cursor."""
        return self.cursor().execute(*args)

    def checkpoint(self):
        """Move what the write-ahead log holds into the database file, so that the next writer starts the log anew.

        SQLite does so by itself, but lets others write meanwhile. Under load it is then never done, and tries again at
        every commit, with two syncs more; and before 3.51.3 it could, rarely, lose what was written (its "WAL-reset
        bug"). So another connection does it while this one keeps all writers out.
        """
        self.checkpoint_due = self.total_changes + CHECKPOINT_INTERVAL
        # If the disk is full, nothing is lost: the log goes on.
        with writing(self), suppress(OperationalError), closing(sqlite3.connect(self.path, timeout=0)) as other:
            other.execute('PRAGMA wal_checkpoint')


def writing(db):
    """Begin a transaction for a `with` statement, whose end is a commit, or after an exception a rollback.

    It takes the write lock at once. A transaction that begins by reading and then wants to write is refused on the spot
    if another has written in between, however long the timeout (SQLite, "Isolation": SQLITE_BUSY_SNAPSHOT).
    """
    db.execute('BEGIN IMMEDIATE')
    return db


def create_table(db):
    """Create the tables, dropping them first with all that they hold."""
    with writing(db):
        _create_table(db)


def _create_table(db):
    for statement in SCHEMA.split(';'):
        db.execute(statement)


def _is_ours(db):
    """Return True for a database of this app, False for an empty one; raise DatabaseError for any other."""
    application_id, version, size = db.execute(
        'SELECT * FROM pragma_application_id, pragma_user_version, (SELECT count(*) FROM sqlite_master)'
    ).fetchone()
    if not (application_id or version or size):
        return False
    if application_id != APPLICATION_ID:
        raise DatabaseError('this is a database of another program')
    if version != SCHEMA_VERSION:
        raise DatabaseError(f'this database has schema version {version}, the program needs {SCHEMA_VERSION}')
    return True


def check_file(path):
    """Raise DatabaseError if the file at `path` is no database of this app, or is damaged. It stays as it is.

    One over SMALL_FILE is not read through: a start must be quick.
    """
    if not os.path.exists(path):
        return
    # If a crash has left a write-ahead log, a connection that can write would move it into the file when it closes;
    # without one, only such a connection can open the file.
    mode = 'ro' if os.path.exists(f'{path}-wal') else 'rw'
    location = f'{Path(path).absolute().as_uri()}?mode={mode}'
    # What cannot be read just now, COMP249Db() waits for or tells.
    with suppress(OperationalError), closing(sqlite3.connect(location, uri=True)) as db:
        _is_ours(db)
        (size,) = db.execute('SELECT page_count * page_size FROM pragma_page_count, pragma_page_size').fetchone()
        if size <= SMALL_FILE:
            (finding,) = db.execute('PRAGMA quick_check(1)').fetchone()
            if finding != 'ok':
                raise DatabaseError('the database is damaged')


# Likes


def store_like(db, key, like):
    """Store a like of the session `key`, or of the user logged in with it. What is liked already stays as it is.

    Returns False if there is no such session (it may have ended a moment ago), else True. Raises ListFull.
    """
    # All in one statement, so that the write lock is held for as short as can be: with no such session, or a full list,
    # it selects no row to insert. One of the two counts is always 0.
    cursor = db.execute(
        """INSERT OR IGNORE INTO likes (thing, key, username)
           SELECT ?, iif(username IS NULL, key, NULL), username FROM sessions WHERE key = ? AND ? >
               (SELECT count(*) FROM likes WHERE likes.key = sessions.key)
             + (SELECT count(*) FROM likes WHERE likes.username = sessions.username)""",
        (like, key, MAX_LIKES),
    )
    if cursor.rowcount == 1:
        return True
    if not db.execute('SELECT 1 FROM sessions WHERE key = ?', (key,)).fetchone():
        return False
    likes = get_likes(db, key)
    if len(likes) >= MAX_LIKES and like not in likes:
        raise ListFull
    return True


def get_likes(db, key):
    """Return the list of things, as str in the order liked, of the session `key` or of the user logged in with it."""
    rows = db.execute(
        """SELECT thing FROM likes WHERE key = ?1 OR username = (SELECT username FROM sessions WHERE key = ?1)
           ORDER BY rowid""",
        (key,),
    )
    return [thing for (thing,) in rows]


def move_likes(db, key, username):
    """Make the likes of the anonymous session `key` the user's. What the user liked before keeps its place."""
    db.execute('UPDATE OR IGNORE likes SET key = NULL, username = ? WHERE key = ?', (username, key))


def forget_likes(db, key):
    """Remove all likes of the session `key`, or of the user logged in with it."""
    db.execute('DELETE FROM likes WHERE key = ?1 OR username = (SELECT username FROM sessions WHERE key = ?1)', (key,))


# Sessions


def add_session(db, key, username, expires):
    """Store a session: the user's, or an anonymous one if `username` is None."""
    db.execute('INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)', (key, username, expires))


def find_session(db, key, now):
    """Return (username, expires) of the session `key`, username None if anonymous; None if there is no such session."""
    return db.execute('SELECT username, expires FROM sessions WHERE key = ? AND expires > ?', (key, now)).fetchone()


def extend_session(db, key, expires):
    """Set the end of the session if it is anonymous and has no likes yet."""
    db.execute(
        """UPDATE sessions SET expires = ? WHERE key = ? AND username IS NULL
           AND NOT EXISTS (SELECT 1 FROM likes WHERE likes.key = sessions.key)""",
        (expires, key),
    )


def end_session(db, key):
    """Remove the session, and with an anonymous one its likes (ON DELETE CASCADE)."""
    db.execute('DELETE FROM sessions WHERE key = ?', (key,))


def remove_expired_sessions(db, now):
    """Remove at most CLEANUP_BATCH sessions that have expired, the oldest first."""
    # Looked for first: a DELETE that finds nothing takes the write lock all the same.
    if db.execute('SELECT 1 FROM sessions WHERE expires <= ? LIMIT 1', (now,)).fetchone():
        db.execute(
            'DELETE FROM sessions WHERE key IN (SELECT key FROM sessions WHERE expires <= ? ORDER BY expires LIMIT ?)',
            (now, CLEANUP_BATCH),
        )


# Passwords and the login throttle

# OWASP Password Storage Cheat Sheet: Argon2id with 19 MiB of memory, 2 passes, 1 lane.
HASHER = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
# Stands in for an unknown user's hash, so that the answer takes as long as for a wrong password (ASVS 6.3.8).
NOBODYS_HASH = HASHER.hash(secrets.token_bytes())


def get_password_hash(db, username):
    """Return the stored hash of the user's password, None if there is no such user."""
    row = db.execute('SELECT password FROM users WHERE username = ?', (username,)).fetchone()
    return row[0] if row else None


def check_password(db, username, password):
    """Return the stored hash if `password` is the user's, else None. Takes some 20 ms: not for inside a transaction."""
    stored = get_password_hash(db, username)
    try:
        HASHER.verify(stored or NOBODYS_HASH, password)
    except VerifyMismatchError:
        return None
    if HASHER.check_needs_rehash(stored):
        old, stored = stored, HASHER.hash(password)
        # Only in place of the hash that was checked: the password may have been changed in between.
        values = stored, username, old
        if not db.execute('UPDATE users SET password = ? WHERE username = ? AND password = ?', values).rowcount:
            return check_password(db, username, password)
    return stored


def add_failed_login(db, username, now, until):
    """Note that a login with this name, known or not, has failed, and remove the notes from `until` or before."""
    db.execute('DELETE FROM failed_logins WHERE at <= ?', (until,))
    db.execute('INSERT INTO failed_logins (username, at) VALUES (?, ?)', (username, now))


def get_failed_logins(db, username, since):
    """Return the times after `since` at which logins with this name have failed, oldest first."""
    rows = db.execute('SELECT at FROM failed_logins WHERE username = ? AND at > ? ORDER BY at', (username, since))
    return [at for (at,) in rows]


def remove_failed_logins(db, username):
    """Forget that logins with this name have failed."""
    db.execute('DELETE FROM failed_logins WHERE username = ?', (username,))


# The admin command


def hash_password(password):
    """Return the hash to store for a new password. Raises ValueError if it is too short."""
    if len(password) < MIN_PASSWORD:
        raise ValueError(f'a password needs at least {MIN_PASSWORD} characters')
    return HASHER.hash(password)


def require_user(db, username):
    """Raise LookupError if there is no such user."""
    if get_password_hash(db, username) is None:
        raise LookupError(f'there is no user {username!r}')


def add_user(db, username, password):
    """Store a new user. Raises ValueError for a name or password that cannot be, or a name that is taken."""
    if not (username.isprintable() and username == username.strip() and 0 < len(username) <= MAX_USERNAME):
        raise ValueError(
            f'a username is 1 to {MAX_USERNAME} printable characters, and neither begins nor ends with a space'
        )
    try:
        db.execute('INSERT INTO users (username, password) VALUES (?, ?)', (username, hash_password(password)))
    except sqlite3.IntegrityError:
        raise ValueError(f'there is a user {username!r} already') from None


def set_password(db, username, password):
    """Change the user's password and end the user's sessions. Raises ValueError, LookupError."""
    password = hash_password(password)
    with writing(db):
        require_user(db, username)
        db.execute('UPDATE users SET password = ? WHERE username = ?', (password, username))
        db.execute('DELETE FROM sessions WHERE username = ?', (username,))


def delete_user(db, username):
    """Remove the user, with the user's sessions and likes. Raises LookupError."""
    require_user(db, username)
    db.execute('DELETE FROM users WHERE username = ?', (username,))


def end_sessions(db, username):
    """End all sessions of the user. Raises LookupError."""
    require_user(db, username)
    db.execute('DELETE FROM sessions WHERE username = ?', (username,))


def show(db):
    """Print the tables. Keys and hashes are cut short: whoever reads a whole key can use the session."""
    for table, query in (
        ('users', "SELECT username, substr(password, 1, 20) || '…' AS password FROM users"),
        (
            'sessions',
            """SELECT substr(key, 1, 8) || '…' AS key, username, datetime(expires, 'unixepoch', 'localtime') AS expires
               FROM sessions ORDER BY sessions.expires""",
        ),
        ('likes', "SELECT thing, substr(key, 1, 8) || '…' AS key, username FROM likes ORDER BY rowid"),
        ('failed_logins', "SELECT username, datetime(at, 'unixepoch', 'localtime') AS at FROM failed_logins"),
    ):
        cursor = db.execute(query)
        rows = [[name for name, *_ in cursor.description]]
        # Names in failed_logins come from anybody: what is not printable could play tricks on the terminal.
        for row in cursor:
            rows.append(['-' if text is None else text if text.isprintable() else ascii(text) for text in row])
        widths = [max(map(len, column)) for column in zip(*rows)]
        print(f'{table}: {len(rows) - 1}')
        for row in rows:
            print('   ', '  '.join(value.ljust(width) for value, width in zip(row, widths)).rstrip())


def ask_password():
    """Return a new password, asked for twice without echo, or read as one line where standard input is no terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip('\r\n')
    password = getpass.getpass('Password: ')
    if password != getpass.getpass('The same again: '):
        raise ValueError('the two passwords differ')
    return password


def main():
    """Run the admin command. Whatever goes wrong is said in one line, with exit status 1."""
    parser = argparse.ArgumentParser(description='Administer the database of the likes app.')
    parser.add_argument('--db', metavar='PATH', help='default: $LIKES_DB, else likes.db beside this file')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    reset = commands.add_parser('reset', help='drop everything: users, sessions and likes')
    reset.add_argument('--yes', action='store_true', help='do not ask first')
    for name, text in (
        ('adduser', 'add a user; asks for the password'),
        ('passwd', "change a user's password and end the user's sessions"),
        ('deluser', 'remove a user, with all that the user likes'),
        ('logout', "end all of a user's sessions"),
    ):
        commands.add_parser(name, help=text).add_argument('username', metavar='NAME')
    commands.add_parser('show', help='print the tables, keys shortened')
    args = parser.parse_args()
    try:
        if sys.stdout:
            sys.stdout.reconfigure(errors='replace')  # a terminal that cannot show a thing still shows the rest
        path = args.db or default_path()
        if args.command not in ('adduser', 'reset') and not os.path.exists(path):
            raise LookupError(f'there is no file {path}')
        db = COMP249Db(path)
        if args.command == 'adduser':
            add_user(db, args.username, ask_password())
        elif args.command == 'passwd':
            require_user(db, args.username)
            set_password(db, args.username, ask_password())
        elif args.command == 'deluser':
            delete_user(db, args.username)
        elif args.command == 'logout':
            end_sessions(db, args.username)
        elif args.command == 'show':
            show(db)
        elif args.yes or input('Drop all users, sessions and likes? [y/N] ').lower() in ('y', 'yes'):
            create_table(db)
        db.close()
    except (ValueError, LookupError, DatabaseError, OSError) as error:
        sys.exit(f'db.py: {error}')
    except (EOFError, KeyboardInterrupt):
        sys.exit('cancelled')


if __name__ == '__main__':
    main()
