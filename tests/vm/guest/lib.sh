# What scenarios are written with. A check prints one line on the results port (descriptor 3), `ok SCENARIO NAME (TIME)`
# or `not ok SCENARIO NAME: DETAIL`, the latter followed by `# …` lines with what its command printed. Everything a
# command prints is on the console too. Scenarios run under `set -eu`: a preparation that fails ends its scenario, a
# check that fails does not.

# report VERDICT NAME TEXT
report() {
  report_line="$1 ${scenario#*/} $2$3"
  echo "$report_line" | tee -a /tmp/checks
  echo "$report_line" >&3
}
pass() { report ok "$1" "${2:+ ($2)}"; }
fail() {
  report 'not ok' "$1" ": $2"
  tail -n 12 /tmp/out | sed 's/^/# /' >&3
}

# busybox's shell would run its own `ip`, which knows nothing of VFs.
ip() { /usr/bin/ip "$@"; }

now() { cut -d' ' -f1 /proc/uptime; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }

# run SECONDS COMMAND…: bounded; leaves what it printed in /tmp/out, how it ended in $status and, in words, in $ended.
run() {
  run_seconds=$1 status=0
  shift
  echo "+ $*"
  timeout -k 5 "$run_seconds" "$@" >/tmp/out 2>&1 </dev/null || status=$?
  case $status in
    137 | 143) ended="stopped after $run_seconds s" ;;
    *) ended="exit status $status" ;;
  esac
  cat /tmp/out
}

# check NAME SECONDS COMMAND…: the command exits 0 in time.
check() {
  check_name=$1 check_start=$(now)
  shift
  run "$@"
  if [ "$status" = 0 ]; then pass "$check_name" "$(since "$check_start")"; else fail "$check_name" "$ended"; fi
}

# says NAME PATTERN…: what the last command printed matches each of these extended regular expressions, in any case.
says() {
  says_name=$1
  shift
  for pattern in "$@"; do
    grep -Eqi -e "$pattern" /tmp/out || { fail "$says_name" "nothing matches /$pattern/"; return 0; }
  done
  pass "$says_name"
}

# refused NAME STATUS "PATTERN…" COMMAND…: the command exits with STATUS within 20 s, and what it says is an error of ours (or, for
# status 2, of its command line) that matches each of the space-separated patterns.
refused() {
  refused_name=$1 refused_status=$2 refused_patterns=$3
  shift 3
  run 20 "$@"
  if [ "$status" != "$refused_status" ]; then
    fail "$refused_name" "$ended instead of $refused_status"
  else
    set -f
    # shellcheck disable=SC2086 # a list of patterns
    says "$refused_name" '^(vfnic|error): ' $refused_patterns
    set +f
  fi
}

# wait_for SECONDS COMMAND…: until the command succeeds; false when it does not.
wait_for() {
  wait_end=$(($(date +%s) + $1))
  shift
  until "$@" 2>/dev/null; do
    [ "$(date +%s)" -lt "$wait_end" ] || return 1
    sleep 0.1
  done
}

# stop PID: ends a background command the hard way, if it has not ended itself.
stop() {
  kill -9 "$1" || :
  wait "$1" || :
}

# begin FILE COMMAND…: starts a command in the background, its output to FILE; $! is it.
begin() {
  begin_file=$1
  shift
  "$@" >"$begin_file" 2>&1 </dev/null &
}
# done_in NAME SECONDS PID FILE: the command ended by itself, with status 0; leaves its output to `says`.
done_in() {
  done_name=$1 done_pid=$3 done_file=$4 done_start=$(now)
  if ! wait_for "$2" sh -c '! kill -0 "$1"' sh "$done_pid"; then
    kill -INT "$done_pid"
    sleep 1
  fi
  status=0
  wait "$done_pid" || status=$?
  cp "$done_file" /tmp/out
  cat /tmp/out
  if [ "$status" = 0 ]; then pass "$done_name" "$(since "$done_start")"; else fail "$done_name" "exit status $status"; fi
}

# provokes PATTERN: kernel messages that this scenario asks for.
provokes() { provoked="${provoked:+$provoked|}$1"; }

# kernel_is_quiet: run at the end of every scenario. Nothing in the kernel's log since the last one that speaks of a fault, a
# warning or a hang and was not provoked: a DMAR line is DMA outside what was mapped.
kernel_is_quiet() {
  dmesg -c >/tmp/dmesg
  grep -E 'BUG:|WARNING:|Oops|Call Trace|DMAR:.*[Ff]ault|hung|stall|Tx Unit Hang|NETDEV WATCHDOG|segfault' /tmp/dmesg |
    grep -Ev "${provoked:-^\$}" >/tmp/out || :
  if [ -s /tmp/out ]; then fail kernel "$(wc -l </tmp/out) messages that nothing here asked for"; else pass kernel; fi
}
