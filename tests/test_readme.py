"""The README against the code: its names exist, its options are all, its commands run as written."""

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import app
import db as database
import sessions
from conftest import ROOT, until, use_database

README = (ROOT / 'README.md').read_text(encoding='utf-8')
MODULES = {'app': app, 'db': database, 'sessions': sessions}
PATH = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'  # a tool may be installed beside Python
SHELL = pytest.mark.skipif(not shutil.which('curl') or not shutil.which('sqlite3'), reason='needs sh, curl and sqlite3')


def commands(title):
    """The shell commands of a section, a block each."""
    section = re.search(rf'^## {title}\n(.*?)(?=^## |\Z)', README, re.DOTALL | re.MULTILINE)[1]
    return re.findall(r'^```sh\n(.*?)^```', section, re.DOTALL | re.MULTILINE)


def sh(line, path, **options):
    """Run a command of the README in the folder of the database."""
    line = line.replace('.venv/bin/python db.py', f'"{sys.executable}" "{ROOT}/db.py"')
    line = line.replace('file:///mnt', f'file://{path.parent}/mnt')
    environment = {**os.environ, 'LIKES_DB': str(path), 'PATH': PATH, 'PYTHONUTF8': '1'}
    return subprocess.Popen(['sh', '-ec', line], cwd=path.parent, env=environment, start_new_session=True, **options)


NAMES = sorted(set(re.findall(r'`((?:app|db|sessions)\.(?!py)\w+|(?:views|tests)/[\w.]+)', README)))


@pytest.mark.parametrize('name', NAMES)
def test_every_name_is_where_the_readme_says(name):
    module, _, attribute = name.partition('.')
    assert hasattr(MODULES[module], attribute) if module in MODULES else (ROOT / name).exists()


@pytest.mark.parametrize('program', ['app.py', 'db.py'])
def test_every_option_and_command_is_in_the_readme(program):
    told = re.search(rf'^`{program}` takes (.*?)\n\n', README, re.DOTALL | re.MULTILINE)[1]
    shown = subprocess.run([sys.executable, ROOT / program, '--help'], capture_output=True, text=True).stdout
    there = set(re.findall(r'^ {2,4}(--\w+|[a-z]+) ', shown, re.MULTILINE))
    assert set(re.findall(r'`(--\w+|[a-z]+)(?: [A-Z]+)?`', told)) == there


@SHELL
def test_the_experiments_show_what_the_readme_says(serve, path):
    url, output, steps = serve().url, '', 0
    for line in ''.join(commands('Try it')).splitlines():
        if line.startswith('# prints: '):
            expected = '.*'.join(re.escape(part.strip()) for part in line.partition(': ')[2].split('…'))
            assert re.search(expected, output, re.DOTALL | re.IGNORECASE), (line, output)
            steps += 1
        else:
            done = sh(line.replace('http://127.0.0.1:8080/', url), path, stdout=subprocess.PIPE)
            output = done.communicate()[0].decode()
    assert steps == 12


@SHELL
def test_a_backup_made_while_the_app_runs_can_be_restored(path, serve, browser, monkeypatch):
    (_, _, backup, restore, *_) = commands('Putting it on the internet')
    server = serve()
    for thing in ('tea', 'milk', 'tea'):
        browser.like(thing)
    assert sh(backup, path).wait() == 0
    browser.like('after the backup')
    server.kill()
    use_database(monkeypatch, path)
    gc.collect()  # closes the connections of this process, too
    assert sh(restore, path).wait() == 0
    assert browser.likes == ['tea', 'milk']
    assert path.stat().st_mode & 0o777 == 0o600
    path.rename(path.with_name('elsewhere.db'))
    assert sh(backup, path).wait() != 0
    assert path.with_name('likes-backup.db').stat().st_size > 4096  # not replaced by nothing


@pytest.mark.skipif(not shutil.which('litestream', path=PATH), reason='litestream is not installed')
def test_litestream_brings_every_like_back(path, serve, browser, monkeypatch):
    (*_, replicate, restore) = commands('Putting it on the internet')
    server, follower = serve(), sh(replicate, path)
    for number in range(50):
        browser.like(f'{number}')
    replica = restore.split('-o likes.db ')[1].strip(' )\n')
    copy = f'rm -f copy* && litestream restore -o copy.db {replica} && sqlite3 copy.db "SELECT count(*) FROM likes"'
    until(lambda: sh(copy, path, stdout=subprocess.PIPE).communicate()[0].endswith(b'50\n'))
    os.killpg(follower.pid, signal.SIGKILL)
    server.kill()
    use_database(monkeypatch, path)
    gc.collect()
    assert sh(restore, path).wait() == 0
    assert browser.likes == [f'{number}' for number in range(50)]
    assert path.stat().st_mode & 0o777 == 0o600
