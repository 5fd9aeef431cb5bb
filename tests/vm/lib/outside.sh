# What is outside a served card: a TAP on its wire and one behind its PF's own port, each in a network namespace of its own,
# so that the host's network is left alone and nobody needs to be root. Sourced by card.sh.
#
#   wire0  10.0.1.1/24, and an iperf3 server
#   host0  10.0.2.1/24, with the PF's address, as its interface on a host would have

# outside_find: whether there can be TAPs here. Leaves in $card_space how the server is to be started for them, in
# $outside_enter how to get there, and in $outside_why why there can be none, in a few words.
outside_find() {
  card_space=() outside_enter=() outside_why=''
  if ! [[ -r /dev/net/tun && -w /dev/net/tun ]]; then
    outside_why='needs /dev/net/tun for TAP interfaces'
  elif unshare --user --map-root-user --net true 2>/dev/null; then
    card_space=(unshare --user --map-root-user --net) outside_enter=(nsenter --preserve-credentials --user --net --target)
  elif unshare --net true 2>/dev/null; then
    card_space=(unshare --net) outside_enter=(nsenter --net --target)
  else
    outside_why='needs a network namespace for TAP interfaces, and may make none'
  fi
  [[ -z $outside_why ]]
}

# outside_up TOOLS: addresses and links of the TAPs `wire0` and `host0` of the card that was started last; iperf3 is TOOLS'.
outside_up() {
  local tools=$1 busybox=$vm_guest/usr/bin/busybox server
  server=$(card_server)
  outside_wire=("${outside_enter[@]}" "$server")
  "${outside_wire[@]}" unshare --net sleep 1200 9>&- &
  outside_pid=$!
  for _ in {1..100}; do
    [[ $(cat "/proc/$outside_pid/comm") != sleep ]] || break
    sleep 0.1
  done
  outside_host=("${outside_enter[@]}" "$outside_pid")
  outside_mac=$("$binary" sim show "$card_dir" | sed -n '1s/.* mac //p')
  "${outside_wire[@]}" "$busybox" ip link set dev host0 netns "$outside_pid"
  outside_address "$outside_mac"
  "${outside_host[@]}" "$busybox" ip addr add 10.0.2.1/24 dev host0
  "${outside_wire[@]}" "$busybox" ip addr add 10.0.1.1/24 dev wire0
  "${outside_wire[@]}" "$busybox" ip link set dev wire0 up
  "${outside_wire[@]}" "$tools/usr/lib64/ld-linux-x86-64.so.2" --library-path "$tools/usr/lib/x86_64-linux-gnu" \
    "$tools/usr/bin/iperf3" -s >"$card_dir/iperf3" 2>&1 9>&- &
  outside_iperf3_pid=$!
}

# outside_address MAC: what is behind the PF's port has this address from now on.
outside_address() {
  local busybox=$vm_guest/usr/bin/busybox
  "${outside_host[@]}" "$busybox" ip link set dev host0 down
  "${outside_host[@]}" "$busybox" ip link set dev host0 address "$1"
  "${outside_host[@]}" "$busybox" ip link set dev host0 up
}

# outside_answer REQUEST: for card_answers. `bridged` puts a neighbour with another address behind the PF's port, as a bridge
# there would; `wire` tells how many frames came by the wire and left by it.
outside_answer() {
  [[ -n ${outside_pid:-} ]] || { echo "refused: ${outside_why:-no TAP here}"; return; }
  case $1 in
    there) echo ok ;;
    bridged) outside_address 02:00:00:00:0b:0b && echo ok ;;
    wire) "$binary" sim show "$card_dir" | sed -nE 's/^wire +received ([0-9]+) frames, sent ([0-9]+).*/ok \1 \2/p' ;;
    *) echo "refused: no such request" ;;
  esac
}

# outside_down: ends it all; the TAPs end with the card.
outside_down() {
  [[ -n ${outside_pid:-} ]] || return 0
  kill "$outside_iperf3_pid" "$outside_pid" 2>/dev/null || true
  wait "$outside_iperf3_pid" "$outside_pid" 2>/dev/null || true
  outside_pid=''
}
