"""A checked file as a picture, which shows what the cache has already."""

from __future__ import annotations

from engine.build.blueprint import Blueprint
from engine.drawing.picture import Picture
from engine.drawing.whole import draw_whole
from engine.state.layout import Layout
from sandboxfile import Loaded


def draw_file(loaded: Loaded, layout: Layout) -> Picture:
    """The picture of a file's sandbox. Reads the cache and the project. Raises EngineError as planning does."""
    blueprint = Blueprint.of(loaded, layout)
    return draw_whole(loaded, blueprint.chain.graph, blueprint.chain.ready, blueprint.plan)
