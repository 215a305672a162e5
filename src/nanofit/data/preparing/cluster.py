"""Shards from a cluster: a pipeline step for datatrove, which runs it on Slurm, on Ray or on one machine.

Every task writes the documents that reach it as shards of its own; `python -m nanofit.data.preparing.cluster merge` makes one set of
them (`merging.py`). docs/cluster.md has an example of each.
"""

import os
from collections.abc import Iterable
from pathlib import Path

if __name__ == "__main__":  # before datatrove, which a machine that only merges need not have
    import sys

    from nanofit.data.preparing.merging import main

    sys.exit(main())

from nanofit.common.errors import UserError
from nanofit.common.events import Event, Note
from nanofit.data.preparing.ranks import RankWriter, batches
from nanofit.data.tokenizing.engines import reference_engine

try:
    from datatrove.data import Document
    from datatrove.pipeline.base import PipelineStep
    from datatrove.utils.logging import logger
except ImportError as missing:
    raise UserError(
        f"nanofit.data.preparing.cluster needs datatrove ({missing}): pip install 'datatrove>=0.10'"
    ) from None


class NanofitShards(PipelineStep):
    """The last step of a pipeline: writes each task's documents as shards into `output_folder`/RANK.

    `output_folder` is on a file system that all tasks and the merge see. A task that runs again begins anew. Raises
    UserError for a tokenizer that is none.
    """

    name = "nanofit shards"
    type = "🔢 - TOKENIZER"

    def __init__(self, output_folder: str | Path, tokenizer: str = "gpt2") -> None:
        super().__init__()
        reference_engine(tokenizer)  # a mistake shows where the pipeline is made, not in each of its tasks
        self.output_folder, self.tokenizer = Path(output_folder).absolute(), tokenizer

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> None:
        """Writes the documents of one task."""
        # A task has one core; threads for all cores of the machine in every task would only be in each other's way.
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
        texts = (document.text for document in data or ())
        with RankWriter(self.output_folder, rank, world_size, self.tokenizer, _log) as writer:
            for batch in batches(texts):
                with self.track_time("batch"):
                    writer.add(batch)
            writer.finish()
        self.stat_update("documents", value=writer.documents)
        self.stat_update("tokens", value=writer.tokens)
        self.stat_update("text_bytes", value=writer.text_bytes)


def _log(event: Event) -> None:
    if isinstance(event, Note):
        logger.warning(event.text)
