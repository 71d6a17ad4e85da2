"""The README against the code: names, options, helpers, commands run as written."""

import contextlib
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import bottle
import pytest

import app
import db as database
import sessions
from conftest import ROOT, until, use_database

README = (ROOT / 'README.md').read_text(encoding='utf-8')
MODULES = {'app': app, 'db': database, 'sessions': sessions}
TOOLS = Path(sys.executable).parent  # a tool may be installed beside Python
PATH = f'{TOOLS}{os.pathsep}{os.environ["PATH"]}'
NAMES = set(re.findall(r'`((?:app|db|sessions)\.(?!py)\w+)`', README))
INTERNET = 'Putting it on the internet'


def needs(*programs):
    """Skip a test where one of the programs is missing."""
    missing = [name for name in programs if not shutil.which(name, path=PATH)]
    return pytest.mark.skipif(bool(missing), reason=f'needs {missing}')


def section(title):
    """Return the text of a section."""
    _, _, rest = README.partition(f'\n## {title}\n')
    text, _, _ = rest.partition('\n## ')
    return text


def deployment(words):
    """Return the command about the internet that has these words in it."""
    (command,) = [block for block in blocks(INTERNET) if words in block]
    return command


def blocks(title, language='sh'):
    """Return what a section holds in code blocks of a language."""
    pattern = rf'^```{language}\n(.*?)^```'
    return re.findall(pattern, section(title), re.DOTALL | re.MULTILINE)


def start(command, path, **options):
    """Start a command of the README in the folder of the database."""
    python = f'"{sys.executable}" "{ROOT}/db.py"'
    command = command.replace('.venv/bin/python db.py', python)
    command = command.replace('/opt/likes/.venv/bin/', '')
    command = command.replace('file:///mnt', f'file://{path.parent}/mnt')
    environment = {'LIKES_DB': str(path), 'PATH': PATH, 'PYTHONUTF8': '1'}
    return subprocess.Popen(
        ['sh', '-ec', command],
        cwd=path.parent,
        env={**os.environ, **environment},
        start_new_session=True,
        **options,
    )


@contextlib.contextmanager
def running(command, path):
    """Run a command of the README until the block ends, and then kill it."""
    process = start(command, path)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def status(command, path):
    """Run a command of the README and return its exit status."""
    return start(command, path).wait(60)


def output(command, path):
    """Run a command of the README and return what it prints."""
    process = start(command, path, stdout=subprocess.PIPE)
    printed, _ = process.communicate(timeout=60)
    return printed.decode()


def matches(expected, text):
    """Return whether a text has all parts of the expected one; … stands for anything.

    Upper and lower case are the same.
    """
    rest = text.lower()
    parts = [part.strip() for part in expected.lower().split('…')]
    for part in filter(None, parts):
        _, found, rest = rest.partition(part)
        if not found:
            return False
    return True


def crash(server, patch, path):
    """End the server at once, so that its log stays behind."""
    use_database(patch, path)
    gc.collect()  # closes the connections of this process
    server.kill()


@pytest.mark.parametrize('name', sorted(NAMES))
def test_every_name_in_the_readme_exists(name):
    module, attribute = name.split('.')
    assert hasattr(MODULES[module], attribute)


def options(module):
    """Return the options that a module's --help tells."""
    command = [sys.executable, ROOT / f'{module}.py', '--help']
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(re.findall(r'--\w+', told.stdout)) - {'--help'}


@pytest.mark.parametrize('module', ['app', 'db'])
def test_every_option_is_in_the_readme(module):
    for option in options(module):
        assert f'`{option}`' in README


def test_every_command_of_db_is_in_the_readme():
    help = subprocess.run(
        [sys.executable, ROOT / 'db.py', '--help'], capture_output=True, text=True
    )
    commands = re.findall(r'^    (\w+) ', help.stdout, re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        assert re.search(f'`{command}( NAME| FILE)?`', README)


FILES = set(re.findall(r'(?:tests|views|static)/[\w./-]*|\w+\.py\b', README))


@pytest.mark.parametrize('name', sorted(FILES))
def test_every_file_in_the_readme_exists(name):
    assert (ROOT / name).exists()


@pytest.mark.parametrize('end', ['app.py', '-m pytest'])
def test_the_readme_holds_one_line_to_run_the_app_and_one_for_its_tests(end):
    lines = re.findall(f'^python3 -m venv .*{end}$', README, re.MULTILINE)
    assert len(lines) == 1


PAGE = """
<form method="post" action="/unlike">
<input type="hidden" name="thing" value="tea"><button>Unlike</button>
</form>
<form method="post" action="/unlike">
<button name="thing" value="milk">Unlike</button>
<button name="thing" value="cats">Unlike</button>
</form>"""


@pytest.fixture
def solution(browser):
    """A browser at a site whose page has the forms that exercise 1 may have."""
    browser.app = bottle.Bottle()

    @browser.app.get('/')
    def page():
        return PAGE

    @browser.app.post('/unlike')
    def unlike():
        return bottle.request.forms.thing

    return browser


@pytest.mark.parametrize('thing', ['tea', 'milk', 'cats'])
def test_submit_finds_the_form_by_its_hidden_field_or_button(solution, thing):
    assert solution.submit('/', '/unlike', thing=thing).text == thing


def test_submit_types_nothing_into_a_hidden_field_or_button(solution):
    with pytest.raises(AssertionError, match="no form to /unlike whose thing is 'tee'"):
        solution.submit('/', '/unlike', thing='tee')


def test_submit_tells_that_there_is_no_form(solution):
    with pytest.raises(AssertionError, match='no form to /undo'):
        solution.submit('/', '/undo', thing='tea')


@needs('sh', 'curl')
def test_the_experiments_show_what_the_readme_says(serve, path):
    url = serve().url
    steps = ''.join(blocks('Experiments')).replace('http://127.0.0.1:8080/', url)
    tries = re.findall(r'((?:^[^#].*\n)+)# prints: (.*)\n', steps, re.MULTILINE)
    assert len(tries) == 13
    for commands, expected in tries:
        printed = output(commands, path)
        assert matches(expected, printed), printed


REPLICATE = re.search('ExecStart=(.* replicate .*)', README)[1]


@needs('sh', 'sqlite3', 'litestream')
def test_litestream_brings_every_like_back(path, serve, browser, monkeypatch):
    restore = deployment('litestream restore')
    replica = re.search(r'file://\S+', restore)[0]
    count = f"""rm -f copy* && litestream restore -o copy.db {replica} &&
        sqlite3 copy.db 'SELECT count(*) FROM likes'"""

    def all_are_copied():
        return output(count, path).endswith('50\n')

    server = serve()
    things = [str(number) for number in range(50)]
    with running(REPLICATE, path):
        for thing in things:
            browser.like(thing)
        until(all_are_copied)
    crash(server, monkeypatch, path)
    path.unlink()
    assert status(restore, path) == 0
    assert browser.likes == things
    assert path.stat().st_mode & 0o777 == 0o600
