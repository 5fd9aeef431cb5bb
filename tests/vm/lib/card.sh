# A simulated card on the host, served to a guest over vfio-user.
#
# card_start serves it and leaves in $card_machine the memory that a guest must have, in $card_line a third serial port on
# which a guest asks for what only the host can do, one line a request, one line an answer (tests/vm/guest/linux/card.sh).
# card_vf adds a VF to $card_devices, behind a root port of its own. card_stop ends the card and counts how it ended and what
# it has to say about its drivers.

. "$vm_dir/lib/outside.sh"

# What starts the server, if it is not to be where everything else is (outside.sh).
card_space=()

# card_start NAME MODEL VFS SIM-SERVE-ARG…: serves a card of these; $card_dir has its sockets.
card_start() {
  card_name=$1 card_dir=$vm_run/$1.card card_model=$2
  local vfs=$3
  shift 3
  rm -rf "$card_dir"
  mkdir -p "$card_dir"
  mkfifo "$card_dir/ready" "$card_dir/host.in" "$card_dir/host.out"
  # Bounded like the guests, so that nothing stays behind when a run is broken off.
  timeout 1200 "${card_space[@]}" "$binary" sim serve --model "$card_model" --vfs "$vfs" --socket-dir "$card_dir" "$@" \
    >"$card_dir/ready" 2>"$card_dir/log" 9>&- &
  card_pid=$!
  grep -q -m 1 ^ready "$card_dir/ready" || { failed "vm $bed/$card_name: sim serve: $(cat "$card_dir/log")"; return 1; }
  card_machine=(-machine q35,memory-backend=ram -m 512M -smp 2 -object memory-backend-memfd,id=ram,size=512M,share=on)
  card_line=(-chardev "pipe,id=host,path=$card_dir/host" -serial chardev:host)
  card_devices=()
  [[ -z ${card_outside:-} ]] || outside_up "$card_outside"
  card_answers 9>&- &
  card_answers_pid=$!
}

# card_server: the server's process, which `timeout` runs.
card_server() {
  local children
  children=$(<"/proc/$card_pid/task/$card_pid/children")
  echo "${children%% *}"
}

# card_vf VF: one more VF for the next guest.
card_vf() {
  local slot=$((${#card_devices[@]} / 4 + 1))
  card_devices+=(-device "pcie-root-port,id=port$slot,slot=$slot,chassis=$slot"
    -device '{"driver":"vfio-user-pci","bus":"port'$slot'","socket":{"type":"unix","path":"'"$card_dir/vf$1.sock"'"}}')
}

# Answers the guest's requests: `set KNOBS…`, `counters VF`, `idle SECONDS` and `outside WHAT`.
card_answers() {
  local request what rest
  while read -r request; do
    what=${request%% *} rest=${request#* }
    echo "$request" >>"$card_dir/requests"
    case $what in
      # shellcheck disable=SC2086 # knobs are words
      set) "$binary" sim set "$card_dir" $rest 2>&1 && echo ok || echo refused ;;
      counters) "$binary" sim show "$card_dir" | card_counters "$rest" ;;
      idle) card_idle "$rest" ;;
      outside) outside_answer "$rest" ;;
      *) echo "no such request" ;;
    esac | tr '\n' ' ' | sed 's/ *$/\n/'
  done <"$card_dir/host.out" >"$card_dir/host.in"
}

# card_idle SECONDS: the milliseconds of processor time that the server takes in this time.
card_idle() {
  local server before after
  server=$(card_server)
  before=$(card_ticks "$server")
  sleep "$1"
  after=$(card_ticks "$server")
  echo "ok $(((after - before) * 1000 / $(getconf CLK_TCK)))"
}
card_ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }

# card_counters VF: frames delivered to a VF, sent by it, and lost on the way to it or from it (which those are not that it did
# not ask for), out of `sim show`.
card_counters() {
  awk -v vf="$1" '
    $1 == "vf" { here = $2 == vf }
    /^wire/ { here = 0 }
    here && $1 == "received" { sub("\\(", "", $4); received = $4; for (i = 1; i < NF; i++) if ($i == "sent") sent = $(i + 1) }
    here && $1 == "dropped:" { gsub(",", ""); for (i = 2; i < NF; i += 2) if ($i != "filtered") dropped += $(i + 1) }
    END { print "ok", received + 0, sent + 0, dropped + 0 }'
}

# card_stop: ends it; the card must have seen no breach of the hardware's rules (but those that match $card_provoked), and
# the server must end at once.
card_stop() {
  local breaches status=0 name="vm $bed/$card_name"
  "$binary" sim show "$card_dir" >"$card_dir/shown" || true
  grep ^violation: "$card_dir/shown" >"$card_dir/violations" || true
  # The expected ones, without what differs from one to the next.
  grep -E "${card_provoked:-^$}" "$card_dir/violations" | sed -E 's/^violation: [^ ]+ //; s/(VF|queue|vf) [0-9]+/\1 n/g' |
    sort | uniq -c | sed 's/^/    /' || true
  grep -Ev "${card_provoked:-^$}" "$card_dir/violations" >"$card_dir/breaches" || true
  breaches=$(wc -l <"$card_dir/breaches")
  if ((breaches)); then
    failed "$name card: $breaches breaches of the hardware's rules"
    head -n 10 "$card_dir/breaches" | sed 's/^/    /'
  else
    passed "$name card: no breach of the hardware's rules"
  fi
  kill "$card_pid"
  wait "$card_pid" || status=$?
  kill "$card_answers_pid" 2>/dev/null || true
  wait "$card_answers_pid" 2>/dev/null || true
  if ((status)); then failed "$name card: sim serve ended with $status: $(tail -n 3 "$card_dir/log")"; else passed "$name card: served to the end"; fi
}

# linux_bed DRIVER MBPS SECONDS MODEL…: the scenarios of tests/vm/guest/linux with the kernel's own driver on cards of these
# models: both VFs in one guest, then one in each of two, on the first model with TCP without bounds for this long.
linux_bed() {
  local driver=$1 speed=$2 seconds=$3 image=$vm_run/image tools=$vm_cache/linux
  # ixgbevf's register test (ethtool -t offline) writes its patterns to the tail of an enabled ring; and no driver can know
  # that the PF has just reset the port under it, ring lengths and enables included (docs/fidelity.md).
  local card_provoked='tail (23130|42405|65535) in a ring|written before the queue read as enabled|ring length 0 is|in a ring of 0 descriptors'
  shift 3
  if ! fetch_tree "$tools" trixie ethtool iperf3; then
    skipped "vm $bed" "$fetch_problem"
    return
  fi
  binary=$(guest_binary)
  linux_image "$image" "$tools" "$driver" 8021q
  [[ ${CARD_SCENARIOS:-} == pairs ]] || linux_models linux_guest "$driver" "$speed" -- ${CARD_MODELS:-"$@"}
  [[ ${CARD_SCENARIOS:-pairs} != pairs ]] || linux_pairs "$seconds" ${CARD_MODELS:-"$@"}
}

# linux_models FUNCTION ARG… -- MODEL…: FUNCTION ARG… MODEL for all of them at once: most of a scenario is waiting, for a link, for
# a watchdog, for a second to pass.
linux_models() {
  local -a what=() guests=()
  local model guest
  while [[ $1 != -- ]]; do
    what+=("$1")
    shift
  done
  shift
  for model in "$@"; do
    "${what[@]}" "$model" &
    guests[$!]=$model
  done
  for guest in "${!guests[@]}"; do
    wait "$guest" || failed "vm $bed/${guests[$guest]}: stopped before its end"
  done
}

# linux_pairs SECONDS MODEL…: a pair of guests for each model, that many seconds of TCP on the first.
linux_pairs() {
  local seconds=$1 card_space outside_enter outside_why
  shift
  outside_find || skipped "vm $bed: the network outside the card" "$outside_why"
  linux_pair "$1" "$seconds"
  shift
  (($# == 0)) || linux_models linux_pair_without_tcp -- "$@"
}
linux_pair_without_tcp() { linux_pair "$1" 0; }

# linux_image IMAGE TOOLS MODULE…: what these guests need.
linux_image() {
  local image=$1 tools=$2
  shift 2
  image_new "$image"
  image_modules "$image" "$vm_kernel" "$@"
  image_program "$image" "$tools" usr/sbin/ethtool
  image_program "$image" "$tools" usr/bin/iperf3
  # It ends its threads with pthread_cancel, for which the C library loads this.
  cp -L "$tools/usr/lib/x86_64-linux-gnu/libgcc_s.so.1" "$image/usr/lib/"
  image_pack "$image" "$image.initrd"
}

# linux_guest DRIVER MBPS MODEL: one guest with two VFs of a card.
linux_guest() {
  card_start "$3" "$3" 2 || return 0
  card_vf 0
  card_vf 1
  vm_append="card_driver=$1 card_speed=$2 card_model=$3" \
    boot "$3" 900 "$vm_kernel" "$image.initrd" "${CARD_SCENARIOS:-linux/probe linux/traffic linux/features linux/changes}" \
    "${card_machine[@]}" "${card_line[@]}" "${card_devices[@]}"
  card_stop
}

# linux_pair MODEL SECONDS: two guests with a VF each, one asking, one answering, and with a network outside the card: 10^5
# frames and more without a loss, TCP without bounds for this long, if at all, then the outside.
linux_pair() {
  local answering outside=()
  if [[ -z $outside_why ]]; then
    local card_outside=$tools
    outside=(--uplink tap:wire0 --host tap:host0)
  fi
  card_start "pair-$1" "$1" 2 "${outside[@]}" || return 0
  card_vf 0
  boot "pair-$1-answering" 400 "$vm_kernel" "$image.initrd" linux/answering "${card_machine[@]}" "${card_devices[@]}" &
  answering=$!
  card_devices=()
  card_vf 1
  vm_append="card_model=$1 tcp_seconds=$2" \
    boot "pair-$1-asking" 400 "$vm_kernel" "$image.initrd" linux/asking "${card_machine[@]}" "${card_line[@]}" "${card_devices[@]}"
  wait "$answering"
  outside_down
  card_stop
}
