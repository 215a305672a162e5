"""How fast, how early, how lean and how safely text becomes shards: the figures of data, on a CPU and without a network.

    python -m benchmarks.data --corpus FOLDER_OR_FILE [--nanogpt-python PYTHON] [--only PART ...] [--out FILE.json]

Each part is a file: `throughput` (text to shards against nanoGPT's way and against a bare loop), `first_step` (an empty folder
and a slow line), `streaming` (training while data is prepared), `kills` (kill -9 anywhere) and `flat` (memory and disk by the
size of the text). FineWeb is a local hub that serves the corpus, repeated, in FineWeb's schema. Linux only: cores are
assigned, and processes are looked at in /proc.
"""
