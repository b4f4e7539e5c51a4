package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A version of sixty layers, as many as there may be, is mounted by Linux 6.1 too: the
// oldest kernel that rubus is for, by the only way that this one has.
func TestSixtyLayersOnOldKernel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 512<<20))
	at := filepath.Join(dir, "mnt")
	must(t, os.Mkdir(at, 0o755))
	script := fmt.Sprintf(`set -e
export RUBUS_STATE=%s/state RUBUS_CONFIG=%[1]s/none RUBUS_DEVICES=%[1]s/none
mkdir -p %[1]s/root/bin %[1]s/root/dev %[1]s/root/proc %[1]s/root/tmp
cp /bin/busybox %[1]s/root/bin/; ln -s busybox %[1]s/root/bin/sh
%[2]s image import lab %[1]s/root
i=1
while [ $i -lt 60 ]; do
    rm -rf %[1]s/more; mkdir %[1]s/more; echo $i >%[1]s/more/file$i; echo $i >%[1]s/more/last
    %[2]s image import lab %[1]s/more --base lab >/dev/null 2>&1
    i=$((i + 1))
done
uname -r
%[2]s image edit lab@60 -- sh -c 'cat /file1 /file59 /last; echo more >/more'
`, at, shared.Plain)
	cmd := exec.CommandContext(t.Context(), filepath.Join(shared.Scripts, "uml"), "run", "--timeout", "300", "--share", dir, "--share", shared.Dir,
		"--ubd", disk, "--mount", at, "--", "sh", "-c", script)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("61 layers were taken:\n%s", out)
	}
	// All sixty are seen; one more would be too many for a version.
	for _, want := range []string{"\n6.1.", "\n1\n59\n59\n", "61 layers are more than the 60"} {
		if !strings.Contains(strings.ReplaceAll(string(out), "\r", ""), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// A version for the Pi is edited on this machine: its own package manager runs.
func TestEditForThePi(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	env := append(os.Environ(), "RUBUS_STATE="+state, "RUBUS_CONFIG="+state+"/none", "RUBUS_DEVICES="+state+"/none")
	do := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-c", `. "$0/lib.sh"; register_arm64; exec "$@"`, shared.Scripts, shared.Rubus}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("rubus %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	do("image", "import", "pi", shared.Golden)
	out := do("image", "edit", "pi", "--", "sh", "-c", "dpkg --print-architecture; uname -m; dpkg --force-all -r nano")
	if !strings.Contains(out, "arm64\naarch64\n") || !strings.Contains(out, "pi@2: ") {
		t.Errorf("the edit says\n%s", out)
	}
	if out := do("image", "diff", "pi@1", "pi@2"); !strings.Contains(out, "removed    nano") {
		t.Errorf("the difference is\n%s", out)
	}
}
