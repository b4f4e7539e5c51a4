package e2e

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"rubus/nfsexport/xdr"
)

// calls boots a board and has it mount its root, from where the test calls.
func (s *kernelServer) calls(b *board) (st *station, root []byte) {
	s.l.t.Helper()
	server, path := b.powerOn()
	st = s.l.station(b.mac.String(), b.os)
	st.server = server
	s.l.until(30*time.Second, "the board mounts its root", func() (err error) {
		var status uint32
		if status, root = st.mount(path); status != 0 {
			return fmt.Errorf("MNT %s: status %d", path, status)
		}
		return nil
	})
	return st, root
}

// makes makes a file.
func makes(t *testing.T, st *station, root []byte, name string) []byte {
	t.Helper()
	status, r := st.nfs(procCreate, root, func(w *xdr.Writer) {
		w.String(name)
		for range 7 { // UNCHECKED, and no attributes to set
			w.Uint32(0)
		}
	})
	if status != 0 {
		t.Fatalf("CREATE: status %d", status)
	}
	if !r.Bool() {
		t.Fatal("CREATE gives no handle")
	}
	return r.Opaque(64)
}

// forgery boots a board that makes itself the handle of a file which is another's,
// and wants it to be taken, or refused.
func forgery(t *testing.T, s *kernelServer, victim, thief *board, taken bool) {
	t.Helper()
	st, root := s.calls(thief)
	defer st.close()
	own := makes(t, st, root, fmt.Sprintf("own-%v", taken)) // shows what a handle looks like
	slots := s.record(victim).Slots
	secret := fmt.Sprintf("/mnt/disk/devices/%s/uppers/%s.%d/upper/home/secret", victim.serial, slots[0].Base.ID, slots[0].N)
	for file, want := range map[string]string{secret: "secret of a board\n", "/mnt/disk/nfs.key": ""} {
		ino, err := strconv.ParseUint(strings.TrimSpace(s.m.all("stat -c %i "+file)), 10, 32)
		must(t, err)
		// The last 8 bytes of what the kernel makes on ext4 are the inode's number
		// and generation, and 0 is any generation.
		forged := append([]byte(nil), own...)
		binary.LittleEndian.PutUint32(forged[len(forged)-8:], uint32(ino))
		binary.LittleEndian.PutUint32(forged[len(forged)-4:], 0)
		status, _ := st.nfs(procRead, forged, func(w *xdr.Writer) { w.Uint64(0); w.Uint32(4096) })
		if !taken {
			const badHandle = 10001
			if status != badHandle {
				t.Errorf("our server is given a forged handle of %s and says %d, want %d", file, status, badHandle)
			}
			continue
		}
		if status != 0 {
			t.Errorf("the kernel's server refuses the forged handle of %s with %d: then docs/nfs-kernel.md is wrong about it", file, status)
			continue
		}
		if got := st.read(forged); want != "" && got != want {
			t.Errorf("%s by a forged handle: %q, want %q", file, got, want)
		}
	}
}
