"""Tests of the documentation set the same stages as the end-to-end tests."""

from __future__ import annotations

from tests.e2e.conftest import module_stage, stage

__all__ = ["module_stage", "stage"]
