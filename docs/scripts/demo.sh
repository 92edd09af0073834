# The demo: nine faces of three people through the commands, into demo/. `make demo` runs it.
rm -rf demo && mkdir demo
export FACEDIS_MODEL=ict-linear

# Meshes to latents, one row a face: an identity part and an expression part.
fd-encode weights/examples -o demo/faces.npy

# Latents to meshes: the whole face, the identity alone, the expression on the mean face.
fd-decode demo/faces.npy -o demo/reconstruction/
fd-decode demo/faces.npy --part identity --part expression -o 'demo/{part}/{name}.ply'

# Everybody's expression on one person, through a pipe.
fd-encode weights/examples/alice_neutral.ply -o demo/alice.npy
fd-transfer demo/alice.npy demo/faces.npy | fd-decode -o demo/transfer/

# Pictures: a contact sheet, and the figure at the top of README.md.
fd-render weights/examples demo/identity demo/expression demo/transfer \
    --row-labels input,identity,expression,transfer -o demo/sheet.png
sh -eu "$(dirname "$0")/picture.sh"

# Errors: a face set labelled by file names, every metric, and a page with all of it.
fd-prep folder weights/examples --pattern '{subject}_{expression}.ply' --like ict-linear \
    --region narrow-face -o demo/faces.safetensors
fd-metrics demo/faces.safetensors --split all --json -o demo/metrics.json
fd-report demo/faces.safetensors --split all -o demo/report.html

{ set +x; } 2> /dev/null
python - demo/metrics.json <<'END'
import json, sys

metrics = json.load(open(sys.argv[1]))["model"]
print("\nMean errors on the example faces, in demo/metrics.json:")
for key, name, meaning in (
    ("e_rec", "E_rec", "reconstruction to input"),
    ("e_dis", "E_dis", "spread of one person's identity faces"),
    ("avd_neu", "AVD_neu", "identity face to the person's true neutral"),
):
    print(f"  {name:<8} {metrics[key]['mean']:.2f} mm   {meaning}")
print("Look at demo/sheet.png, and at demo/report.html in a browser.")
END
