"""A build backend that builds nothing; it stands in for setuptools while pip fetches a source archive.

pip always asks a source archive's build backend for the package's metadata, and setuptools answers by running
the archive's `setup.py`. This backend returns the metadata file from the archive, so nothing in the archive
is executed. It runs in pip's process for builds and uses only the standard library.
"""

import os
import shutil
from email.parser import BytesHeaderParser


class __legacy__:  # noqa: N801 - the name that pip looks for if an archive has no pyproject.toml
    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        with open("PKG-INFO", "rb") as file:
            headers = BytesHeaderParser().parse(file)
        folder = f"{headers['Name']}-{headers['Version']}.dist-info"
        os.mkdir(os.path.join(metadata_directory, folder))
        shutil.copy("PKG-INFO", os.path.join(metadata_directory, folder, "METADATA"))
        return folder


prepare_metadata_for_build_wheel = __legacy__.prepare_metadata_for_build_wheel
