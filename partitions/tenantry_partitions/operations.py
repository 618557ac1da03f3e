"""Alembic operations: ``op.create_time_partitioned_table(…)`` and ``op.set_partition_policy(…)``.

Importing this registers them; ``tenantry migrate`` does. They are plain SQL: a migration runs the
same with and without pg_partman. Partitions themselves come and go with time, not with revisions:
only the first ones are made here, so that rows have a place until the first rollover.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from psycopg import sql
from sqlalchemy.dialects import postgresql

from tenantry_partitions.encoding import default_encoding
from tenantry_partitions.planner import plan
from tenantry_partitions.policies import policy_statements, split_name
from tenantry_partitions.policy import Policy
from tenantry_partitions.state import TableState
from tenantry_partitions.statements import create_partition

if TYPE_CHECKING:
    from sqlalchemy.schema import SchemaItem

    from tenantry_schema.query import Statement


@Operations.register_operation("set_partition_policy")
class SetPartitionPolicy(MigrateOperation):
    """Set the policy of a table's time partitions."""

    def __init__(self, name: str, **policy: Any) -> None:
        self.name = name
        self.policy = Policy.parse(policy)

    @classmethod
    def set_partition_policy(cls, operations: Operations, name: str, **policy: Any) -> None:
        """Set the policy of a table's time partitions, in the migrated database.

        :param name: ``schema.table``, or the bare name of a table of every bucket
        :param policy: ``control``, ``interval`` and whatever else a policy has
        :raises InvalidConfig: for a policy that cannot be
        """
        operations.invoke(cls(name, **policy))


@Operations.register_operation("create_time_partitioned_table")
class CreateTimePartitionedTable(MigrateOperation):
    """Make a table that is partitioned by time, its policy and its first partitions."""

    def __init__(self, name: str, *elements: SchemaItem, **policy: Any) -> None:
        self.name = name
        self.elements = elements
        self.policy = Policy.parse(policy)

    @classmethod
    def create_time_partitioned_table(
        cls, operations: Operations, name: str, *elements: SchemaItem, **policy: Any
    ) -> None:
        """Make a table that is partitioned by time, its policy and its first partitions.

        For a table of every bucket use ``op.create_bucketed_table`` instead.

        :param name: ``schema.table``
        :param elements: columns, constraints and indexes as for ``sqlalchemy.Table``
        :param policy: as for ``op.set_partition_policy``
        :raises InvalidConfig: for a policy or a name that cannot be
        """
        operations.invoke(cls(name, *elements, **policy))


@Operations.implementation_for(SetPartitionPolicy)
def _set(operations: Operations, operation: SetPartitionPolicy) -> None:
    _run(operations, policy_statements(operation.name, operation.policy))


@Operations.implementation_for(CreateTimePartitionedTable)
def _create(operations: Operations, operation: CreateTimePartitionedTable) -> None:
    schema, table = split_name(operation.name)
    policy = operation.policy
    made = operations.create_table(
        table,
        *operation.elements,
        schema=schema,
        postgresql_partition_by=f"RANGE ({sql.Identifier(policy.control).as_string(None)})",
    )
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    column_type = made.c[policy.control].type.compile(dialect=dialect)
    encoding = policy.encoding or default_encoding(column_type.lower())
    now = datetime.now(UTC) if operations.get_context().as_sql else _server_time(operations)
    names = [schema] if schema is not None else []
    parent = sql.Identifier(*names, table)
    _run(
        operations,
        [
            *(
                create_partition(
                    parent, sql.Identifier(*names, it.partition), (it.start, it.end), encoding
                )
                for it in plan(policy, TableState(schema or "", table), now).steps
            ),
            *policy_statements(operation.name, policy),
        ],
    )


def _server_time(operations: Operations) -> datetime:
    found = operations.get_bind().exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    assert isinstance(found, datetime)
    return found


def _run(operations: Operations, statements: list[Statement]) -> None:
    for statement in statements:
        # A colon would be taken for a parameter, a per cent sign for the driver's.
        text = statement.as_string(None).replace(":", "\\:")
        operations.execute(text)
