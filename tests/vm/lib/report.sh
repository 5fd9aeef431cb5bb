# Counting checks, from any process of a run: each verdict is a line on the terminal and a line in the file $results,
# which tests/run adds up at the end.

passed() { echo "ok       $1"; echo passed 1 >>"$results"; }
failed() { echo "FAILED   $1"; echo failed 1 >>"$results"; }

# skipped WHAT WHY: something this machine cannot run. Where CI=true nothing may be missing: a failure.
skipped() {
  [[ ${CI:-} != true ]] || { failed "$1: $2 (CI=true skips nothing)"; return; }
  echo "skipped  $1: $2"
  echo skipped 1 >>"$results"
}
