"""A service's models before and after a change, and its package of revisions, for the tests."""

from __future__ import annotations

import sys
from importlib import import_module

from tenantry_ops.migrate.revision import write_fleet_revision

MODELS = """
from datetime import datetime
from uuid import UUID
from sqlalchemy import (
    CheckConstraint, DateTime, ForeignKeyConstraint, Index, MetaData, Text, UniqueConstraint, func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData(info={"tenantry": {"migrations": "PACKAGE.revisions"}})


class Owner(Base):
    __tablename__ = "tenants"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)


class Colour(Base):
    __tablename__ = "colours"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    __table_args__ = {"info": {"tenantry": {"reference": True}}}


class Event(Base):
    __tablename__ = "events"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    __table_args__ = (EVENT_INDEX{"info": {"tenantry": {"time": "at"}}},)


class Note(Base):
    __tablename__ = "notes"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(Text)
NOTE_CHANGED

CHANGED
"""
NOTE_BEFORE = """
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="notes_tenant_fkey"),
    )
"""
NOTE_AFTER = """
    colour: Mapped[str] = mapped_column(Text, server_default="red")
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.tenant_id"], name="notes_tenant_fkey"),
        CheckConstraint("length(body) < 100", name="notes_body_check"),
        UniqueConstraint("tenant_id", "body", name="notes_body_key"),
        Index("notes_colour_idx", "tenant_id", "colour"),
    )
"""
ADDED = """
class Tag(Base):
    __tablename__ = "tags"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    note_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    colour: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        ForeignKeyConstraint(["colour"], ["colours.name"], name="tags_colour_fkey"),
        ForeignKeyConstraint(
            ["tenant_id", "note_id"], ["notes.tenant_id", "notes.id"], name="tags_note_fkey"
        ),
        Index("tags_name_idx", "tenant_id", "name"),
    )
"""
EVENT_INDEX = 'Index("events_kind_idx", "tenant_id", "kind"), '

#: What autogenerate does not write by itself, because only buckets have it.
BY_HAND = """
    op.create_bucketed_check("notes_body_check", "notes", "length(body) < 100")
    op.create_bucketed_unique("notes_body_key", "notes", ["tenant_id", "body"])
    op.create_bucketed_index("notes_colour_idx", "notes", ["tenant_id", "colour"])
    op.create_bucketed_index("events_kind_idx", "events", ["tenant_id", "kind"])
"""


def write(folder, package, *, changed):
    """Write the models' module as it is before or after the change."""
    text = MODELS.replace("PACKAGE", package)
    text = text.replace("EVENT_INDEX", EVENT_INDEX if changed else "")
    text = text.replace("NOTE_CHANGED", NOTE_AFTER if changed else NOTE_BEFORE)
    text = text.replace("\nCHANGED\n", ADDED if changed else "")
    home = folder / package
    (home / "revisions").mkdir(parents=True, exist_ok=True)
    for init in (home, home / "revisions"):
        (init / "__init__.py").touch()
    (home / "models.py").write_text(text)


def author(catalog):
    """Write the change as a revision: what autogenerate finds, and what it leaves to its author."""
    path = write_fleet_revision(catalog, "colour notes")
    text = path.read_text()
    head, down, tail = text.partition("\n\n\ndef downgrade")
    path.write_text(head + BY_HAND + down + tail)
    return path


def forget(package):
    """Let the next import read the files anew."""
    for name in [it for it in sys.modules if it.split(".")[0] == package]:
        del sys.modules[name]
    import_module("importlib").invalidate_caches()
