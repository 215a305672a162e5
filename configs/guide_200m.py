# The FineWeb nanoGPT guide's "200M+" config, as the guide gives it. It has 124M parameters, and leaves out
# lr_decay_iters, so that nanoGPT's default of 600,000 holds and the rate hardly decays.
n_layer = 12
n_head = 12
n_embd = 768
batch_size = 32
gradient_accumulation_steps = 16
block_size = 1024
learning_rate = 5e-4
max_iters = 60000
