from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from features.explanation import Explanation, FeaturePart, ModePart
from training import plots

LONG = (
    "not known (no session of known length in 7 days, or no source is known to tell it): sessions of known length in 7 days "
    "that were closed quickly with nothing completed"
)


@pytest.mark.parametrize("sentence", ["last used 3 days ago", LONG])
def test_the_bars_of_an_explanation_have_room_beside_the_longest_sentence(sentence):
    modes = (ModePart("surface_use", "use that stays on the surface", 1.2, sentence),)
    features = tuple(FeaturePart(f"feature_{number}", None, 1.2 - number / 5, sentence) for number in range(12))
    figure = plots.explanation(Explanation("acme/s-1", -2.0, 1.0, modes, features))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert [axis.get_position().width > 0.5 for axis in figure.axes] == [True, True]
    boxes = [label.get_window_extent() for label in figure.axes[1].get_yticklabels()]
    assert all(above.y0 >= below.y1 for below, above in pairwise(boxes))
    assert all(box.x0 >= 0 for box in boxes)
