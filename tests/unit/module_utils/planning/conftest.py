"""Plans are made from the shipped tables, which are loaded once, as in a run of a playbook."""

from __future__ import annotations

from ansible.module_utils.tensorflow_stack.tables.load import preload_tables

from tests.conftest import REPOSITORY

preload_tables(str(REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"))
