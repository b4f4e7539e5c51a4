package flow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/go-nfs-client/nfs"
	"golang.org/x/sys/unix"

	"rubus/cmd/rubus/e2e/harness"
	"rubus/images"
	"rubus/images/importer"
	"rubus/nfsexport/nfs3"
)

// smallDisk makes the site's state directory an ext4 of its own, with an image.
func (s *site) smallDisk(size int64) {
	s.t.Helper()
	disk := filepath.Join(s.dir, "disk")
	f, err := os.Create(disk)
	must(s.t, err)
	must(s.t, f.Truncate(size))
	must(s.t, f.Close())
	s.host.run(s.t, "mkfs.ext4", "-q", "-m", "0", disk)
	s.host.run(s.t, "mount", "-o", "loop", disk, s.state)
	store, err := images.Open(filepath.Join(s.state, "images"))
	must(s.t, err)
	_, _, err = importer.Import(s.t.Context(), store, "lab", tinyRoot(s.t, s.dir, "1"), importer.Options{Reserve: 1})
	must(s.t, err)
}

// free is what the site's disk has for all.
func (s *site) free() int64 {
	s.t.Helper()
	var st unix.Statfs_t
	must(s.t, unix.Statfs(s.state, &st))
	return int64(st.Bavail) * st.Bsize
}

// failedImport wants an import of so many bytes to be refused, and to leave nothing.
func (s *site) failedImport(size int) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "large")
	must(s.t, os.MkdirAll(dir, 0o755))
	must(s.t, os.WriteFile(filepath.Join(dir, "data"), []byte(strings.Repeat("rubus", size/5)), 0o644))
	defer os.RemoveAll(dir)
	before := s.free()
	s.refuses(1, []string{"not enough space", "are free where the store is"}, "image", "import", "large", dir)
	if after := s.free(); after < before-1<<20 {
		s.t.Errorf("an import that failed left %d bytes", before-after)
	}
	if out := s.must("image", "list", "--json"); strings.Contains(out, "large") {
		s.t.Errorf("an import that failed left an image: %s", out)
	}
}

// Three boards on a small disk: the first fills its quota and is refused more, across
// a kill of the daemon; the second writes on; an import for which there is no room
// leaves nothing; the third boots. A new limit holds at once.
func TestQuotas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.smallDisk(320 << 20)
	s.write("rubus.yaml", "reserve: 64MiB\n")
	const mib = 1 << 20
	quota := func(ofA string) {
		lines := deviceLines("serial: "+serialA+ofA, "serial: "+serialB, "serial: "+serialC)
		s.devices(strings.Replace(lines, "{image: lab}", "{image: lab, quota: 96MiB}", 1))
	}
	quota("")
	s.router(onePool)
	d := s.serve()
	a, b, c := s.newBoard("4b", serialA, macA), s.newBoard("4b", serialB, macB), s.newBoard("4b", serialC, macC)
	booted := map[*board]string{a: a.boot("10.77.0.20").Cmdline, b: b.boot("10.77.0.21").Cmdline}
	reconnect := func() {
		for board, cmdline := range booted {
			root, err := board.mount(hostAddr, nfsroot.FindStringSubmatch(cmdline)[2])
			must(t, err)
			board.root = root
		}
	}
	must(t, a.write("etc/mine", "written by A"))

	chunk := strings.Repeat("rubus", mib/5)
	n := 0
	fill := func(until int) (err error) {
		for ; err == nil && n < until; n++ {
			err = a.write(fmt.Sprintf("fill-%d", n), chunk)
		}
		return err
	}
	must(t, fill(50))
	d.Kill()
	d.Start()
	reconnect()
	if err := fill(200); !isQuota(err) {
		t.Fatalf("the board filled its quota and got %v, not NFS3ERR_DQUOT", err)
	}
	if n < 92 || n > 97 {
		t.Errorf("%d MiB went into a quota of 96", n)
	}
	must(t, d.Said(0, "level=WARN", "the board's quota is used up"))
	must(t, a.has("etc/mine", "written by A"))
	must(t, a.has("fill-7", chunk))
	q := s.board(serialA).Quota
	if q == nil || !q.Full || q.LimitBytes != 96*mib || q.UsedBytes > 96*mib || q.UsedBytes < 90*mib || q.Way != "server" {
		t.Errorf("the board's quota is told as %+v", q)
	}
	for _, show := range [][]string{{"status"}, {"device", "show", serialA}} {
		if out := s.must(show...); !strings.Contains(out, " of 96.0 MiB: used up") {
			t.Errorf("%v does not tell of the quota:\n%s", show, out)
		}
	}

	// Another board has its own.
	for i := range 60 {
		must(t, b.write(fmt.Sprintf("fill-%d", i), chunk))
	}
	s.failedImport(int(s.free()) - 30*mib)
	c.boot("10.77.0.22")
	must(t, c.write("etc/mine", "written by C"))
	if r := s.record(serialC); !r.Up || r.Address.String() != "10.77.0.22" {
		t.Errorf("device.json of the third board: up %v, address %s", r.Up, r.Address)
	}

	// What is given back can be used.
	must(t, a.root.Remove("fill-0"))
	must(t, a.write("etc/mine", "A again"))
	// More room, at once; then less than it has: it can still remove.
	quota(", quota: 110M")
	s.must("reload")
	n = 200
	must(t, fill(204))
	quota(", quota: 20M")
	s.must("reload")
	if err := fill(205); !isQuota(err) {
		t.Errorf("above a lower limit a write gets %v, not NFS3ERR_DQUOT", err)
	}
	must(t, b.write("etc/mine", "B"))
	for i := range 205 {
		_ = a.root.Remove(fmt.Sprintf("fill-%d", i)) // some are not there
	}
	must(t, a.write("etc/less", "A with less"))
	must(t, a.has("etc/less", "A with less"))
	if q := s.board(serialA).Quota; q == nil || q.Full || q.UsedBytes > mib {
		t.Errorf("the board has removed nearly all; its quota is told as %+v", q)
	}
	// The daemon's counts are the disk's.
	d.Stop()
	d.Start()
	harness.Until(t, 10*time.Second, "the quotas are counted", func() error {
		for _, serial := range []string{serialA, serialB, serialC} {
			if q := s.board(serial).Quota; q == nil || q.Counting {
				return fmt.Errorf("%s: %+v", serial, q)
			}
		}
		return nil
	})
	if q := s.board(serialB).Quota; q.UsedBytes < 60*mib || q.UsedBytes > 61*mib {
		t.Errorf("the second board's quota is told as %+v", q)
	}
}

func isQuota(err error) bool {
	var e *nfs.Error
	return errors.As(err, &e) && e.ErrorNum == uint32(nfs3.ErrDQuot)
}
