"""A reader of .glb files of a few lines that follows the specification."""

import json
import struct

import numpy as np

TYPES = {5126: "<f4", 5125: "<u4", 5123: "<u2"}
SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


class Glb:
    """The JSON and the accessors of a .glb."""

    def __init__(self, data):
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON" and size % 4 == 0
        self.json = json.loads(data[20 : 20 + size])
        binary, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert kind == b"BIN\0"
        self.binary = data[28 + size : 28 + size + binary]
        assert self.json["asset"]["version"] == "2.0"
        assert self.json["buffers"][0]["byteLength"] <= len(self.binary)

    def view(self, number, dtype, count):
        view = self.json["bufferViews"][number]
        assert view["byteOffset"] % 4 == 0
        part = self.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        return np.frombuffer(part, dtype)[:count]

    def array(self, number):
        accessor = self.json["accessors"][number]
        width, count = SIZES[accessor["type"]], accessor["count"]
        dtype = TYPES[accessor["componentType"]]
        values = np.zeros((count, width), dtype)
        if "bufferView" in accessor:
            values[:] = self.view(accessor["bufferView"], dtype, count * width).reshape(-1, width)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            where = sparse["indices"]
            rows = self.view(where["bufferView"], TYPES[where["componentType"]], sparse["count"])
            assert (np.diff(rows.astype(int)) > 0).all()
            moved = self.view(sparse["values"]["bufferView"], dtype, len(rows) * width)
            values[rows] = moved.reshape(-1, width)
        if "min" in accessor:
            np.testing.assert_array_equal(values.min(0), np.array(accessor["min"], dtype))
            np.testing.assert_array_equal(values.max(0), np.array(accessor["max"], dtype))
        return values if width > 1 else values[:, 0]
