"""What an import is answered with."""

from pydantic import BaseModel, ConfigDict, Field

from api.books.rows import Row

ERRORS_SHOWN = 1000


class RowError(BaseModel):
    """Why the row that begins at `line` was not stored; the first line is 1, which in CSV is the header."""

    line: int
    reason: str


class ImportReport(BaseModel):
    """Every row is counted once, as accepted or as rejected; `errors` holds the first 1,000 rejections."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "accepted": 2,
                    "rejected": 1,
                    "errors": [{"line": 3, "reason": "publication_date: must be a date, written YYYY-MM-DD"}],
                }
            ]
        }
    )
    accepted: int = Field(default=0, description="How many rows are stored.")
    rejected: int = Field(default=0, description="How many are not.")
    errors: list[RowError] = Field(default=[], description="Why, for each of the first 1,000.")

    def reject(self, row: Row) -> None:
        """Count a row that is no book, and say why."""
        self.rejected += 1
        self.explain(row)

    def explain(self, row: Row) -> None:
        """Say why a row that is counted already is no book, if it is none."""
        if row.reason and len(self.errors) < ERRORS_SHOWN:
            self.errors.append(RowError(line=row.line, reason=row.reason))
