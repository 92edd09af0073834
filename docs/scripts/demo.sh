rm -rf demo && mkdir demo

# One row of latents a face: who it is, and what it does.
fd-encode weights/examples -o demo/faces.npy

# Back to meshes: the whole face, the identity alone, the expression alone (on the mean face).
fd-decode demo/faces.npy -o demo/reconstruction/
fd-decode demo/faces.npy --part identity -o demo/identity/
fd-decode demo/faces.npy --part expression -o demo/expression/

# Everybody's expression on one person, through a pipe.
fd-encode weights/examples/alice_neutral.ply -o demo/alice.npy
fd-encode weights/examples | fd-transfer demo/alice.npy - | fd-decode -o demo/transfer/

# How good is that? Labels from the files' names, then every metric.
fd-prep folder weights/examples --pattern '{subject}_{expression}.ply' --like ict -o demo/faces.safetensors
fd-metrics demo/faces.safetensors --split all --json -o demo/metrics.json

# Look at it: a row each.
fd-render weights/examples demo/identity demo/expression demo/transfer \
    --row-labels input,identity,expression,transfer -o demo/sheet.png
