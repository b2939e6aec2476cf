"""A checked file as a picture, with what the cache has of it."""

from __future__ import annotations

from engine.build.blueprint import Project
from engine.drawing.picture import Picture
from engine.drawing.whole import draw_whole
from engine.plan.build_plan import make_plan
from engine.plan.made import load_made
from engine.state.layout import Layout
from sandboxfile import Loaded


def draw_project(loaded: Loaded, layout: Layout) -> Picture:
    """Reads the cache and the project, changes nothing. Raises EngineError as planning does."""
    project = Project.of(loaded, layout)
    chain = project.chain()
    return draw_whole(
        loaded, chain.graph, chain.ready, make_plan(chain.graph, project.store, load_made(project.memory))
    )
