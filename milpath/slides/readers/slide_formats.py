"""Formats of slides by suffix: those that are read, those of several files, and those to convert first."""

# DICOM, MRXS, VMS and OME-Zarr consist of several files.
MIRAX_SUFFIX, DICOM_SUFFIX = ".mrxs", ".dcm"
INDEX_SUFFIXES = (".vms", ".vmu")
VENDOR_SUFFIXES = (MIRAX_SUFFIX, ".svslide", *INDEX_SUFFIXES)
FOLDER_SUFFIX = ".zarr"
CZI_SUFFIX = ".czi"
SEVERAL_FILES = (MIRAX_SUFFIX, *INDEX_SUFFIXES, FOLDER_SUFFIX)
SLIDE_SUFFIXES = (
    ".tif", ".tiff", ".btf", ".qptiff", ".svs", ".ndpi", ".scn", ".bif", CZI_SUFFIX, *VENDOR_SUFFIXES,
    DICOM_SUFFIX, FOLDER_SUFFIX, ".png", ".jpg", ".jpeg", ".bmp", ".webp",
)  # fmt: skip

CONVERT = "convert it to an OME-TIFF pyramid: bioformats2raw and raw2ometiff --rgb, or QuPath (export as OME-TIFF)"
# Suffix of a format that is not read to its name and what converts it.
OTHER_FORMATS = {
    ".vsi": ("Olympus VSI", CONVERT),
    ".lif": ("Leica LIF", CONVERT),
    ".nd2": ("Nikon ND2", CONVERT),
    ".zvi": ("Zeiss ZVI", CONVERT),
    ".isyntax": ("Philips iSyntax", "convert it to TIFF: isyntax-to-tiff of libisyntax, or the export of Philips"),
    ".i2syntax": ("Philips iSyntax 2", "convert it to DICOM or TIFF with the export of Philips"),
    ".kfb": ("KFBio KFB", "convert it to SVS with the converter of KFBio"),
    ".sdpc": ("Sqray SDPC", "convert it to SVS with the converter of Sqray"),
    ".tmap": ("Unic TMAP", "convert it to SVS with the converter of Unic"),
    ".jp2": ("JPEG 2000", "convert it to a tiled TIFF: vips tiffsave --tile --pyramid"),
    ".ome.companion": ("OME companion", CONVERT),
}  # fmt: skip
_SIGNATURES = {
    b"\0\0\0\x0cjP  ": ".jp2",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ".zvi",
    b"\x70\0\0\0": ".lif",
    b"\xda\xce\xbe\x0a": ".nd2",
}


def is_folder_slide(name: str) -> bool:
    """Return whether a folder of this name is one slide (OME-Zarr)."""
    return name.lower().endswith(FOLDER_SUFFIX)


def why_not_read(name: str, start: bytes = b"") -> str | None:
    """Return what a file of a format that is not read is and what converts it; `None` for another file.

    Args:
        name: Name of the file.
        start: Its first bytes.

    Example:
        >>> why_not_read("a.VSI")[:23]
        'a.VSI is an Olympus VSI'
    """
    by_content = next((suffix for magic, suffix in _SIGNATURES.items() if start.startswith(magic)), None)
    by_name = next((suffix for suffix in OTHER_FORMATS if name.lower().endswith(suffix)), None)
    suffix = by_content or by_name
    if suffix is None:
        return None
    kind, way = OTHER_FORMATS[suffix]
    return f"{name} is {'an' if kind[0] in 'AEIO' else 'a'} {kind} file, which is not read; {way}"
