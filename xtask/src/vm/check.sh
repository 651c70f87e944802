# What tcp-close says of this kernel: of `check` its whole report, of `watch` whether it starts.
# Sourced by the job, which says in $TCP_CLOSE_BIN what to run, and in $families for which kinds of hooks.
# Each line begins with a mark and the kind of hook; then a line of the program's stderr behind a `|`, or its status.

# What the firmware wrote has no end of its line.
echo
for family in $families; do
    said=$($TCP_CLOSE_BIN check --probe $family -o json 2>/tmp/complaints)
    status=$?
    /bin/busybox sed "s/^/VM-CHECK $family | /" /tmp/complaints
    echo "VM-CHECK $family $status $said"
    $TCP_CLOSE_BIN watch --probe $family --duration 1s >/dev/null 2>/tmp/complaints
    status=$?
    /bin/busybox sed "s/^/VM-WATCH $family | /" /tmp/complaints
    echo "VM-WATCH $family $status"
done
