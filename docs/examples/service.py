"""A service with tables of its own: notes of customers, who are numbered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Text, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tenantry import Router


class Base(DeclarativeBase):
    """The service's tables."""


class Note(Base):
    """One note of a customer."""

    __tablename__ = "notes"

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    title: Mapped[str] = mapped_column(Text, primary_key=True)
    body: Mapped[str] = mapped_column(Text)


def write(router: Router, customer: int, title: str, body: str) -> None:
    """Keep a note."""
    with router.session(tenant=customer) as session:
        session.merge(Note(tenant_id=customer, title=title, body=body))


def titles(router: Router, customer: int) -> list[str]:
    """Return the titles of a customer's notes."""
    with router.session(tenant=customer) as session:
        query = select(Note.title).where(Note.tenant_id == customer).order_by(Note.title)
        return list(session.scalars(query))
