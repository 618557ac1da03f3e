"""The directory of tenants, for people and commands."""

from __future__ import annotations

from tenantry_ops.tenants.directory import create, page, show, where

__all__ = ["create", "page", "show", "where"]
