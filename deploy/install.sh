#!/bin/sh
# Installs an offline bundle (deploy/bundle.py) without a network: checks its parts, joins them, and makes an environment
# that also sees what the machine's Python has.
#
#   install.sh FOLDER [PYTHON]
#
# FOLDER, which must not exist yet, becomes the environment: FOLDER/bin/sisr. PYTHON: python3 where none is named.
set -eu

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

[ $# -ge 1 ] && [ $# -le 2 ] || fail "say install.sh FOLDER, or install.sh FOLDER PYTHON"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=$1
python=${2:-python3}
[ ! -e "$folder" ] || fail "$folder is there already: name a folder that is not"
[ -f "$here/SHA256SUMS" ] || fail "SHA256SUMS is missing: copy all files of the bundle into $here"

while read -r sum name; do
  [ -f "$here/$name" ] || fail "$name is missing: copy all files of the bundle into $here"
  [ "$(sha256sum < "$here/$name" | cut -d ' ' -f 1)" = "$sum" ] ||
    fail "$name is damaged, its SHA-256 is not the one in SHA256SUMS: copy it again"
done < "$here/SHA256SUMS"

facts() {
  sed -n "s/^$1 //p" "$here/bundle.txt"
}

wanted=$(facts python)
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
  fail "$python does not run: name a Python $wanted after the folder"
[ "$found" = "$wanted" ] || fail "this bundle is for Python $wanted, $python is $found: name another after the folder"
for name in $(facts have); do
  "$python" -c 'import importlib.metadata, sys; importlib.metadata.version(sys.argv[1])' "$name" 2> /dev/null ||
    fail "this bundle leaves out $name, which $python does not have: install it, or make a bundle with it"
done

unpacked=$folder.unpacked
mkdir -p "$unpacked"
trap 'rm -rf "$unpacked"; [ -e "$folder/.installed" ] || rm -rf "$folder"' EXIT
cat "$here"/wheels.tar.part-* | tar -x -f - -C "$unpacked"

"$python" -m venv --without-pip --system-site-packages "$folder"
# The machine's Python may lie in an environment itself: what that has, the system's site-packages don't.
# shellcheck disable=SC2046 # one name is one word
"$python" -c '
import importlib.metadata, sys
print("\n".join(sorted({str(importlib.metadata.distribution(name).locate_file("")) for name in sys.argv[1:]})))
' $(facts have) > "$folder/lib/python$wanted/site-packages/of_the_machine.pth"
pip=$(echo "$unpacked"/pip-*.whl)/pip # a wheel of pip runs as it is
"$folder/bin/python" "$pip" install --no-index --no-deps --no-compile --ignore-installed \
  --disable-pip-version-check --quiet "$unpacked"/*.whl
touch "$folder/.installed"

if ! problems=$("$folder/bin/python" -m pip check --disable-pip-version-check); then
  echo "Installed, but not everything fits what this machine has:" >&2
  echo "$problems" >&2
fi
echo "$folder/bin/sisr is ready"
