# One bounded boot of a guest, and what it reported.
#
# The guest gets two serial ports: the first is its console, kept in a file; the second carries only the lines of
# tests/vm/guest/lib.sh (`ok NAME`, `not ok NAME: DETAIL`, `# …` for what a failed check printed, at last `end N`), where
# no kernel message can cut a line in two. A guest that does not come to its end line is a failure of its own, whatever
# it said before. QEMU is the fetched one ($vm_qemu), run through its own dynamic loader and with its own modules: the
# host's would not fit. The kernel does not try out whether its timer ticks: a machine that stands still meanwhile is taken
# for a broken one, and the guest panics.

# boot NAME SECONDS KERNEL ARCHIVE "SCENARIO…" QEMU-ARG…: boots, runs the scenarios (files under tests/vm/guest, without
# .sh) and counts what they report under NAME, as it comes. The machine, its memory, its
# devices and any further kernel parameters (vm_append) are the bed's.
boot() {
  local name=$1 seconds=$2 kernel=$3 archive=$4 scenarios=$5 dir=$vm_run/$1 image pid status=0
  shift 5
  rm -rf "$dir"
  mkdir -p "$dir"
  : >"$dir/results" >"$dir/console"
  # In newer suites the kernel lies with its modules.
  image=$(compgen -G "$kernel/boot/vmlinuz-*" || compgen -G "$kernel/usr/lib/modules/*/vmlinuz")
  # `timeout` gives QEMU and its loader a process group of their own, and ends all of it.
  QEMU_MODULE_DIR=$vm_qemu/usr/lib/x86_64-linux-gnu/qemu \
    nice -n 5 timeout --kill-after=5 "$seconds" \
    "$vm_qemu/usr/lib64/ld-linux-x86-64.so.2" --library-path "$vm_qemu/usr/lib/x86_64-linux-gnu" \
    "$vm_qemu/usr/bin/qemu-system-x86_64" -L "$vm_qemu/usr/share/qemu" -L "$vm_qemu/usr/share/seabios" \
    -nodefaults -no-user-config -display none -no-reboot -accel tcg -cpu max \
    -serial "file:$dir/console" -serial "file:$dir/results" \
    -kernel "$image" -initrd "$archive" \
    -append "console=ttyS0 quiet panic=-1 no_timer_check ${vm_append:-} -- $scenarios" "$@" >"$dir/qemu" 2>&1 </dev/null &
  pid=$!
  boot_results "$name" "$dir" < <(tail --pid="$pid" -n +1 -f "$dir/results")
}

# boot_results NAME DIR: counts a running guest's lines, until QEMU ($pid of boot) is gone and they end.
boot_results() {
  local name=$1 dir=$2 line seen=0 ended='' bad=0
  while read -r line; do
    line=${line%$'\r'}
    case $line in
      'ok '*) passed "vm $bed/$name ${line#ok }" ;;
      'not ok '*) failed "vm $bed/$name ${line#not ok }"; bad=1 ;;
      'end '*) ended=${line#end }; continue ;;
      *) echo "    $line"; continue ;;
    esac
    seen=$((seen + 1))
  done
  wait "$pid" || status=$?
  if [[ $ended != "$seen" ]]; then
    local why="QEMU exited $status before the guest came to its end"
    [[ -z $ended ]] || why="the guest reported $ended checks and $seen arrived"
    [[ $status != 124 && $status != 137 ]] || why="stopped after $seconds s, before the guest came to its end"
    failed "vm $bed/$name: $why"
    sed 's/^/    /' "$dir/qemu"
    bad=1
  fi
  ((bad)) || return 0
  echo "    the console's last lines (all of it: $dir/console)"
  tail -n 30 "$dir/console" | tr -d '\r' | sed 's/^/    | /'
}
