# Reports in the programs they are made for: HTML pages in a real Chromium, histogram logs in HdrHistogram's own reader.
# For tests/run report; what is not installed is fetched from Debian into the target directory, and run from there.
#
# Everything that is made is kept in $report_dir: pages, what the browser made of them (NAME.png), what it said (NAME.log).

# host_suite: the host's own Debian suite. Programs of it run with the host's C library.
host_suite() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }

# browser_find: leaves in $browser the command of a Chromium: an installed one, or a fetched one.
browser_find() {
  local name tree=$report_cache/chromium library
  for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    ! command -v "$name" >/dev/null || { browser=("$name" --headless); return; }
  done
  fetch_tree "$tree" "$(host_suite)" chromium-headless-shell fonts-dejavu-core || return
  # Its libraries but for the C library's own, which must be the one of the host's loader.
  rm -rf "$report_cache/chromium-lib"
  mkdir -p "$report_cache/chromium-lib"
  while read -r library; do
    ln -sf "$library" "$report_cache/chromium-lib/"
  done < <(find "$tree"/lib "$tree"/usr/lib/x86_64-linux-gnu -maxdepth 3 -name '*.so*' 2>/dev/null |
    grep -Ev '/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|util|anl|mvec|nsl|thread_db|nss_[a-z]*|BrokenLocale|c_malloc_debug|memusage|pcprofile))\.so[^/]*$')
  printf '%s' "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig>" \
    "<dir>$tree/usr/share/fonts</dir><cachedir>$report_dir/fonts</cachedir></fontconfig>" >"$report_dir/fonts.conf"
  browser=(env "FONTCONFIG_FILE=$report_dir/fonts.conf" "LD_LIBRARY_PATH=$report_cache/chromium-lib"
    "$tree/usr/lib/chromium/chromium-headless-shell")
}

# browse NAME HEIGHT: shows $report_dir/NAME.html; leaves NAME.png, NAME.dom (the page as the browser understood it) and
# NAME.log with what came on its console.
browse() {
  local page=$report_dir/$1 option status=0
  # As root there is no sandbox to be had; the pages are our own.
  local options=(--no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars --enable-logging=stderr
    "--user-data-dir=$report_dir/profile")
  rm -f "$page.png"
  timeout 90 "${browser[@]}" "${options[@]}" "--window-size=1000,$2" "--screenshot=$page.png" "file://$page.html" \
    >"$page.log" 2>&1 </dev/null || status=$?
  timeout 90 "${browser[@]}" "${options[@]}" --dump-dom "file://$page.html" >"$page.dom" 2>>"$page.log" </dev/null || status=$?
  return "$status"
}

# renders NAME PICTURES HEIGHT: the page shows so many pictures, and the browser has nothing to say against it.
renders() {
  local page=$report_dir/$1 pictures
  if ! browse "$1" "$3"; then
    failed "report $1: the browser failed: $(tail -n 1 "$page.log")"
    return
  fi
  pictures=$(grep -o '<svg' "$page.dom" | wc -l)
  if [[ $pictures != "$2" ]]; then
    failed "report $1: $pictures pictures instead of $2"
  elif [[ $(head -c 4 "$page.png" | tail -c 3) != PNG || $(stat -c %s "$page.png") -lt 20000 ]]; then
    failed "report $1: nothing to be seen in $page.png"
  elif grep CONSOLE "$page.log"; then
    failed "report $1: messages on the browser's console"
  else
    passed "report $1: $pictures pictures, a silent console ($page.png)"
  fi
}

# The control: a page that wants something from elsewhere is told apart.
renders_not() {
  sed 's,</main>,<img src="http://192.0.2.1/x.png"><script>console.error("x")</script></main>,' \
    "$report_dir/$1.html" >"$report_dir/control.html"
  if browse control 800 && ! grep -q CONSOLE "$report_dir/control.log"; then
    failed "report control: a page that fetches and has a script goes unnoticed"
  else
    passed "report control: what a page fetches is noticed"
  fi
}

# java_find: leaves in $java a Java and in $hdr_jar HdrHistogram as its authors wrote it.
java_find() {
  local tree=$report_cache/hdrhistogram
  fetch_tree "$tree" "$(host_suite)" libhdrhistogram-java || return
  hdr_jar=$(find "$tree" -name 'HdrHistogram*.jar' | head -n 1)
  java=$(command -v java) && return
  tree=$report_cache/java
  fetch_tree "$tree" "$(host_suite)" openjdk-17-jre-headless || return
  java=$(find "$tree" -path '*/bin/java' | head -n 1)
}

# log_is_read FILE COUNT: HdrHistogram's HistogramLogProcessor finds so many values in a log.
log_is_read() {
  local count
  "$java" -cp "$hdr_jar" org.HdrHistogram.HistogramLogProcessor -i "$1" >"$1.txt" 2>&1 || true
  count=$(sed -nE 's/.*Total count *= *([0-9]+).*/\1/p' "$1.txt")
  # What is sent when a run ends may come in after the last interval.
  if [[ $count == "$2" ]]; then
    passed "report hlog: HdrHistogram reads $count values"
  else
    failed "report hlog: HdrHistogram reads '$count' values instead of $2: $(head -n 3 "$1.txt" | tr '\n' ' ')"
  fi
}
