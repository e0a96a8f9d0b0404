"""Reader of Zeiss CZI files."""
