# The figure at the top of README.md: two faces taken apart, and each with the other's expression.
rm -rf demo/picture demo/picture.png
mkdir -p demo/picture
bob=bob_smile alice=alice_mouth_stretch
fd-encode weights/examples/$bob.ply weights/examples/$alice.ply -o demo/picture/faces.npy
fd-decode demo/picture/faces.npy --part identity --part expression -o 'demo/picture/{name}_{part}.ply'
fd-transfer demo/picture/faces.npy demo/picture/faces.npy --all-pairs | fd-decode -o demo/picture/
set --
for pair in $bob:$alice $alice:$bob; do
    name=${pair%:*} other=${pair#*:}
    set -- "$@" weights/examples/$name.ply demo/picture/${name}_identity.ply \
        demo/picture/${name}_expression.ply demo/picture/${name}__$other.ply
done
fd-render "$@" --row-labels Bob,Alice --size 300 --no-labels -o demo/picture.png \
    --column-labels "a face,= identity,+ expression on the mean face,identity + the other's expression"
