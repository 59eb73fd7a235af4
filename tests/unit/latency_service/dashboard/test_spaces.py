from __future__ import annotations

from latency_service.dashboard.spaces import views
from latency_service.dashboard.spaces.drawing import HEIGHT, color_of, draw
from latency_service.dashboard.spaces.graph import Graph, graph_of
from latency_service.spaces.schemas import WidthGroup
from tests.support.simulated import residual_space
from tests.support.tiny import tiny_space


def named(graph: Graph) -> dict[str, int]:
    return {box.name: index for index, box in enumerate(graph.boxes)}


def test_a_chain_has_one_box_a_row_and_no_activations() -> None:
    graph = graph_of(tiny_space())
    assert [box.name for box in graph.boxes] == ["input", "w0", "w1", "w2"]
    assert [box.row for box in graph.boxes] == [0, 1, 2, 3]
    assert [(edge.source, edge.target) for edge in graph.edges] == [(0, 1), (1, 2), (2, 3)]
    assert graph.nodes == 5


def test_layers_carry_the_group_of_their_output() -> None:
    graph = graph_of(tiny_space())
    assert [box.groups for box in graph.boxes] == [[], [0], [1], []]
    assert [box.channels for box in graph.boxes] == [None, 16, 16, 8]


def test_branches_meet_below_the_lower_one() -> None:
    graph = graph_of(residual_space())
    meetings = [box for box in graph.boxes if box.kind == "meeting"]
    assert meetings
    for edge in graph.edges:
        assert graph.boxes[edge.source].row < graph.boxes[edge.target].row


def test_members_of_a_residual_group_share_its_number() -> None:
    graph = graph_of(residual_space())
    by_group: dict[int, int] = {}
    for box in graph.boxes:
        for group in box.groups:
            by_group[group] = by_group.get(group, 0) + 1
    assert max(by_group.values()) > 1
    assert len(by_group) == len(residual_space().groups)


def test_boxes_do_not_overlap() -> None:
    drawing = draw(graph_of(residual_space()))
    places = [(drawn.x, drawn.y) for drawn in drawing.boxes]
    assert len(set(places)) == len(places)
    assert max(y for _, y in places) + HEIGHT <= drawing.height
    assert len(drawing.paths) == len(graph_of(residual_space()).edges)


def test_numbers_tell_groups_of_one_colour_apart() -> None:
    assert color_of(0) == color_of(6) != color_of(1)
    drawn = [one for one in draw(graph_of(tiny_space())).boxes if one.number]
    assert [one.number for one in drawn] == [1, 2]


def test_a_group_without_a_lattice_says_so() -> None:
    group = WidthGroup(name="stem", width=16, minimum=2, members=["conv"])
    row = views.group_row(1, group, ["conv3x3"], None)
    assert (row.lattice, row.lattice_text) == (None, "")
    assert views.group_row(1, group, [], [[4, 8, 12, 16]]).lattice_text == "4–16 by 4"


def test_shapes_of_inputs_in_words() -> None:
    assert views.input_text({"x": ["batch", 3, 32, 32]}) == "batch×3×32×32"
