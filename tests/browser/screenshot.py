"""Makes the screenshot in the README anew:

python -m pytest tests/browser/screenshot.py
"""

from conftest import ROOT

from .conftest import only_in_chromium

PICTURE = ROOT / 'tests/browser/screenshots/home-likes-desktop-light.png'
THINGS = [
    'tea',
    'the smell of rain',
    'cats',
    'שוקולד',
    'fresh bread',
    'Sunday mornings',
    'crosswords',
    'القهوة',
    'a book so good that I miss my stop, and then the next one too',
    'long walks',
]


@only_in_chromium
def test_screenshot(visitor):
    visitor.like(*THINGS)
    visitor.page.screenshot(path=PICTURE)
