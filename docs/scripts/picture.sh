# The figure at the top of README.md: two faces taken apart, and each with the other's expression.
rm -rf demo/picture demo/picture.png
set --
for pair in bob_smile:alice_mouth_stretch alice_mouth_stretch:bob_smile; do
    name=${pair%:*} other=${pair#*:} folder=demo/picture/$name
    mkdir -p "$folder"
    fd-encode "weights/examples/$name.ply" -o "$folder/face.npy"
    fd-decode "$folder/face.npy" --part identity -o "$folder/identity.ply"
    fd-decode "$folder/face.npy" --part expression -o "$folder/expression.ply"
    fd-encode "weights/examples/$other.ply" | fd-transfer "$folder/face.npy" - \
        | fd-decode -o "$folder/transfer.ply"
    set -- "$@" "weights/examples/$name.ply"
    for part in identity expression transfer; do
        set -- "$@" "$folder/$part.ply"
    done
done
fd-render "$@" --row-labels Bob,Alice --size 300 --no-labels -o demo/picture.png \
    --column-labels "a face,= identity,+ expression on the mean face,identity + the other's expression"
