"""What an import is answered with."""

from pydantic import BaseModel, ConfigDict

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
    accepted: int = 0
    rejected: int = 0
    errors: list[RowError] = []

    def reject(self, row: Row) -> None:
        """Count a row that is no book."""
        self.rejected += 1
        if len(self.errors) < ERRORS_SHOWN:
            self.errors.append(RowError(line=row.line, reason=row.reason))
