package nfstest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/nfsexport/nfstest"
)

// buildSuite builds the suite for a guest into dir. It is built anew: the race
// detector of this binary wants more memory than the guest has.
func buildSuite(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "suite")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the suite: %v\n%s", err, out)
	}
	return path
}

// wireNames are the checks of the wire.
func wireNames() (names []string) {
	for _, c := range wireChecks() {
		names = append(names, "wire/"+c.name)
	}
	return names
}

// results reads what the suites printed: which of some checks passed and failed.
func results(out string, checks []string) map[string]bool {
	known := map[string]string{} // as go test prints it
	for _, name := range checks {
		known[strings.ReplaceAll(name, " ", "_")] = name
	}
	got := map[string]bool{}
	for line := range strings.Lines(out) {
		verdict, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		_, rest, _ = strings.Cut(rest, "/") // the name of the test
		printed, _, _ := strings.Cut(rest, " (")
		name, ok := known[printed]
		switch {
		case !ok:
		case verdict == "--- PASS":
			got[name] = true
		case verdict == "--- FAIL":
			got[name] = false
		}
	}
	return got
}

// judge compares what the suites printed about some checks with the list of
// differences.
func judge(t *testing.T, target, out string, checks []string) {
	t.Helper()
	got, want := results(out, checks), expected(target)
	passed := 0
	bad := false
	for _, name := range checks {
		ok, ran := got[name]
		switch {
		case !ran:
			t.Errorf("%q has not run", name)
		case ok && want[name]:
			t.Errorf("%q passes, but the list of differences says that it fails", name)
		case !ok && !want[name]:
			t.Errorf("%q fails, and the list of differences does not say so", name)
		case ok:
			passed++
			continue
		default:
			continue
		}
		bad = true
	}
	t.Logf("%s: %d checks, %d passed, %d failed as listed", target, len(got), passed, len(want))
	if bad {
		t.Logf("the suite said:\n%s", strings.Join(notable(out), ""))
	}
}

// notable are the lines of go test -v that are not about what passes.
func notable(out string) (lines []string) {
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "--- PASS") && !strings.Contains(line, "=== ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestKernelClient runs the suite on our server through a Linux kernel's NFS
// client.
func TestKernelClient(t *testing.T) {
	s := serve(t, nfstest.Golden(t))
	dir := t.TempDir()
	suite := buildSuite(t, dir)
	ask, done := filepath.Join(dir, "restart"), filepath.Join(dir, "restarted")
	restarted := make(chan error, 1)
	go func() {
		for t.Context().Err() == nil {
			if _, err := os.Stat(ask); err != nil {
				time.Sleep(50 * time.Millisecond) // the other machine has no other way to ask
				continue
			}
			s.stop()
			restarted <- s.start()
			_ = os.WriteFile(done, nil, 0o644)
			return
		}
	}()
	out, _ := guest(t, "", fmt.Sprintf("umask 0; %s -test.run='^TestMounted$' -test.v -dir /mnt -restart 'touch %s; until [ -e %s ]; do sleep 0.1; done'",
		suite, ask, done), dir)
	select {
	case err := <-restarted:
		if err != nil {
			t.Errorf("starting the server again: %v", err)
		}
	default:
		t.Error("the server was not restarted")
	}
	judge(t, rubus, out, nfstest.CheckNames())
}

// TestKernelServer runs the suite on the Linux kernel's NFS server over an
// overlay, which package knfsd exports, through the kernel's client on the same machine.
func TestKernelServer(t *testing.T) {
	out := elsewhere(t, "kernel", "-wire 127.0.0.1 -export /mnt/ov", `
"$scripts/nfsd-serve" "$tools"
env="PATH=$tools/usr/sbin:$tools/sbin:$PATH LD_LIBRARY_PATH=$(echo "$tools"/usr/lib/*-linux-gnu)"
env $env "$suite" -test.run='^TestPublish$' -dir /mnt/ov -publish /mnt/ov
grep fsid=72756275 /etc/exports.d/rubus.exports
restart="
	export $env
	rpc.nfsd 0
	rpc.nfsd --no-nfs-version 4 8"
`)
	judge(t, nfsd, out, append(nfstest.CheckNames(), wireNames()...))
	if !strings.Contains(out, "--- PASS: TestLoad ") {
		t.Errorf("the benchmarks' load is not answered:\n%s", strings.Join(notable(out), ""))
	}
}

// TestGanesha runs the suite on nfs-ganesha, as TestKernelServer does; it takes
// two minutes, so scripts/test asks for it with --long only. The checks of the wire are left out: one of them, COMMIT of a fifo,
// is not answered.
func TestGanesha(t *testing.T) {
	out := elsewhere(t, "ganesha", "", `
cp -an "$tools/usr" "$tools/etc" / # it wants its files where the packages have them
cp -an "$tools/sbin/." /usr/sbin/
echo '_rpc:x:498:65534::/run/rpcbind:/usr/sbin/nologin' >>/etc/passwd
mkdir -p /run/rpcbind /run/ganesha /var/lib/nfs/ganesha
rpcbind -w
cat >/tmp/ganesha.conf <<'CONF'
NFS_CORE_PARAM { Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }
EXPORT { Export_Id = 101; Path = /mnt/ov; Pseudo = /ov; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; FSAL { Name = VFS; } }
CONF
LD_LIBRARY_PATH=/usr/lib/ganesha ganesha.nfsd -f /tmp/ganesha.conf -L /tmp/ganesha.log -p /run/ganesha.pid
until grep -q "NFS SERVER INITIALIZED" /tmp/ganesha.log; do
	[ "$((n += 1))" -lt 300 ] || { cat /tmp/ganesha.log; exit 1; }
	sleep 0.1
done
restart=true # there is none
`)
	judge(t, ganesha, out, nfstest.CheckNames())
}

// elsewhere runs the suite on another server, in a machine that is server and
// client; with flags also the checks of the wire. The server's script exports
// /mnt/ov with MOUNT on port 20048, finds its programs, those of scripts/peer-tools,
// in $tools, and says in $restart how it is restarted.
func elsewhere(t *testing.T, programs, wire, server string) string {
	t.Helper()
	dir := t.TempDir()
	suite := buildSuite(t, dir)
	scripts, err := filepath.Abs("../../scripts")
	if err != nil {
		t.Fatal(err)
	}
	nfstest.Golden(t)(filepath.Join(dir, "lower"))
	cmd := exec.Command(scripts+"/peer-tools", programs)
	cmd.Stderr = t.Output()
	tools, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 2<<30); err != nil {
		t.Fatal(err)
	}
	out, _ := boot(t, fmt.Sprintf("share=%s suite=%s scripts=%s wire='%s' tools=%s", dir, suite, scripts, wire, tools)+`
mkdir -p /mnt/disk/upper /mnt/disk/work /mnt/ov /mnt/root
cd /mnt/disk
cp -a "$share/lower" lower
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work,nfs_export=on,index=on,nosuid,nodev /mnt/ov
`+server+`
mount -i -t nfs -o addr=127.0.0.1,vers=3,proto=tcp,nolock,port=2049,mountproto=tcp,mountport=20048 127.0.0.1:/mnt/ov /mnt/root
umask 0
"$suite" -test.run="^(TestMounted${wire:+|TestWire|TestLoad})$" -test.v -dir /mnt/root -restart "$restart" $wire
`, "--share", dir, "--share", scripts, "--ubd", disk, "--mount", "/mnt/disk")
	return out
}
