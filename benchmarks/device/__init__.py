"""Everything that needs a GPU, measured in one command of under nine minutes and without a network.

    python -m benchmarks.device prepare --corpus TEXT --out tokens.npz      # anywhere; copy the file along
    python -m benchmarks.device --tokens tokens.npz --nanogpt CHECKOUT      # on the machine with the card

Seven parts run one after the other, each in a process of its own, and the result is written after every figure, so a run
that is cut short, or a part that fails or hangs, costs only what it did not reach. Every figure comes from the training
step and the training loop that users run, never from a copy. `--small` measures tiny models on the CPU by the same code: it
shows that the benchmark works, and its figures mean nothing.
"""
