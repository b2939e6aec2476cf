"""Templates with more in them."""

from __future__ import annotations

import textwrap

import pytest

from engine.starter.draft import Draft
from engine.starter.proposals import Proposal

TEMPLATE = textwrap.dedent(
    """\
    # A template.
    version: "1"

    # What works here.
    agent:
      use: some-agent
      #args: [x]

    # Packages.
    #packages: [ripgrep]

    mounts:
      - .:/workspace

    # Names.
    endpoints:
      - debian
      #- npm                            # for Node
      #- github.com
    """
)


def drafted(*proposals: Proposal) -> str:
    draft = Draft.of(TEMPLATE)
    draft.add(proposals)
    return draft.text()


def test_nothing_added_is_the_template() -> None:
    assert drafted() == TEMPLATE


def test_an_entry_of_a_list() -> None:
    text = drafted(Proposal(("endpoints",), "example.com", "from x"))
    assert text == TEMPLATE + "  - example.com                         # from x\n"


def test_what_is_there_is_not_added_again() -> None:
    assert drafted(Proposal(("endpoints",), "debian", "from x")) == TEMPLATE
    assert drafted(Proposal(("endpoints",), {"host": "debian"}, "from x")) == TEMPLATE


def test_it_takes_the_place_of_its_example() -> None:
    text = drafted(Proposal(("endpoints",), "npm", ""))
    assert "#- npm" not in text and "  #- github.com\n  - npm\n" in text


def test_a_section_that_is_left_out() -> None:
    text = drafted(Proposal(("packages",), "jq", "from y"))
    assert "# Packages.\npackages:\n  - jq                                  # from y\n\nmounts:" in text
    assert "ripgrep" not in text


def test_an_entry_that_is_left_out() -> None:
    text = drafted(Proposal(("packages",), "jq", "perhaps", active=False))
    assert "# Packages.\n#packages:\n#  - jq                                  # perhaps\n\nmounts:" in text
    text = drafted(Proposal(("packages",), "jq", "", active=False), Proposal(("packages",), "vim", ""))
    assert "packages:\n  #- jq\n  - vim\n" in text


def test_a_section_that_is_not_there() -> None:
    text = drafted(Proposal(("setup",), {"run": "make", "inputs": ["Makefile"]}, "from Makefile"))
    prose = "# Commands that prepare the machine. They run once; `up` restores their result.\n"
    step = "setup:\n  - run: make                           # from Makefile\n    inputs: [Makefile]\n"
    assert f"#packages: [ripgrep]\n\n{prose}{step}\nmounts:" in text


def test_a_mapping() -> None:
    text = drafted(Proposal(("machine", "memory"), "4GiB", "from z"), Proposal(("machine", "cpus"), 4, ""))
    assert "machine:\n  memory: 4GiB                          # from z\n  cpus: 4\n\n# Packages." in text


def test_a_key_that_is_there() -> None:
    text = drafted(Proposal(("agent", "use"), "other", ""))
    assert "agent:\n  use: other\n  #args: [x]\n" in text


def test_deeper_keys() -> None:
    text = drafted(Proposal(("agent", "env", "A"), "1", "from env"), Proposal(("agent", "env", "B"), "", ""))
    assert '  #args: [x]\n  env:\n    A: "1"                              # from env\n    B: ""\n\n' in text


def test_a_whole_section() -> None:
    assert drafted(Proposal(("name",), "shop", "")).startswith('# A template.\nversion: "1"\n\nname: shop\n\n# What')


def test_replacing_mounts() -> None:
    draft = Draft.of(TEMPLATE)
    mount = Proposal(("mounts",), {"source": ".", "target": "/w"}, "")
    draft.replace("mounts", [mount], "All of it.", ["    #hide: [.env]"])
    assert "# All of it.\nmounts:\n  - source: .\n    target: /w\n    #hide: [.env]\n\n# Names." in draft.text()
    draft = Draft.of(TEMPLATE)
    draft.replace("mounts", [], "None.")
    assert "# None.\n#mounts:\n#  - .:/workspace\n\n# Names." in draft.text()


def test_remarks_cannot_break_out() -> None:
    text = drafted(Proposal(("endpoints",), "example.com", "from \n- evil.example \x1b[2J\u202e"))
    assert "# from \\x0a- evil.example \\x1b[2J\\u202e\n" in text


@pytest.mark.parametrize(
    ("remark", "shown"),
    [
        (f"{'a' * 90}; https://acme.example/long", f"{'a' * 90}; https://acme.example/long"),
        (f"{'a' * 90}; https://acme.example/long and more", f"{'a' * 90}; https://acme.example/long"),
        (f"{'a' * 96}; {'b' * 20}", "a" * 96),
        ("a" * 200, "a" * 100),
        (f"x https://{'a' * 200}", "x"),
        ("a" * 100, "a" * 100),
    ],
)
def test_a_long_remark_ends_with_a_word(remark: str, shown: str) -> None:
    assert f"# {shown}\n" in drafted(Proposal(("endpoints",), "example.com", remark))


def test_values_cannot_break_out() -> None:
    text = drafted(Proposal(("agent", "env", "A"), "x\n  evil: 1\x1b # '\"", ""))
    assert '    A: "x\\n  evil: 1\\x1b # \'\\""\n' in text
