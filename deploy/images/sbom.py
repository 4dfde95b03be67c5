"""The software bill of materials of an image, as an SPDX 2.3 JSON document: Debian's packages, Python's, Java's.

    python3 sbom.py NAME [ROOT] > sbom.spdx.json

Reads what dpkg, pip and Maven left in the image, and needs nothing but the standard library and dpkg-query. The same
contents give the same document: its time is SOURCE_DATE_EPOCH.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

VERSION = "SPDX-2.3"
UNKNOWN = "NOASSERTION"
_DPKG = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${Maintainer}\n"


def package(kind: str, name: str, version: str, purl: str, *, licence: str = UNKNOWN, **more: Any) -> dict[str, Any]:
    """A package as SPDX has it. `purl`: its package URL."""
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{kind}-{name}-{version}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence,
        "copyrightText": UNKNOWN,
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}],
        **more,
    }


def of_debian(root: Path) -> Iterator[dict[str, Any]]:
    """What dpkg has installed."""
    said = subprocess.run(
        ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-W", f"-f={_DPKG}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in said.splitlines():
        status, name, version, architecture, source, maintainer = line.split("\t")
        if status.startswith("ii"):
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
            yield package(
                "deb",
                name,
                version,
                purl,
                supplier=f"Organization: {maintainer}",
                sourceInfo=f"built from the source package {source}",
                comment=f"its licences: /usr/share/doc/{name}/copyright",
            )


def of_python(places: list[Path]) -> Iterator[dict[str, Any]]:
    """What pip has installed below `places`."""
    for found in metadata.distributions(path=[str(place) for place in places]):
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        licence = (found.metadata.get_all("License-Expression") or [UNKNOWN])[0]
        yield package("pypi", name, found.version, f"pkg:pypi/{name}@{quote(found.version)}", licence=licence)


def of_java(places: list[Path]) -> Iterator[dict[str, Any]]:
    """Jars, by the coordinates that Maven wrote into them, else by their file's name."""
    for place in places:
        for jar in sorted(place.glob("*.jar")):
            name, _, version = re.sub(r"(.*?)-(\d[^/]*)$", r"\1\t\2", jar.stem).partition("\t")
            group = _group(jar, name)
            kind = f"pkg:maven/{group}/{name}" if group else f"pkg:generic/{name}"
            yield package("jar", name, version, f"{kind}@{quote(version)}", packageFileName=jar.name)


def _group(jar: Path, artifact: str) -> str:
    with zipfile.ZipFile(jar) as files:
        for entry in files.namelist():
            if match := re.fullmatch(rf"META-INF/maven/([^/]+)/{re.escape(artifact)}/pom\.properties", entry):
                return match[1]
    return ""


def document(name: str, packages: list[dict[str, Any]], created: datetime) -> dict[str, Any]:
    """The whole. `name`: of the image."""
    packages = sorted({one["SPDXID"]: one for one in packages}.values(), key=lambda one: str(one["SPDXID"]))
    contents = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    version = next((one["versionInfo"] for one in packages if one["SPDXID"].startswith("SPDXRef-pypi-ayaflow-")), "0")
    image = package("image", name, version, f"pkg:oci/{name}@{quote(version)}", primaryPackagePurpose="CONTAINER")
    return {
        "spdxVersion": VERSION,
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:ayaflow:sbom:{name}:{contents}",
        "creationInfo": {"created": f"{created:%Y-%m-%dT%H:%M:%SZ}", "creators": ["Tool: ayaflow-sbom"]},
        "packages": [image, *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", image["SPDXID"]),
            *(_relation(image["SPDXID"], "CONTAINS", one["SPDXID"]) for one in packages),
        ],
    }


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def main(name: str, root: Path) -> int:
    """Print the document -> exit code."""
    packages = [
        *of_debian(root),
        *of_python(sorted(root.glob("opt/ayaflow/lib/python3*/site-packages"))),
        *of_java([root / "usr/share/ayaflow/jars"]),
    ]
    created = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or 0), UTC)
    json.dump(document(name, packages, created), sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit("usage: sbom.py NAME [ROOT]")
    sys.exit(main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) == 3 else "/")))
