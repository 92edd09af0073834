"""Textures of the faces that a report shows in 3D: those of their original files."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from facedis_core.data.face_set import FaceSet
from facedis_core.errors import ErrorCode, InputError
from facedis_core.io.streams import naming
from facedis_core.io.text import first_of, shown
from facedis_core.mesh.appearance import Appearance, read_appearance
from facedis_core.mesh.original import read_original
from facedis_core.pipeline.onto import Originals
from facedis_core.render.page_texture import page_texture, smaller_image

MOST_PIXELS: Final = 2048  # a side of an image in a page
MOST_NAMED: Final = 5  # faces without a file


@dataclass(eq=False)
class FaceTextures:
    """Textures of rows of a face set, each read once.

    A row has the file of its name, or of its subject's, among the originals.

    Attributes:
        faces: the set.
        originals: of fd-report --textures.
        found: as of `page_texture`, all different.
        warnings: lines about textures that are missing or broken.
    """

    faces: FaceSet
    originals: Originals
    found: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _places: dict[str, int | None] = field(default_factory=dict)  # by file
    _bare: list[str] = field(default_factory=list)  # names of rows without a file

    @classmethod
    def of(cls, originals: Originals, faces: FaceSet, rows: NDArray[np.integer[Any]]) -> Self:
        """The textures of a set.

        Args:
            originals: the files.
            faces: the set.
            rows: those that may be shown.

        Raises:
            InputError: no row has a file, or one has several.
        """
        found = cls(faces, originals)
        if any(found._file(row) for row in rows):
            return found
        names = first_of([faces.labels.names[row] for row in rows], MOST_NAMED)
        raise InputError(
            f"{shown(originals.source)} has no file for {names}; expected files of the names of "
            "the faces, or of their subjects",
            ErrorCode.PARTNER_MISSING,
        )

    def place(self, row: int) -> int | None:
        """The place of a row's texture in `found`; None = it has none.

        Raises:
            InputError: its file is unreadable, or does not fit the set.
        """
        file = self._file(row)
        if file is not None:
            return self._texture(file)
        self._bare.append(self.faces.labels.names[row])
        return None

    def all_warnings(self) -> list[str]:
        """`warnings`, and a line about rows without a file."""
        if not self._bare:
            return self.warnings
        names = first_of(list(dict.fromkeys(self._bare)), MOST_NAMED)
        return [*self.warnings, f"{shown(self.originals.source)} has no file for {names}"]

    def _file(self, row: int) -> str | None:
        labels = self.faces.labels
        for name in (labels.names[row], labels.subjects[labels.subject[row]]):
            try:
                return self.originals.of(name, "")
            except InputError as error:
                if error.code is ErrorCode.NAME_DUPLICATE:
                    raise
        return None

    def _texture(self, file: str) -> int | None:
        if file not in self._places:
            texture = self._read(file)
            if texture is not None and texture not in self.found:
                self.found.append(texture)
            self._places[file] = None if texture is None else self.found.index(texture)
        return self._places[file]

    def _read(self, file: str) -> dict[str, Any] | None:
        original = read_original(file)
        with naming(file):
            rows = self.faces.preparation.place(original.mesh, None).rows
        look = read_appearance(file, original.content, original.mesh)
        before = len(self.warnings)
        self.warnings += look.warnings
        texture = page_texture(self._smaller(file, look), rows, self.faces.triangles)
        if texture is None and len(self.warnings) == before:
            self.warnings.append(f"{shown(file)} has no texture and no colors of vertices")
        return texture

    def _smaller(self, file: str, look: Appearance) -> Appearance:
        """The appearance with images that suit a page; without those that are broken."""
        smaller = dict.fromkeys((material.texture for material in look.materials), b"")
        for texture in filter(None, smaller):
            try:
                with naming(file):
                    smaller[texture] = smaller_image(texture, MOST_PIXELS)
            except InputError as error:
                self.warnings.append(str(error))
        materials = (replace(one, texture=smaller[one.texture]) for one in look.materials)
        return replace(look, materials=tuple(materials))
