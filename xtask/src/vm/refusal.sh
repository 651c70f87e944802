# What tcp-close is to use is not to be had on this kernel: it must say so, in one line, and give up.
b=/bin/busybox
name=refusal::what_is_not_to_be_had_is_refused_in_one_line
expected=3
# As the tests do it: what is not so is expected.
[ -z "$TCP_CLOSE_TEST_BROKEN" ] || expected=0
echo "running 1 test"
$b timeout 60 /bin/tcp-close watch >/tmp/told 2>/tmp/said
status=$?
if [ "$status" = "$expected" ] && [ ! -s /tmp/told ] && [ "$($b wc -l </tmp/said)" = 1 ]; then
    echo "test $name ... ok"
    $b cat /tmp/said
    exit 0
fi
echo "test $name ... FAILED"
echo "failures:"
echo "it ended with status $status and said:"
$b cat /tmp/said
exit 1
