package nfstest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
	localAddr  = "127.85.83.2" // where the server is for clients in this process
)

func sh(t testing.TB, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// server is rubus's NFS server in this process, for one overlay.
type server struct {
	ov    *nfstest.Overlay
	addr  netip.Addr
	peer  netip.Addr // who may call
	log   *slog.Logger
	cache string // the file of the duplicate requests
	quota nfsexport.Quota
	stop  func()
}

// export is the board's root.
func (s *server) export() nfsexport.Export {
	return nfsexport.Export{
		ID: 0x5b1545100badcafe, Name: "5b154510", Path: exportPath, Dir: s.ov.Root, Upper: s.ov.Upper, State: nfsexport.Ready,
		Client: s.peer, Activity: new(nfsexport.Activity), Quota: &s.quota, Index: s.ov.Work + "/index", Layers: []string{s.ov.Lower},
	}
}

// serve serves an overlay as the root of the board at the tap, until the test ends.
func serve(t testing.TB, fill func(lower string)) *server {
	t.Helper()
	sh(t, "ip link set lo up; ip tuntap add dev "+tap+" mode tap; ip addr add "+serverAddr+"/24 dev "+tap+"; ip link set "+tap+" up")
	t.Cleanup(func() { exec.Command("ip", "link", "del", tap).Run() })
	return serveAt(t, serverAddr, clientAddr, fill)
}

// serveLocal is serve for clients in this process.
func serveLocal(t testing.TB, fill func(lower string)) *server {
	t.Helper()
	sh(t, "ip link set lo up")
	return serveAt(t, localAddr, "127.0.0.1", fill)
}

func serveAt(t testing.TB, addr, peer string, fill func(lower string)) *server {
	t.Helper()
	s := &server{
		ov:    nfstest.NewOverlay(t, t.TempDir(), fill),
		addr:  netip.MustParseAddr(addr),
		peer:  netip.MustParseAddr(peer),
		log:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		cache: filepath.Join(t.TempDir(), "drc"),
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop()
		s.ov.Unmount(t)
	})
	return s
}

// start starts the server, with nothing in memory of one before.
func (s *server) start() error {
	fs, err := handlefs.New(handlefs.Options{Key: [32]byte{7}, Seed: uint64(time.Now().UnixNano()), Logger: s.log})
	if err != nil {
		return err
	}
	x := s.export()
	if err := fs.Publish(x); err != nil {
		return err
	}
	b := unfsd.New(unfsd.Config{
		Store: fs, Addrs: []netip.Addr{s.addr}, Log: s.log, CachePath: s.cache,
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
	if err := b.Listen(context.Background()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	s.stop = func() {
		cancel()
		if err := errors.Join(<-done, fs.Close()); err != nil {
			s.log.Error("stopping the server", "err", err)
		}
	}
	return nil
}

// boot runs a script in a machine with Linux 6.1, and gives its output.
func boot(t *testing.T, script string, options ...string) (string, error) {
	t.Helper()
	uml, err := filepath.Abs("../../scripts/uml")
	if err != nil {
		t.Fatal(err)
	}
	limit := 10 * time.Minute
	if end, ok := t.Deadline(); ok {
		limit = time.Until(end) - 10*time.Second
	}
	args := append([]string{"run", "--timeout", fmt.Sprint(int(limit.Seconds()))}, options...)
	cmd := exec.Command(uml, append(args, "--", "sh", "-ec", script)...)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	return string(out), err
}

// guest is boot where the server's export is mounted at /mnt. The directories
// to share are seen there too: this machine's /tmp is not the guest's.
func guest(t *testing.T, options, script string, share ...string) (string, error) {
	t.Helper()
	mount := "mount -i -t nfs -o addr=" + serverAddr + ",vers=3,proto=tcp,nolock,mountproto=tcp" + options + " " + serverAddr + ":" + exportPath + " /mnt\n"
	args := []string{"--tap", tap, "--ip", clientAddr + "/24", "--mac", "02:00:00:00:07:02"}
	for _, dir := range share {
		args = append(args, "--share", dir)
	}
	return boot(t, mount+script, args...)
}

// everyday is what programs do on a root file system: a client kernel's caches,
// locks on names and memory maps are in it.
const everyday = `
cd /mnt
say() { echo "everyday: $*"; }
say tar
mkdir src
tar -C "$GOROOT/src" -cf - net os sort | tar -C src -xpf -
for d in net os sort; do diff -r "$GOROOT/src/$d" "src/$d"; done
test "$(find src -type f | wc -l)" = "$(cd "$GOROOT/src" && find net os sort -type f | wc -l)"
say git
export HOME=/tmp GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q repo && cp -a src/os src/sort repo/
(cd repo && git add -A && git commit -q -m one && git mv sort gone && git commit -q -m two && git gc -q)
git clone -q --no-hardlinks repo clone
(cd clone && git fsck --full --strict && test -z "$(git status --porcelain)" && git checkout -q HEAD~1 && diff -r sort ../src/sort)
say copies, links and nodes
cp -a src/sort copy && ln copy/sort.go copy/hard && ln -s sort.go copy/soft
mknod copy/null c 1 3 && mkfifo copy/fifo
cp -a copy copy2
test "$(stat -c %h copy2/hard)" = 2 && cmp copy2/soft src/sort/sort.go
test "$(stat -c '%t %T %F' copy2/null)" = "1 3 character special file"
rsync -aH --checksum copy/ copy3/ 2>/dev/null || cp -a copy copy3
say big files
dd if=/dev/urandom of=/tmp/random bs=1M count=16 status=none
dd if=/tmp/random of=big bs=128k conv=fsync status=none && cmp /tmp/random big
dd if=/tmp/random of=big bs=4k seek=1 skip=100 count=50 conv=notrunc oflag=dsync status=none
dd if=/tmp/random of=big bs=64k oflag=direct conv=notrunc status=none && cmp /tmp/random big
truncate -s 5G hole && printf end >>hole && test "$(tail -c 3 hole)" = end && test "$(stat -c %s hole)" = 5368709123
say appends
for i in 1 2 3 4; do (for j in $(seq 100); do echo "line $i $j" >>"log$i"; done) & done; wait
for i in 1 2 3 4; do test "$(wc -l <"log$i")" = 100; done
say in place
sed -i s/package/PACKAGE/ copy/sort.go && grep -q PACKAGE copy/sort.go
flock lock true
exec 7>deleted && rm deleted && echo alive >&7 && test "$(cat /proc/self/fd/7)" = alive && exec 7>&-
say memory map
python3 - <<'PY'
import mmap, os
f = open("map", "w+b"); f.truncate(1 << 20)
m = mmap.mmap(f.fileno(), 0); m[4096:4100] = b"mmap"; m[-3:] = b"end"; m.flush(); m.close(); f.close()
b = open("map", "rb").read()
assert len(b) == 1 << 20 and b[4096:4100] == b"mmap" and b[-3:] == b"end" and b.count(0) == len(b) - 7
PY
say programs
cp /bin/true ./prog && chmod 711 prog && setpriv --reuid 1234 --regid 1234 --clear-groups ./prog
say other users
mkdir -m 1777 tmp && setpriv --reuid 1234 --regid 1234 --clear-groups sh -ec 'cd tmp && echo x >f && chmod 444 f && mv f g && test "$(stat -c %u g)" = 1234'
! setpriv --reuid 1235 --regid 1235 --clear-groups rm -f tmp/g 2>/dev/null
say remove
rm -rf src repo clone copy copy2 copy3 tmp big hole log? lock map prog
test -z "$(ls -A)"
say done
`

var guestFlag = flag.String("guest", "", "run this script where our root is mounted at /mnt, for suites of others")

// TestGuest does on our root, through the client kernel, what people and programs do; with
// -guest it runs that instead. What is to be reached there must not lie in /tmp, /run or /mnt.
func TestGuest(t *testing.T) {
	s := serve(t, nil)
	if *guestFlag != "" {
		out, err := guest(t, "", *guestFlag)
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output() // a source tree that is always there
	if err != nil {
		t.Fatal(err)
	}
	out, err := guest(t, "", "export GOROOT="+string(goroot)+everyday)
	if err != nil || !strings.HasSuffix(out, "everyday: done\n") {
		t.Errorf("in the guest: %v\n%s", err, out)
	}
	if left, err := os.ReadDir(s.ov.Root); err != nil || len(left) != 0 {
		t.Errorf("%d names are left, %v", len(left), err)
	}
}
