package nfstest_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"rubus/nfsexport/nfsload"
	"rubus/nfsexport/nfstest"
)

// TestLoad puts the benchmarks' load on our server, or on the one of -wire: it asks
// nothing that is ours alone, and each call is answered.
func TestLoad(t *testing.T) {
	addr, path := *wireFlag, *exportFlag
	if addr == "" {
		serveLocal(t, nfstest.Golden(t))
		addr, path = localAddr, exportPath
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dial := func(port string) *nfsload.Conn {
		c, err := nfsload.Dial(net.JoinHostPort(addr, port))
		must(err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	top, err := dial("20048").Mount(path)
	must(err)
	var conns []*nfsload.Conn
	for range 4 {
		conns = append(conns, dial("2049"))
	}
	_, err = conns[0].Do(nfsload.Create(top, "load"))
	must(err)
	file, err := conns[0].Walk(top, "load")
	must(err)
	const size, n = 16 << 10, 32 // no server takes less
	var writes, reads, creates, removes []nfsload.Call
	for i := range n {
		writes = append(writes, nfsload.Write(file, uint64(i*size), bytes.Repeat([]byte("load"), size/4)))
		reads = append(reads, nfsload.Read(file, uint64(i*size), size))
		creates = append(creates, nfsload.Create(top, fmt.Sprintf("load-%d", i)))
		removes = append(removes, nfsload.Remove(top, fmt.Sprintf("load-%d", i)))
	}
	list, entries, err := conns[0].List(top, 8<<10, 32<<10)
	must(err)
	if entries < 3 { // load, "." and ".."
		t.Errorf("%d entries are listed", entries)
	}
	for _, c := range []struct {
		name  string
		calls []nfsload.Call
		conns int
	}{
		{"NULL", []nfsload.Call{nfsload.NFS(0, nil)}, 4},
		{"GETATTR", []nfsload.Call{nfsload.GetAttr(file)}, 4},
		{"ACCESS", []nfsload.Call{nfsload.Access(file)}, 4},
		{"LOOKUP", []nfsload.Call{nfsload.Lookup(top, "load")}, 4},
		{"WRITE", writes, 4},
		{"COMMIT", []nfsload.Call{nfsload.Commit(file)}, 4},
		{"READ", reads, 4},
		{"CREATE", creates, 1},
		{"REMOVE", removes, 1},
		{"READDIRPLUS", list, 4},
	} {
		load := &nfsload.Load{Calls: [][]nfsload.Call{c.calls}, Once: true}
		if res, err := nfsload.Run(conns[:c.conns], 8, load, 0); err != nil || res.Calls != c.conns*len(c.calls) {
			t.Errorf("%s: %v, %+v", c.name, err, res)
		}
		if c.conns == 1 {
			continue // they can be made once
		}
		if res, err := nfsload.Pace(conns, 8, 2000, load, 0); err != nil || res.Calls != 4*len(c.calls) {
			t.Errorf("%s, paced: %v, %+v", c.name, err, res)
		}
	}
	if _, err := conns[0].Do(nfsload.Remove(top, "load")); err != nil {
		t.Error(err)
	}
}
