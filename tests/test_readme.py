"""The README against the code: its names exist, its commands run as written."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import app
import db as database
import sessions
from conftest import PASSWORD, ROOT

README = (ROOT / 'README.md').read_text(encoding='utf-8')
MODULES = {'app': app, 'db': database, 'sessions': sessions}


def section(title):
    """The text under a heading."""
    return re.search(rf'^## {title}\n(.*?)(?=^## |\Z)', README, re.DOTALL | re.MULTILINE)[1]


CHAPTER = [line.split('|')[1:4] for line in section('From the chapter to the code').splitlines() if '|' in line][2:]
NAMES = sorted({name for _, here, _ in CHAPTER for name in re.findall('`(.+?)`', here)})
NAMES += sorted(set(re.findall(r'`((?:app|db|sessions)\.(?!py)\w+)`', section('Exercises to go on with'))))


@pytest.mark.parametrize('name', NAMES)
def test_every_name_is_where_the_readme_says(name):
    module, _, attribute = name.partition('.')
    if module in MODULES:
        assert hasattr(MODULES[module], attribute)
    elif '/' in name:
        assert (ROOT / name).is_file()
    else:
        table, _, columns = name.rstrip(')').partition('(')
        db = database.COMP249Db(':memory:')
        found = [column[1] for column in db.execute('SELECT * FROM pragma_table_info(?)', (table,))]
        db.close()
        assert found == columns.split(', ')


@pytest.mark.parametrize('program', ['app.py', 'db.py'])
def test_every_option_and_command_is_in_the_readme(program):
    table = README[README.index(f'of `{program}` |') :].partition('\n\n')[0]
    help_text = subprocess.run([sys.executable, ROOT / program, '--help'], capture_output=True, text=True).stdout
    promised = set(re.findall(r'`(--\w+|\w+)', table)) - {'LIKES_DB', 'likes', 'app', 'db'} - {'--yes'}
    there = set(re.findall(r'^ {2,4}(--\w+|[a-z]+) ', help_text, re.MULTILINE))
    assert promised | {'--db'} == there


def commands(title):
    """The shell commands of a section, a block each."""
    return re.findall(r'^```sh\n(.*?)^```', section(title), re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(not (shutil.which('sh') and shutil.which('curl')), reason='needs sh and curl')
def test_the_experiments_show_what_the_readme_says(serve, path):
    url = serve().url
    environment = {**os.environ, 'LIKES_DB': str(path)}
    output, steps = '', 0
    for line in ''.join(commands('Try it')).splitlines():
        if line.startswith('# prints: '):
            expected = '.*'.join(re.escape(part.strip()) for part in line.partition(': ')[2].split('…'))
            assert re.search(expected, output, re.DOTALL | re.IGNORECASE), (line, output)
            steps += 1
            continue
        line = line.replace('http://127.0.0.1:8080/', url)
        line = line.replace('.venv/bin/python db.py', f'"{sys.executable}" "{ROOT}/db.py"')
        done = subprocess.run(['sh', '-ec', line], cwd=path.parent, env=environment, capture_output=True)
        counted_none = done.stdout == b'0\n'  # which is a failure to grep
        assert done.returncode == counted_none, (line, done.stderr)
        output = done.stdout.decode()
    assert steps == 12


@pytest.mark.skipif(not shutil.which('sqlite3'), reason='needs the sqlite3 command')
def test_the_backup_can_be_restored(path, serve, browser, other_browser):
    backup, restore, end_logins = commands('Putting it on the internet')
    server = serve()
    browser.like('tea')
    database.add_user(app.plugin.connection(), 'anna', PASSWORD)
    other_browser.log_in()
    subprocess.run(['sh', '-ec', backup], cwd=path.parent, check=True)
    browser.like('after the backup')
    server.stop()
    app.plugin.local.db.close()
    subprocess.run(['sh', '-ec', restore], cwd=path.parent, check=True)
    app.plugin.local.db = database.COMP249Db(path)
    assert browser.likes == ['tea']
    assert path.stat().st_mode & 0o777 == 0o600
    assert other_browser.username == 'anna'
    app.plugin.local.db.close()
    subprocess.run(['sh', '-ec', end_logins], cwd=path.parent, check=True)
    app.plugin.local.db = database.COMP249Db(path)
    assert other_browser.username is None
    assert browser.likes == ['tea']
    path.rename(path.with_name('elsewhere.db'))
    assert subprocess.run(['sh', '-ec', backup], cwd=path.parent).returncode
    assert path.with_name('likes-backup.db').stat().st_size > 4096  # not replaced by an empty one
