"""docs/architecture.md names every folder, and no other; links between documents lead somewhere."""

from __future__ import annotations

import re
import subprocess

import pytest
from support import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def tracked_files():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def folders_of_the_tree():
    """The folders in the first block of the page, by their indentation."""
    found, path = set(), []
    for line in PAGE.split("```text\n")[1].split("```")[0].splitlines():
        match = re.match(r"( *)([\w./-]+)/ +\S", line)
        if match and len(match[1]) % 2 == 0 and len(match[1]) <= 6:
            path = [*path[: len(match[1]) // 2], match[2]]
            found.add("/".join(path))
    return found


def test_tree_is_that_of_the_repository():
    folders = {"/".join(name.split("/")[:-1]) for name in tracked_files() if "/" in name}
    folders |= {"/".join(folder.split("/")[:depth]) for folder in folders for depth in range(1, folder.count("/") + 1)}
    shown = folders_of_the_tree()
    assert shown <= folders | {"src/leakyrelu"}
    mirrored = {folder for folder in folders if re.match(r"tests/(?!oracle|native|support|project)", folder)}
    hidden = {folder for folder in folders if folder.startswith((".", "benchmarks/results/"))} | {"src"}
    assert folders - mirrored - hidden == shown


@pytest.mark.parametrize("name", [name for name in tracked_files() if name.endswith(".md")])
def test_links_between_documents_lead_somewhere(name):
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not re.match(r"\w+:", target):
            assert ((ROOT / name).parent / target).exists(), target


def test_every_decision_is_listed():
    pages = {path.name for path in (ROOT / "docs" / "decisions").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "decisions" / "README.md").read_text())) == pages
