"""Screenshots of the pages, for people to look at: python tests/browser/screenshots.py

They are written to the folder screenshots beside this file.
"""

import os
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name('screenshots')
SIZES = {'phone': {'width': 390, 'height': 844}, 'desktop': {'width': 1280, 'height': 800}}
SHOTS = {
    'home-empty': 'home, empty',
    'home-likes': 'home, with likes',
    'home-user': 'home, logged in',
    'login': 'login',
    'login-failed': 'login, failed',
    'error': 'error',
}


@pytest.mark.parametrize('name', SHOTS)
def test_screenshots(visitor, user, name):
    from .test_looks import PAGES  # not at the top, where there is no package when this is run as a program

    PAGES[SHOTS[name]](visitor)
    FOLDER.mkdir(exist_ok=True)
    for size, viewport in SIZES.items():
        for scheme in 'light', 'dark':
            visitor.page.set_viewport_size(viewport)
            visitor.page.emulate_media(color_scheme=scheme)
            visitor.page.screenshot(path=FOLDER / f'{name}-{size}-{scheme}.png')


if __name__ == '__main__':
    os.environ['BROWSER_TESTS'] = 'required'
    sys.exit(pytest.main([__file__]))
