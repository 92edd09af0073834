#!/usr/bin/env bash
# A training on two nodes, both on this machine: bash docs/scripts/two_nodes.sh fd_train SET -o OUT ...
# On a cluster each node runs the line of node(), with the name of one of them for localhost; see
# docs/training.md. PROCESSES per node (1), PORT of the rendezvous (29500).
set -euo pipefail

node() {
    torchrun --nnodes 2 --nproc-per-node "${PROCESSES:-1}" --max-restarts 3 --rdzv-backend c10d \
        --rdzv-id two-nodes --rdzv-endpoint "localhost:${PORT:-29500}" -m "$@"
}

node "$@" & first=$!
node "$@" & second=$!
trap 'kill $first $second 2> /dev/null || true' EXIT
wait $first
wait $second
