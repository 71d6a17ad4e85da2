"""Makes the screenshot in the README anew: python -m pytest tests/browser/screenshot.py"""

from conftest import ROOT

THINGS = ['tea', 'the smell of rain', 'cats', 'שוקולד', 'fresh bread', 'Sunday mornings', 'crosswords', 'القهوة']


def test_screenshot(visitor):
    visitor.like(*THINGS, 'long walks', 'a book so good that I miss my stop, and then the next one too')
    visitor.page.screenshot(path=ROOT / 'tests/browser/screenshots/home-likes-desktop-light.png')
