# Debian packages unpacked under the target directory, with the host left alone: no root, nothing installed.
#
# fetch_tree gives apt a private state (its own lists, an empty dpkg status, one source line), lets it resolve and
# download, and unpacks every .deb into one tree. The mirror is the one that the host's apt already uses, no version is
# pinned (archives move on), and a tree appears by a rename, complete or not at all. A tree that is there is never asked
# about again: a second run needs no network; remove the tree to refresh it.

# Why packages cannot be fetched on this host, in a few words; nothing when they can.
fetch_obstacle() {
  [[ $(uname -sm) == 'Linux x86_64' ]] || { echo "needs Linux on x86_64, this is $(uname -sm)"; return; }
  local tool
  for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "needs Debian's $tool to fetch what is not installed"; return; }
  done
  [[ -n $(fetch_sites) ]] || echo "apt has no Debian archive among its sources"
}

# The archives that the host's apt is set up with, for its own release: candidates, best first.
fetch_sites() {
  local codename
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  apt-get --print-uris update 2>/dev/null |
    sed -nE "s,^'(.*)/dists/(${codename:-stable}|stable|testing|unstable|sid)/InRelease'.*,\1,p" | awk '!seen[$0]++'
}

# How long one command of apt's may take, in seconds: DPDK's tree is 200 MB. TIMEOUT: a tenth of a usual connection.
fetch_patience=900

# apt, as `apt get …` or `apt cache …`, on the private state of $fetch_state. A mirror that says nothing for half a minute
# counts as one that is not there.
fetch_apt() {
  local tool=apt-$1 status=0
  shift
  timeout --kill-after=10 "$fetch_patience" "$tool" -q \
    -o Dir::State="$fetch_state" -o Dir::State::status="$fetch_state/status" -o Dir::Cache="$fetch_state" \
    -o Dir::Etc::sourcelist="$fetch_state/sources" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o APT::Install-Recommends=false -o APT::Sandbox::User=root -o pkgCacheGen::ForceEssential=none \
    -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 \
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@" || status=$?
  [[ $status != 124 && $status != 137 ]] || echo "E: $tool was not through after $fetch_patience s" >&2
  return "$status"
}

# fetch_suite SUITE: the lists of one Debian suite, from the first of the host's archives that has it.
fetch_suite() {
  local site option='' key=/usr/share/keyrings/debian-archive-keyring.gpg
  [[ ! -e $key ]] || option="[signed-by=$key] "
  mkdir -p "$fetch_state/lists/partial" "$fetch_state/archives/partial"
  : >"$fetch_state/status"
  for site in $(fetch_sites); do
    echo "deb $option$site $1 main" >"$fetch_state/sources"
    fetch_apt get -o APT::Update::Error-Mode=any update >>"$fetch_state/log" 2>&1 && return
  done
  return 1
}

# fetch_download PACKAGE…: the .debs of these packages, into the state's archives. Of a kernel's meta package only the
# versioned kernel packages are wanted (the rest would be initramfs tools); anything else comes with all it depends on.
fetch_download() {
  local package
  for package in "$@"; do
    if [[ $package == linux-image-* ]]; then
      local kernel
      mapfile -t kernel < <(fetch_apt cache depends --recurse --important "$package" |
        grep -E '^linux-(image|binary|modules)-[0-9]')
      (cd "$fetch_state/archives" && fetch_apt get download "${kernel[@]}") || return
    else
      fetch_apt get --yes --download-only install "$package" || return
    fi
  done
}

# fetch_tree TREE "SUITE…" PACKAGE…: unpacks the packages and all they need into the folder TREE, from the first suite
# that has them, in three rounds. When that cannot be done, returns 1 with one line of why in $fetch_problem.
fetch_tree() {
  local tree=$1 suites=$2 suite fetch_state round
  shift 2
  [[ $(cat "$tree/.packages" 2>/dev/null) != "$*" ]] || return 0
  fetch_problem=$(fetch_obstacle)
  [[ -z $fetch_problem ]] || return 1
  rm -rf "$tree".fetch.*
  fetch_state=$(mktemp -d "$tree.fetch.XXXXXX")
  for round in 1 2 3; do
    # An archive in the middle of its own update, or a connection that went, is there again a moment later.
    ((round == 1)) || sleep $((5 * round))
    for suite in $suites; do
      echo "fetching $* from Debian $suite"
      : >"$fetch_state/log"
      # Of another suite, or cut short.
      rm -f "$fetch_state"/archives/*.deb
      if fetch_suite "$suite" && fetch_download "$@" >>"$fetch_state/log" 2>&1; then
        fetch_unpack "$tree" "$@" && return
      fi
      fetch_problem="could not fetch $* from Debian $suite: $(grep '^[EW]:' "$fetch_state/log" | tail -n 1)"
      echo "$fetch_problem"
    done
  done
  rm -rf "$fetch_state"
  return 1
}

# fetch_unpack TREE PACKAGE…: what was downloaded becomes the folder TREE.
fetch_unpack() {
  local tree=$1 deb
  shift
  rm -rf "$fetch_state/tree"
  mkdir -m 755 "$fetch_state/tree"
  for deb in "$fetch_state"/archives/*.deb; do
    if ! dpkg-deb -x "$deb" "$fetch_state/tree"; then
      echo "E: $deb cannot be unpacked; is the disk full?" >>"$fetch_state/log"
      rm -f "$deb"
      return 1
    fi
  done
  echo "$*" >"$fetch_state/tree/.packages"
  rm -rf "$tree"
  mv "$fetch_state/tree" "$tree"
  rm -rf "$fetch_state"
}
