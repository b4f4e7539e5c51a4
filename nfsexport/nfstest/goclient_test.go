package nfstest_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/go-nfs-client/nfs"
	"github.com/vmware/go-nfs-client/nfs/rpc"

	"rubus/nfsexport/nfstest"
)

// TestGoClient works on our root with another implementation of the protocol,
// and compares with what the overlay then holds.
func TestGoClient(t *testing.T) {
	s := serveLocal(t, nfstest.Golden(t))
	m, err := nfs.DialMount(localAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	v, err := m.Mount(exportPath, rpc.NewAuthUnix("board", 0, 0).Auth())
	if err != nil && strings.Contains(err.Error(), "ACCES") {
		// It takes its port at random from 0 to 1023, and 0 is any: refused, once in a thousand.
		v, err = m.Mount(exportPath, rpc.NewAuthUnix("board", 0, 0).Auth())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	_, err = v.Mkdir("/d", 0o750)
	must("mkdir", err)
	data := make([]byte, 3<<20+17)
	for i := range data {
		data[i] = byte(i * 13 >> 4)
	}
	f, err := v.OpenFile("/d/f", 0o640)
	must("create", err)
	for rest := data; len(rest) > 0; { // it writes what fits one call
		n, err := f.Write(rest)
		must("write", err)
		rest = rest[n:]
	}
	must("commit", f.Close())
	if got, err := os.ReadFile(filepath.Join(s.ov.Root, "d/f")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the overlay holds %d bytes of %d, or others, %v", len(got), len(data), err)
	}
	f, err = v.Open("/d/f")
	must("open", err)
	var got []byte
	for buf := make([]byte, 100_000); ; {
		n, err := f.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		must("read", err)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("read %d bytes of %d, or others", len(got), len(data))
	}
	if _, err := v.Mkdir("/d", 0o755); !os.IsExist(err) {
		t.Errorf("mkdir again: %v", err)
	}
	if _, _, err := v.Lookup("/d/none"); !os.IsNotExist(err) {
		t.Errorf("lookup of nothing: %v", err)
	}
	if err := v.RmDir("/d"); !nfs.IsNotEmptyError(err) {
		t.Errorf("rmdir of a full directory: %v", err)
	}
	for i := range 500 {
		_, err := v.Create(fmt.Sprintf("/golden/listed/new%03d", i), 0o644)
		must("create", err)
	}
	list, err := v.ReadDirPlus("/golden/listed")
	must("list", err)
	names := map[string]bool{}
	for _, e := range list {
		names[e.FileName] = true
	}
	if len(names) != 507 || len(list) != 507 || !names["golden4"] || !names["new499"] { // with . and ..
		t.Errorf("%d entries, %d names", len(list), len(names))
	}
	must("removing all", v.RemoveAll("/golden"))
	must("removing all", v.RemoveAll("/d"))
	if left, err := os.ReadDir(s.ov.Root); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	must("unmounting", m.Unmount())
}
