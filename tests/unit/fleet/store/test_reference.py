"""The reference of the database is made from the migrations, and its examples run."""

import re
from pathlib import Path

from fleet.ports import Row, Transaction
from fleet.store.migrate import Migration, known_migrations
from fleet.store.reference import reference
from fleet.store.sqlite import memory_store

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "database.md"


def test_the_page_is_what_the_migrations_say() -> None:
    said = reference(known_migrations())
    assert PAGE.read_text() == said, "python -m fleet.store.reference > docs/reference/database.md"


async def test_every_table_and_view_is_on_the_page_with_every_column() -> None:
    async def schema(tx: Transaction, _argument: None) -> list[Row]:
        return await tx.fetch_all(
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c"
            " WHERE m.type = 'table' AND m.name <> 'schema_migrations' ORDER BY 1, 2"
        )

    async with memory_store() as store:
        found = await store.read(schema, None)
    page = PAGE.read_text()
    sections = {part.split("`")[1]: part for part in page.split("\n## ")[1:]}
    named = [(str(table), str(column)) for table, column in found]
    assert [(table, column) for table, column in named if f"| `{column}` |" not in sections[table]] == []


async def test_its_examples_run() -> None:
    async def run(tx: Transaction, sql: str) -> int:
        return len(await tx.fetch_all(sql))

    example = re.search(r"```sql\n-- what ends(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    code = re.sub(r"^--.*$", "", "-- what ends" + example[1], flags=re.MULTILINE)
    statements = [part for part in code.split(";") if part.strip()]
    async with memory_store() as store:
        assert [await store.read(run, sql) for sql in statements] == [0, 0, 0, 0]


def test_a_migration_is_split_into_its_statements() -> None:
    script = (
        "-- one; two\nCREATE TABLE a (\n    -- a column; of a\n    x TEXT\n);\nCREATE INDEX b ON a (x);\n"
    )
    migration = Migration(number=1, name="a", script=script)
    assert migration.statements() == ("CREATE TABLE a (\n    x TEXT\n)", "CREATE INDEX b ON a (x)")


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [migration.number for migration in known_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
