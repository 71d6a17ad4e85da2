"""The database: its tables, every SQL statement, passwords at rest, and the admin command (`python db.py --help`).

What reads or writes data takes the connection `db` first; what changes data does so in a transaction,
`with writing(db):`. Times are seconds since 1970, handed in by the caller. Nothing here knows of HTTP.
"""

import argparse
import getpass
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from sqlite3 import Connection, DatabaseError, OperationalError  # noqa: F401 (the last is for app.py)
from unicodedata import normalize

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

if os.name != 'nt':  # Windows has no flock
    import fcntl

APPLICATION_ID = 0x4C696B65  # 'Like' in ASCII; tells our files from other programs' (SQLite, PRAGMA application_id)
SCHEMA_VERSION = 2
MAX_LIKES = 1000  # things on one list
MAX_USERNAME = 100  # characters
MIN_PASSWORD = 8  # characters (OWASP ASVS 5.0, 6.2.1)

# A like has one owner: the session `key` while that is anonymous, else the user. The two unique indexes make a repeated
# like (a double click) a no-op, and find what get_likes asks for: without them every page gets slower with every like
# that anybody stores. The column `id` keeps the order: an implicit rowid may change in a VACUUM.
SCHEMA = f"""
    DROP TABLE IF EXISTS likes;
    DROP TABLE IF EXISTS sessions;
    DROP TABLE IF EXISTS users;
    DROP TABLE IF EXISTS failed_logins;
    CREATE TABLE users (username TEXT NOT NULL PRIMARY KEY, password TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE sessions (
        key TEXT NOT NULL PRIMARY KEY,
        username TEXT REFERENCES users ON DELETE CASCADE,
        expires REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX sessions_of_user ON sessions (username) WHERE username IS NOT NULL;
    CREATE INDEX sessions_by_expiry ON sessions (expires);
    CREATE TABLE likes (
        id INTEGER PRIMARY KEY,
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
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = {SCHEMA_VERSION}
"""


def default_path():
    """Return the path of the database: LIKES_DB of the environment, else likes.db beside this file."""
    return Path(os.environ.get('LIKES_DB', Path(__file__).with_name('likes.db'))).resolve()


class COMP249Db(Connection):
    """A connection to the database at `path`, default_path() if that is None; ':memory:' is one of its own.

    A missing file is made, with its tables. Raises DatabaseError (not ours), OperationalError or OSError (cannot open).
    """

    def __init__(self, path=None):
        if path != ':memory:':
            path = default_path() if path is None else Path(path).resolve()
            path.touch(0o600)  # SQLite itself would let everybody read a new file, and it holds session keys
        self.path = path
        # No implicit transactions: they begin after a write's reads. A pool lends a connection to thread after thread.
        super().__init__(path, isolation_level=None, check_same_thread=False)
        with _turn(path):  # several processes may start at once
            kind = self.execute(
                'SELECT * FROM pragma_application_id, pragma_user_version, (SELECT count(*) FROM sqlite_master)'
            ).fetchone()  # (application id, version, number of tables and indexes)
            if kind != (0, 0, 0) and kind[:2] != (APPLICATION_ID, SCHEMA_VERSION):
                raise DatabaseError('this is a database of another program, or of another version of this one')
            self.execute('PRAGMA journal_mode = WAL')  # readers and the writer do not wait for each other
            if kind == (0, 0, 0):
                self.execute('BEGIN')  # not writing(): it would wait for our own turn
                create_table(self)
                self.execute('COMMIT')
        self.execute('PRAGMA synchronous = FULL')  # an answered write survives a power cut
        self.execute('PRAGMA wal_autocheckpoint = 4000')  # pages; a checkpoint costs two syncs in somebody's request
        self.execute('PRAGMA foreign_keys = ON')

    __enter__ = None  # makes `with db:` an error: in sqlite3 it begins no transaction; see writing()


def _turn(path):
    """Wait until no other connection of this app writes; the context manager returned ends the turn.

    The kernel wakes those who wait one by one; with SQLite's own waiting, one in 100 waits for most of a second.
    And SQLite before 3.51.3 can lose a write made during a checkpoint, which a commit may start (its "WAL-reset bug").
    """
    if os.name == 'nt' or path == ':memory:':
        return nullcontext()
    lock = open(os.open(f'{path}-lock', os.O_CREAT, 0o600), 'rb', buffering=0)  # noqa: SIM115 (the caller closes it)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


@contextmanager
def writing(db):
    """Run a `with` block as one transaction, or as a part of the one around it: commit at its end, or roll back.

    It takes the write lock at once: nothing can come between a read and the write that depends on it.
    """
    if db.in_transaction:
        yield
        return
    with _turn(db.path):
        db.execute('BEGIN IMMEDIATE')
        try:
            yield
            db.execute('COMMIT')
        except BaseException:
            db.rollback()
            raise


def create_table(db):
    """Create the tables, dropping them first with all that they hold."""
    with writing(db):
        for statement in SCHEMA.split(';'):
            db.execute(statement)


def store_like(db, key, like):
    """Store a like of the session `key`, or of the user logged in with it. What is liked already stays as it is."""
    with writing(db):
        username = get_user(db, key)
        values = (like, None if username else key, username)
        db.execute('INSERT OR IGNORE INTO likes (thing, key, username) VALUES (?, ?, ?)', values)


def get_likes(db, key):
    """Return the list of things, as str in the order liked, of the session `key` or of the user logged in with it."""
    query = 'SELECT thing FROM likes WHERE key = ? OR username = (SELECT username FROM sessions WHERE key = ?) '
    return [thing for (thing,) in db.execute(query + 'ORDER BY id', (key, key))]


def move_likes(db, key, username):
    """Make the likes of the anonymous session `key` the user's, as many as there is room for; the rest end with it."""
    with writing(db):
        liked = {thing for (thing,) in db.execute('SELECT thing FROM likes WHERE username = ?', (username,))}
        new = [thing for thing in get_likes(db, key) if thing not in liked]
        for thing in new[: MAX_LIKES - len(liked)]:
            db.execute('UPDATE likes SET key = NULL, username = ? WHERE key = ? AND thing = ?', (username, key, thing))


def forget_likes(db, key):
    """Remove all likes of the session `key`, or of the user logged in with it."""
    with writing(db):
        db.execute('DELETE FROM likes WHERE key = ? OR username = ?', (key, get_user(db, key)))


def add_session(db, key, username, now, lifetime):
    """Store a session: the user's, or an anonymous one if `username` is None. Removes a few that have expired."""
    with writing(db):
        db.execute('INSERT INTO sessions (key, username, expires) VALUES (?, ?, ?)', (key, username, now + lifetime))
        # A few only, so that no visitor waits for long: each may have a whole list of likes.
        db.execute('DELETE FROM sessions WHERE key IN (SELECT key FROM sessions WHERE expires <= ? LIMIT 3)', (now,))


def get_expires(db, key):
    """Return the time at which the session `key` ends, None if there is no such session."""
    row = db.execute('SELECT expires FROM sessions WHERE key = ?', (key,)).fetchone()
    return row[0] if row else None


def get_user(db, key):
    """Return the name of the user who is logged in with the session `key`, None if there is none."""
    row = db.execute('SELECT username FROM sessions WHERE key = ?', (key,)).fetchone()
    return row[0] if row else None


def extend_session(db, key, expires):
    """Set the time at which the session `key` ends, if it is anonymous."""
    with writing(db):
        db.execute('UPDATE sessions SET expires = ? WHERE key = ? AND username IS NULL', (expires, key))


def end_session(db, key):
    """Remove the session `key`, and with an anonymous one its likes (ON DELETE CASCADE)."""
    with writing(db):
        db.execute('DELETE FROM sessions WHERE key = ?', (key,))


HASHER = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)  # Argon2id as OWASP recommends it: 19 MiB
HASHING = ThreadPoolExecutor(1)  # one thread, since each keeps the memory of a hash for its next one
# Stands in for an unknown user's hash, so that the answer takes as long as for a wrong password (ASVS 6.3.8).
NOBODYS_HASH = HASHER.hash(secrets.token_bytes())


def normal_name(text):
    """Return a username in the form in which it is stored (Unicode NFC): some keyboards send é as two characters."""
    return normalize('NFC', text.strip())


def get_password_hash(db, username):
    """Return the stored hash of the user's password, None if there is no such user."""
    row = db.execute('SELECT password FROM users WHERE username = ?', (username,)).fetchone()
    return row[0] if row else None


def check_password(db, username, password):
    """Return the stored hash if `password` is the user's, else None. 20 ms: log_in calls it outside any transaction."""
    stored = get_password_hash(db, username)
    with suppress(VerifyMismatchError):
        HASHING.submit(HASHER.verify, stored or NOBODYS_HASH, password).result()
        return stored


def renew_password_hash(db, username, password):
    """Hash the user's password again if it was hashed with other parameters than today's."""
    if HASHER.check_needs_rehash(get_password_hash(db, username)):
        with writing(db):
            db.execute('UPDATE users SET password = ? WHERE username = ?', (HASHER.hash(password), username))


def add_user(db, username, password):
    """Store a new user. Raises ValueError for a name or password that cannot be, or a name that is taken."""
    username = normal_name(username)
    if not (username.isprintable() and 0 < len(username) <= MAX_USERNAME):
        raise ValueError(f'a username is 1 to {MAX_USERNAME} printable characters')
    with writing(db):
        if get_password_hash(db, username) is not None:
            raise ValueError(f'there is a user {username!r} already')
        db.execute("INSERT INTO users (username, password) VALUES (?, '')", (username,))
        set_password(db, username, password)


def set_password(db, username, password):
    """Set the user's password, end the user's sessions and forget failed logins. Raises ValueError if it is short."""
    if len(password) < MIN_PASSWORD:
        raise ValueError(f'a password needs at least {MIN_PASSWORD} characters')
    with writing(db):
        db.execute('UPDATE users SET password = ? WHERE username = ?', (HASHER.hash(password), username))
        end_sessions(db, username)
        remove_failed_logins(db, username)


def delete_user(db, username):
    """Remove the user, with the user's sessions and likes (ON DELETE CASCADE)."""
    with writing(db):
        db.execute('DELETE FROM users WHERE username = ?', (username,))


def end_sessions(db, username):
    """End all sessions of the user."""
    with writing(db):
        db.execute('DELETE FROM sessions WHERE username = ?', (username,))


def add_failed_login(db, username, at, since):
    """Store that a login with this name, known or not, has failed; return the times of all such, oldest first."""
    with writing(db):
        db.execute('DELETE FROM failed_logins WHERE at <= ? OR at > ?', (since, at))  # old, or of a clock set back
        db.execute('INSERT INTO failed_logins (username, at) VALUES (?, ?)', (username, at))
        return [at for (at,) in db.execute('SELECT at FROM failed_logins WHERE username = ? ORDER BY at', (username,))]


def remove_failed_logins(db, username):
    """Remove the failed logins with this name."""
    with writing(db):
        db.execute('DELETE FROM failed_logins WHERE username = ?', (username,))


def show(db):
    """Print the tables. Keys and hashes are cut short: whoever reads a whole key can use the session."""
    for table, query in (
        ('users', 'SELECT username, substr(password, 1, 20) FROM users'),
        ('sessions', "SELECT substr(key, 1, 8), username, datetime(expires, 'unixepoch', 'localtime') FROM sessions"),
        ('likes', 'SELECT thing, substr(key, 1, 8), username FROM likes ORDER BY id'),
        ('failed_logins', "SELECT username, datetime(at, 'unixepoch', 'localtime') FROM failed_logins"),
    ):
        rows = db.execute(query).fetchall()
        print(f'{table}: {len(rows)}')
        for row in rows:  # names of failed logins come from anybody, and could play tricks on the terminal
            print('   ', *['-' if text is None else text if text.isprintable() else ascii(text) for text in row])


def ask_password():
    """Return a new password, asked for twice without echo, or read as one line where standard input is no terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip('\r\n')
    password = getpass.getpass('Password: ')
    if password != getpass.getpass('The same again: '):
        raise ValueError('the two passwords differ')
    return password


def main():
    """Run the admin command. An error is told in one line, with exit status 1 (wrong arguments: 2)."""
    parser = argparse.ArgumentParser(description='Administer the database of the likes app.')
    parser.add_argument('--db', default=default_path(), metavar='PATH', help='default: $LIKES_DB, or beside app.py')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, text in (
        ('adduser', 'add a user; asks for the password'),
        ('passwd', "change a user's password and end the user's sessions"),
        ('deluser', 'remove a user, with all that the user likes'),
        ('logout', "end all of a user's sessions"),
    ):
        commands.add_parser(name, help=text).add_argument('username', metavar='NAME', type=normal_name)
    commands.add_parser('show', help='print the tables, keys shortened')
    commands.add_parser('reset', help='drop everything; asks first').add_argument('--yes', action='store_true')
    args = parser.parse_args()
    try:
        if args.command not in ('adduser', 'reset') and not os.path.exists(args.db):
            raise LookupError(f'there is no file {args.db}')
        with closing(COMP249Db(args.db)) as db:
            if args.command == 'show':
                show(db)
            elif args.command == 'reset':
                if args.yes or input('Drop all users, sessions and likes? [y/N] ').lower() in ('y', 'yes'):
                    create_table(db)
            elif args.command == 'adduser':
                add_user(db, args.username, ask_password())
            elif get_password_hash(db, args.username) is None:
                raise LookupError(f'there is no user {args.username!r}')
            elif args.command == 'passwd':
                set_password(db, args.username, ask_password())
            elif args.command == 'deluser':
                delete_user(db, args.username)
            else:
                end_sessions(db, args.username)
    except (ValueError, LookupError, DatabaseError, OSError, EOFError) as error:
        sys.exit(f'db.py: {error}')


if __name__ == '__main__':
    main()
