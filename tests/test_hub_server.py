"""What the hub on this machine serves in tests: files as FineWeb's are."""

from pathlib import Path

import pyarrow.parquet as pq

from hub_server import fineweb_repo

COLUMNS = ["text", "id", "dump", "url", "date", "file_path", "language", "language_score", "token_count"]


def test_a_repository_of_given_texts_has_finewebs_columns_groups_and_footer(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(25)]
    files = {"sample/10BT/000_00000.parquet": texts, "sample/10BT/001_00000.parquet": texts[:3]}
    assert fineweb_repo(tmp_path, files, rows_per_group=10, footer_padding=50_000) == tmp_path
    ids = []
    for path, written in files.items():
        with pq.ParquetFile(tmp_path / path) as file:
            assert file.schema_arrow.names == COLUMNS
            assert file.metadata.serialized_size > 50_000
            rows = file.read().to_pydict()
            assert rows["text"] == written
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            assert groups == ([10, 10, 5] if len(written) == 25 else [3])
            ids += rows["id"]
    assert len(set(ids)) == 28
