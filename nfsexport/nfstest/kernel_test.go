package nfstest_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs"
	"rubus/nfsexport/mount3"
	"rubus/nfsexport/nfstest"
	"rubus/nfsexport/unfsd"
)

// The network between the server, this process, and the machine with the
// client kernel.
const (
	serverAddr = "198.18.7.1"
	clientAddr = "198.18.7.2"
	tap        = "nfstest0"
	exportPath = "/5b154510"
)

func sh(t testing.TB, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// serve serves an overlay as a board's root and gives the overlay.
func serve(t testing.TB) *nfstest.Overlay {
	t.Helper()
	sh(t, "ip link set lo up; ip tuntap add dev "+tap+" mode tap; ip addr add "+serverAddr+"/24 dev "+tap+"; ip link set "+tap+" up")
	t.Cleanup(func() { exec.Command("ip", "link", "del", tap).Run() })
	ov := nfstest.NewOverlay(t, t.TempDir(), nil)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	fs, err := handlefs.New(handlefs.Options{Key: [32]byte{7}, Seed: uint64(time.Now().UnixNano()), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	x := nfsexport.Export{
		ID: 0x5b1545100badcafe, Name: "5b154510", Path: exportPath, Dir: ov.Root, State: nfsexport.Ready,
		Client: netip.MustParseAddr(clientAddr), Activity: new(nfsexport.Activity),
	}
	if err := fs.Publish(x); err != nil {
		t.Fatal(err)
	}
	b := unfsd.New(unfsd.Config{
		Store: fs, Addrs: []netip.Addr{netip.MustParseAddr(serverAddr)}, Log: log,
		Mounter: mount3.MounterFunc(func(_ context.Context, path string, _ netip.AddrPort) ([]byte, mount3.Status) {
			if path != exportPath {
				return nil, mount3.ErrNoEnt
			}
			h, err := fs.RootHandle(x.ID)
			if err != nil {
				return nil, mount3.ErrServerFault
			}
			return h, mount3.OK
		}),
	})
	if err := b.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
		ov.Unmount(t)
	})
	return ov
}

// guest runs a script in a machine with a Linux 6.1 client, where the export is
// mounted at /mnt, and gives its output.
func guest(t testing.TB, options, script string) (string, error) {
	t.Helper()
	uml, err := filepath.Abs("../../scripts/uml")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mount := "mount -i -t nfs -o addr=" + serverAddr + ",vers=3,proto=tcp,nolock,mountproto=tcp" + options + " " + serverAddr + ":" + exportPath + " /mnt\n"
	cmd := exec.Command(uml, "run", "--tap", tap, "--ip", clientAddr+"/24", "--mac", "02:00:00:00:07:02", "--timeout", "580",
		"--share", filepath.Dir(self), // this machine's /tmp is not the guest's
		"--", "sh", "-ec", mount+script)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	return string(out), err
}

// TestKernelClient runs the suite through a Linux kernel's NFS client.
func TestKernelClient(t *testing.T) {
	serve(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := guest(t, "", "umask 0; "+self+" -test.run='^TestMounted$' -test.v -dir /mnt")
	if err != nil {
		var failed []string
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "--- PASS") && !strings.Contains(line, "=== RUN") {
				failed = append(failed, line)
			}
		}
		t.Errorf("in the guest: %v\n%s", err, strings.Join(failed, ""))
	}
	t.Logf("%d checks passed", strings.Count(out, "--- PASS"))
}
