"""What does not fit into buckets is refused with the table, the column, the reason and the mend."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from tenantry_schema.errors import InvalidSchema
from tenantry_schema.layout import Layout

REFERENCE = {"tenantry": {"reference": True}}


def tenant(kind=Uuid):
    return Column("tenant_id", kind, primary_key=True)


def key(name="id", kind=Uuid):
    return Column(name, kind, primary_key=True)


def at(**options):
    return Column("at", DateTime(timezone=True), **{"primary_key": True, **options})


def notes(*parts, name="notes", **info):
    """A table of this name, and beside it one that fits, which it may refer to."""

    def make():
        metadata = MetaData()
        Table("homes", metadata, tenant(), key())
        Table(name, metadata, *parts, info={"tenantry": info} if info else {})
        return metadata

    return make


def only(*parts, **options):
    def make():
        metadata = MetaData()
        Table("notes", metadata, *parts, **options)
        return metadata

    return make


def to_homes(**options):
    columns = ["tenant_id", "home"], ["homes.tenant_id", "homes.id"]
    return ForeignKeyConstraint(*columns, **options)


# What does not fit, what the refusal has to say of it, and the mend.
RULES = {
    "key without tenant": (
        notes(key()),
        "table 'notes': the primary key must begin with tenant_id, but is ['id']",
        "put tenant_id first, or make it a reference table",
    ),
    "tenant second": (
        notes(key(), tenant()),
        "table 'notes': the primary key must begin with tenant_id, but is ['id', 'tenant_id']",
        "put tenant_id first",
    ),
    "no key": (
        notes(Column("body", Text)),
        "table 'notes': the primary key must begin with tenant_id, but is missing",
        "put tenant_id first",
    ),
    "bucket": (
        notes(tenant(), Column("bucket", Integer)),
        "table 'notes': a column named 'bucket' is made by tenantry",
        "rename yours",
    ),
    "unique constraint": (
        notes(tenant(), key(), Column("name", Text), UniqueConstraint("name")),
        "table 'notes': unique constraint on ['name'] must contain tenant_id",
        "put it first",
    ),
    "unique column": (
        notes(tenant(), key(), Column("name", Text, unique=True)),
        "table 'notes': unique constraint on ['name'] must contain tenant_id",
        "put it first",
    ),
    "unique index": (
        notes(tenant(), Column("name", Text), Index("notes_name_idx", "name", unique=True)),
        "table 'notes': unique index notes_name_idx must contain tenant_id",
        "put it first",
    ),
    "identity": (
        notes(tenant(), key("number", BigInteger), Column("n", BigInteger, Identity())),
        "table 'notes': column 'n' counts by itself",
        "make ids in the client",
    ),
    "autoincrement": (
        notes(tenant(), Column("id", BigInteger, primary_key=True, autoincrement=True)),
        "table 'notes': column 'id' counts by itself",
        "make ids in the client",
    ),
    "foreign key without tenant": (
        notes(tenant(), Column("home", Uuid), ForeignKeyConstraint(["home"], ["homes.id"])),
        "table 'notes': foreign key on ['home'] to homes must pair tenant_id with tenant_id",
        "put it first on both sides",
    ),
    "foreign key that crosses": (
        notes(
            tenant(),
            Column("home", Uuid),
            ForeignKeyConstraint(["home", "tenant_id"], ["homes.tenant_id", "homes.id"]),
        ),
        "table 'notes': foreign key on ['home', 'tenant_id'] to homes must pair tenant_id",
        "put it first on both sides",
    ),
    "on delete": (
        notes(tenant(), Column("home", Uuid), to_homes(ondelete="SET NULL")),
        "table 'notes': foreign key to homes: ON DELETE SET NULL would unset tenant_id",
        "take CASCADE or RESTRICT",
    ),
    "on update": (
        notes(tenant(), Column("home", Uuid), to_homes(onupdate="set default")),
        "table 'notes': foreign key to homes: ON UPDATE set default would unset tenant_id",
        "take CASCADE or RESTRICT",
    ),
    "foreign key to nowhere": (
        notes(tenant(), Column("colour", Text, ForeignKey("colours.name"))),
        "table 'notes': foreign key to colours.name, which the MetaData does not have",
        "declare it there, or remove the key",
    ),
    "foreign key to no column": (
        notes(tenant(), Column("home", Uuid, ForeignKey("homes.number"))),
        "table 'notes': foreign key to homes.number, which the MetaData does not have",
        "declare it there, or remove the key",
    ),
    "reference to a bucket": (
        notes(
            key(),
            Column("tenant", Uuid),
            Column("home", Uuid),
            ForeignKeyConstraint(["tenant", "home"], ["homes.tenant_id", "homes.id"]),
            reference=True,
        ),
        "table 'notes': a reference table is outside of the buckets, but has a foreign key to",
        "remove the key, or make homes a reference table",
    ),
    "name of ours": (
        notes(tenant(), name="operation_keys"),
        "table 'operation_keys': a table of this name is made by tenantry",
        "rename yours",
    ),
    "schema": (
        only(tenant(), schema="shop"),
        "table 'notes': no schema may be named, but it names 'shop'",
        "remove it",
    ),
    "long table": (
        notes(tenant(), name="n" * 51),
        f"table '{'n' * 51}': name '{'n' * 51}' must be ASCII of at most 50 bytes",
        "rename it",
    ),
    "odd column": (
        notes(tenant(), Column("größe", Text)),
        "table 'notes': name 'größe' must be ASCII of at most 50 bytes",
        "rename it",
    ),
    "column with NUL": (
        notes(tenant(), Column("a\0b", Text)),
        "table 'notes': name 'a\\x00b' must be ASCII of at most 50 bytes",
        "rename it",
    ),
    "long index": (
        notes(tenant(), Index("i" * 51, "tenant_id")),
        f"table 'notes': name '{'i' * 51}' must be ASCII",
        "rename it",
    ),
    "long constraint": (
        notes(tenant(), key(), UniqueConstraint("tenant_id", name="u" * 51)),
        f"table 'notes': name '{'u' * 51}' must be ASCII",
        "rename it",
    ),
    "type of tenants": (
        notes(tenant(Integer), key()),
        "table 'notes': tenant_id must be Uuid, BigInteger or Text, not Integer()",
        "declare it as one",
    ),
    "two types of tenants": (
        notes(tenant(Text), key()),
        "tenant_id must have one type in all tables, but has {'homes': 'uuid', 'notes': 'text'}",
        "declare it alike",
    ),
    "no tenants": (
        only(key(), info=REFERENCE),
        "the MetaData has no table with tenant_id first in its primary key",
        "declare one",
    ),
    "time column that is none": (
        notes(tenant(), key(), time="at"),
        "table 'notes': time column 'at' must be a DateTime(timezone=True)",
        "declare it so, or name another one in its info",
    ),
    "time without a zone": (
        notes(tenant(), Column("at", DateTime, primary_key=True), time="at"),
        "table 'notes': time column 'at' must be a DateTime(timezone=True)",
        "declare it so",
    ),
    "time outside of the key": (
        notes(tenant(), at(primary_key=False), time="at"),
        "table 'notes': time column 'at' must be part of the primary key",
        "add it behind tenant_id",
    ),
    "time with a foreign key": (
        notes(tenant(), at(), Column("home", Uuid), to_homes(), time="at"),
        "table 'notes': a table partitioned by time has no foreign keys",
        "remove them",
    ),
    "time with storage": (
        notes(tenant(), at(), time="at", storage={"fillfactor": 80}),
        "table 'notes': a table partitioned by time has neither storage nor worker columns",
        "take them out of its info",
    ),
    "interval": (
        notes(tenant(), at(), time="at", interval="7"),
        "table 'notes': its interval: '7' has no unit",
        "write '7 days'",
    ),
    "name of a storage parameter": (
        notes(tenant(), storage={"a = 1) --": 1}),
        "table 'notes': storage takes a parameter's name and a number, not 'a = 1) --': 1",
        "write such as {'fillfactor': 80}",
    ),
    "value of a storage parameter": (
        notes(tenant(), storage={"fillfactor": "80"}),
        "table 'notes': storage takes a parameter's name and a number, not 'fillfactor': '80'",
        "write such as {'fillfactor': 80}",
    ),
    "worker": (
        notes(tenant(), worker=("due_at",)),
        "table 'notes': the worker may read 'due_at', which is no column",
        "correct its name in the info",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_what_does_not_fit_is_refused_with_its_mend(rule):
    """One thing is wrong with each, so another rule cannot be what refuses it."""
    made, reason, mend = RULES[rule]
    with pytest.raises(InvalidSchema, match=f"^{re.escape(reason)}.*{re.escape(mend)}") as caught:
        Layout.from_metadata(made())
    assert "\n" not in str(caught.value)


FITS = {
    "unique within a tenant": notes(
        tenant(), key(), Column("name", Text), UniqueConstraint("tenant_id", "name")
    ),
    "foreign key with its tenant": notes(
        tenant(), Column("home", Uuid), to_homes(ondelete="CASCADE")
    ),
    "by time": notes(tenant(), at(), time="at", interval="1 day"),
    "kept tightly": notes(tenant(), key(), at(), storage={"fillfactor": 80}, worker=("at",)),
    "longest name": notes(tenant(), name="n" * 50),
}


@pytest.mark.parametrize("case", FITS)
def test_what_fits_is_laid_out(case):
    """The nearest thing to each refusal that may be done."""
    assert len(Layout.from_metadata(FITS[case]()).bucketed) == 3


def test_a_reference_may_count_by_itself_and_be_referred_to():
    """It is the same on every shard: no id of it is made in two places."""
    metadata = MetaData()
    Table("colours", metadata, Column("id", Integer, primary_key=True), info=REFERENCE)
    Table("notes", metadata, tenant(), Column("colour", Integer, ForeignKey("colours.id")))
    (colours,) = Layout.from_metadata(metadata).references
    assert colours.name == "colours"
