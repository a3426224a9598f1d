package box

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMountedTwice: of a hierarchy of control groups that is mounted at several places one is taken, and none above which something else is mounted.
func TestMountedTwice(t *testing.T) {
	Start(t).Run("true") // else this is skipped
	mounts, err := groupMounts()
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	var places []string
	for i := range mounts {
		places = append(places, filepath.Join(again, strconv.Itoa(i+1)))
	}
	const bind = `set -eu
again=$1 count=$2
shift 2
n=0
while test $n -lt $count; do
	n=$((n + 1))
	mkdir -p "$again/$n"
	mount --bind "$1" "$again/$n"
	$COVER "$1"
	shift
done
exec "$@"
`
	in := func(how, cover string) (string, error) {
		before := []string{"unshare", "--mount", "--propagation", "private", "--", "sh", "-c", bind, "sh", again, strconv.Itoa(len(mounts))}
		cmd := childCommand(how, t.TempDir(), append(before, mounts...)...)
		cmd.Env = append(cmd.Env, "COVER="+cover)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := in("mounts", "true"); err != nil || !strings.Contains(out, "mounts "+strings.Join(mounts, " ")+"\n") {
		t.Errorf("mounted twice: %v\n%s", err, out)
	}
	if out, err := in("mounts", "mount -t tmpfs tmpfs"); err != nil || !strings.Contains(out, "mounts "+strings.Join(places, " ")+"\n") {
		t.Errorf("under another: %v\n%s", err, out)
	}
	if out, err := in("pass", "true"); err != nil || !strings.Contains(out, "child ") {
		t.Errorf("no box: %v\n%s", err, out)
	}
}
