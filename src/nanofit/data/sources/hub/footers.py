"""What is read of a dataset's parquet files before their texts: footers, and the ids of rows that are to be kept out."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from nanofit.common.errors import UserError
from nanofit.data.sources.hub.client import Hub, HubFile
from nanofit.data.sources.hub.parquet_pieces import (
    Footer,
    NotParquet,
    Piece,
    UnfitColumn,
    column_index,
    column_range,
    decode,
    read_footer,
)
from nanofit.data.sources.hub.read_ahead import DaemonExecutor

TRIES = 3
"""How often bytes that can't be decoded are fetched before the file is said to be bad."""


def footer_of(hub: Hub, file: HubFile, columns: list[str]) -> Footer:
    """The footer of a file with string columns `columns`, of which the first is the text. Raises UserError."""
    for tries_left in reversed(range(TRIES)):
        try:
            return read_footer(file, partial(hub.read, file), columns)
        except NotParquet as error:
            if not tries_left:
                raise UserError(f"{file.path} of dataset {hub.repo} is not a parquet file: {error}") from None
        except UnfitColumn as error:
            # The name of a column may have come wrong.
            if not tries_left:
                raise UserError(str(error)) from None
    raise AssertionError


@dataclass
class FooterCache:
    """Footers of a dataset's files, fetched when they are asked for and kept until they are dropped."""

    hub: Hub
    files: Sequence[HubFile]
    columns: list[str]
    executor: DaemonExecutor
    _futures: dict[int, Future[Footer]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.files)

    def ask(self, file: int) -> None:
        if file not in self._futures:
            read = partial(footer_of, self.hub, self.files[file], self.columns)
            self._futures[file] = self.executor.submit(read, first=True)

    def get(self, file: int) -> Footer:
        self.ask(file)
        return self._futures[file].result()

    def drop(self, file: int) -> None:
        self._futures.pop(file, None)


def read_ids(hub: Hub, footer: Footer, piece: Piece) -> list[str]:
    """The ids of a piece's rows, from the bytes of their column alone."""
    index = column_index(footer.metadata, "id")
    ids: list[str] = []
    for group in piece.groups:
        row_group = footer.metadata.row_group(group)
        start, end = column_range(row_group.column(index))
        part = Piece(start, end, (group,), row_group.num_rows, end - start)
        ids += _ids_of(hub, footer, part)
    return ids


def _ids_of(hub: Hub, footer: Footer, part: Piece) -> list[str]:
    import pyarrow as pa

    for tries_left in reversed(range(TRIES)):
        data = hub.read(footer.file, part.start, part.end)
        try:
            return [
                each for batch in decode(footer, part, data, part.start, ["id"]) for each in batch.column(0).to_pylist()
            ]
        except (pa.ArrowException, OSError) as error:
            if not tries_left:
                raise undecodable(footer.file, error) from None
    raise AssertionError


def undecodable(file: HubFile, error: Exception) -> UserError:
    return UserError(f"{file.path} can't be decoded, however often it is fetched: {str(error).splitlines()[0]}")
