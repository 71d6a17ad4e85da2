"""Makes the screenshots in the README anew:

python -m pytest tests/browser/screenshot.py

ImageMagick has made the second one smaller: `convert -dither None -colors 64`.
"""

from conftest import ROOT

from .conftest import only_in_chromium

FOLDER = ROOT / 'tests/browser/screenshots'
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
    visitor.page.screenshot(path=FOLDER / 'home-likes-desktop-light.png')


@only_in_chromium
def test_screenshot_of_the_panel(visitor):
    visitor.use_debug()
    visitor.page.set_viewport_size({'width': 900, 'height': 600})
    visitor.like('tea')
    picture = FOLDER / 'panel-desktop-light.png'
    visitor.page.screenshot(path=picture, full_page=True)
