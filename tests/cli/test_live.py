"""The live lines: what is written to redraw them, seen by a very small terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samara.cli.live import Live, fit


class Terminal:
    """Understands what Live writes, and nothing else."""

    def __init__(self) -> None:
        self.lines = [""]

    def write(self, text: str) -> None:
        while text:
            if text.startswith("\x1b["):
                end = next(i for i, c in enumerate(text[2:], 2) if c.isalpha())
                count, command, text = text[2:end], text[end], text[end + 1 :]
                if command == "F":
                    del self.lines[len(self.lines) - int(count) :]
                    self.lines[-1] = ""
                else:
                    assert (count, command) == ("", "J")
            elif text[0] == "\n":
                self.lines.append("")
                text = text[1:]
            else:
                self.lines[-1] += text[0]
                text = text[1:]


def test_each_drawing_replaces_the_one_before() -> None:
    live, terminal = Live(), Terminal()
    terminal.write("before\n")
    terminal.write(live.draw("10 %", width=80))
    terminal.write(live.draw("20 %\nsecond", width=80))
    terminal.write(live.draw("30 %", width=80))
    assert terminal.lines == ["before", "30 %", ""]


def test_a_message_stays_above_what_is_drawn_next() -> None:
    live, terminal = Live(), Terminal()
    terminal.write(live.draw("10 %", width=80))
    terminal.write(live.over("rejected a peer"))
    terminal.write(live.draw("20 %", width=80))
    assert terminal.lines == ["rejected a peer", "20 %", ""]


def test_nothing_drawn_means_nothing_to_take_away() -> None:
    live = Live()
    assert live.over() == ""
    live.draw("x", width=80)
    live.over()
    assert live.over() == ""


def test_a_line_is_cut_before_it_can_wrap() -> None:
    assert Live().draw("a" * 100, width=20) == "a" * 19 + "\n"


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert fit("漢字かな", 5) == "漢字"
    assert fit("e\u0301e\u0301e\u0301", 2) == "e\u0301e\u0301"


@given(st.lists(st.text(st.characters(categories=["L", "N"]), max_size=30), min_size=1, max_size=4), st.integers(2, 40))
def test_whatever_is_drawn_leaves_one_clean_line_when_it_is_over(lines: list[str], width: int) -> None:
    live, terminal = Live(), Terminal()
    for line in lines:
        terminal.write(live.draw(line, width=width))
    terminal.write(live.over())
    assert terminal.lines == [""]
