"""Every Python example of the README and the docs runs on the laid-out fleet; every link leads."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import pytest

from tenantry import Router
from tenantry_ops.fleet import Fleet
from tenantry_ops.initialise import embedded_plan, initialise

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
EXAMPLES = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example, laid_out, tenant):
    """As it is written, with the names that its page explains."""
    names = {"catalog": laid_out.catalog_conninfo(), "acme": tenant}
    exec(compile(example, "example", "exec", dont_inherit=True), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    """Relative links, to files and to headings."""
    for target, anchor in LINK.findall(_prose(page)):
        if "://" not in target:
            led_to = (page.parent / target).resolve() if target else page
            assert led_to.exists(), target
            assert not anchor or anchor in _anchors(led_to), f"{target}#{anchor}"


def test_every_page_is_in_the_index():
    """What is not listed in docs/README.md is not found."""
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / target).resolve() for target, _ in LINK.findall(index.read_text())}
    assert {page for page in PAGES if page.is_relative_to(index.parent)} == listed | {index}


def _prose(page):
    """A page without its examples, whose brackets and comments are no links and headings."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def _anchors(page):
    """The names that a heading gets on the web."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


@pytest.mark.slow
def test_the_example_service(folder, monkeypatch, pytestconfig):
    """Tables of one's own, keyed by a number: declared once, laid out everywhere."""
    monkeypatch.syspath_prepend(ROOT)
    from docs.examples import service

    with Fleet.up(folder, replicas=0, pg_bin=pytestconfig.getoption("--pg-bin")) as fleet:
        initialise(embedded_plan(fleet, buckets=8, models="docs.examples.service:Base"))
        with Router(fleet.catalog_conninfo()) as router:
            shards = {router.where(tenant=customer).shard for customer in range(20)}
            assert len(shards) == 2
            for customer in range(20):
                service.write(router, customer, "hello", f"from {customer}")
                service.write(router, customer, "hello", "again")
            assert all(service.titles(router, it) == ["hello"] for it in range(20))
            assert service.titles(router, 99) == []


def test_keys_of_another_type_are_refused(router):
    """A fleet of UUIDs takes no numbers."""
    from tenantry import InvalidKey

    with pytest.raises(InvalidKey):
        router.where(tenant=7)
    assert router.where(tenant=uuid4()).schema.startswith("bucket_")
