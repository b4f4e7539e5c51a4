package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"rubus/nfsexport/nfs3"
	"rubus/nfsexport/nfsload"
)

// operation is one kind of call, measured.
type operation struct {
	name string
	load nfsload.Load
	// paced are other calls, for a paced load; nil: the same.
	paced *nfsload.Load
	// data is the file data that one call moves; units what one call counts
	// as (the entries of a listing; else 0: it is one).
	data  int
	units float64
	// file is how much of the answer a responder sends from a file.
	file int
	// writers are others that write meanwhile, each on a connection of its own (writers.go).
	writers *nfsload.Load
}

const (
	kib = 1 << 10
	// madeFiles is how many files each connection makes and removes, pacedFiles how
	// many more for the paced load.
	madeFiles, pacedFiles = 4000, 1000
)

func names() []string {
	return []string{
		"NULL", "GETATTR", "ACCESS", "LOOKUP", "READ-4K", "READ-128K", "READ-1M",
		"WRITE-4K", "WRITE-128K", "CREATE", "REMOVE", "LIST-ONCE", "LIST-NEXT", "LIST",
	}
}

// operations makes all calls of a run; next is the root of another board.
func operations(c *nfsload.Conn, root, next nfsload.Handle, conns int) ([]operation, error) {
	var files []nfsload.Handle
	handles := map[string]nfsload.Handle{}
	walk := []string{"etc", "list", "big"}
	for i := range 2 * listedOnce {
		walk = append(walk, onceDir(i))
	}
	for i := range conns {
		walk = append(walk, madeDir(i), madeDir(i)+"/written")
	}
	for i := range smallFiles {
		walk = append(walk, "etc/"+small(i))
	}
	for i := range mostWriters() {
		walk = append(walk, syncedFile(i))
	}
	for _, name := range walk {
		h, err := c.Walk(root, name)
		if err != nil {
			return nil, err
		}
		if handles[name] = h; len(name) > 4 && name[:4] == "etc/" {
			files = append(files, h)
		}
	}
	each := func(f func(i int) nfsload.Call) [][]nfsload.Call {
		var calls []nfsload.Call
		for i := range smallFiles {
			calls = append(calls, f(i))
		}
		return [][]nfsload.Call{calls}
	}
	ops := []operation{
		{name: "NULL", load: nfsload.Load{Calls: each(func(int) nfsload.Call { return nfsload.NFS(nfs3.ProcNull, nil) })}},
		{name: "GETATTR", load: nfsload.Load{Calls: each(func(i int) nfsload.Call { return nfsload.GetAttr(files[i]) })}},
		{name: "ACCESS", load: nfsload.Load{Calls: each(func(i int) nfsload.Call { return nfsload.Access(files[i]) })}},
		{name: "LOOKUP", load: nfsload.Load{Calls: each(func(i int) nfsload.Call { return nfsload.Lookup(handles["etc"], small(i)) })}},
	}
	ops = append(ops,
		reading("READ-4K", handles["big"], 4*kib, 512), reading("READ-128K", handles["big"], 128*kib, 512), reading("READ-1M", handles["big"], 1024*kib, 64))
	// Each connection writes to a file of its own, as boards do.
	var written []nfsload.Handle
	for i := range conns {
		written = append(written, handles[madeDir(i)+"/written"])
	}
	ops = append(ops, writing("WRITE-4K", written, 4*kib, 256), writing("WRITE-128K", written, 128*kib, 32))
	create, remove := onceOnly("CREATE", conns), onceOnly("REMOVE", conns)
	for i := range conns {
		dir := handles[madeDir(i)]
		for n := range madeFiles {
			name := fmt.Sprintf("new-%05d", n)
			create.load.Calls[i] = append(create.load.Calls[i], nfsload.Create(dir, name))
			remove.load.Calls[i] = append(remove.load.Calls[i], nfsload.Remove(dir, name))
		}
		for n := range pacedFiles {
			name := fmt.Sprintf("paced-%05d", n)
			create.paced.Calls[i] = append(create.paced.Calls[i], nfsload.Create(dir, name))
			remove.paced.Calls[i] = append(remove.paced.Calls[i], nfsload.Remove(dir, name))
		}
	}
	once, nextOnce := listingOnce("LIST-ONCE", conns), listingOnce("LIST-NEXT", conns)
	for i := range 2 * listedOnce {
		h, err := c.Walk(next, onceDir(i))
		if err != nil {
			return nil, err
		}
		once.addListing(i, handles[onceDir(i)])
		nextOnce.addListing(i, h)
	}
	list, entries, err := c.List(handles["list"], 8*kib, 32*kib)
	if err != nil {
		return nil, err
	}
	var synced []nfsload.Handle
	for i := range mostWriters() {
		synced = append(synced, handles[syncedFile(i)])
	}
	beside := besideWriters(ops, synced)
	ops = append(ops, create, remove, once, nextOnce, operation{
		name: "LIST", load: nfsload.Load{Calls: [][]nfsload.Call{list}},
		units: float64(entries) / float64(len(list)),
	})
	return append(ops, beside...), nil
}

// onceOnly is an operation whose calls can be made once only.
func onceOnly(name string, conns int) operation {
	calls := func() nfsload.Load { return nfsload.Load{Calls: make([][]nfsload.Call, conns), Once: true} }
	paced := calls()
	return operation{name: name, load: calls(), paced: &paced}
}

// listingOnce lists directories that are listed once.
func listingOnce(name string, conns int) operation {
	op := onceOnly(name, conns)
	op.units = onceEntries
	return op
}

// addListing adds the i-th of them. It is asked for as a Linux client does; one answer holds
// such a directory whole.
func (op *operation) addListing(i int, dir nfsload.Handle) {
	l := &op.load
	if i >= listedOnce {
		l = op.paced
	}
	conn := i % len(l.Calls)
	l.Calls[conn] = append(l.Calls[conn], nfsload.ReadDirPlus(dir, 0, 0, 8*kib, 32*kib))
}

// reading reads size bytes at n places.
func reading(name string, h nfsload.Handle, size, n int) operation {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	var calls []nfsload.Call
	for _, at := range r.Perm(bigFile / size)[:n] {
		calls = append(calls, nfsload.Read(h, uint64(at)*uint64(size), size))
	}
	check := func(r *nfsload.Reply) error {
		// Status, attributes, count (RFC 1813 section 3.3.6).
		const attrs = 4 + 4 + 84
		if !r.Accepted || r.Status() != 0 || len(r.Results) < attrs+4 || binary.BigEndian.Uint32(r.Results[attrs:]) != uint32(size) {
			return errors.New("READ failed, or gave less than it was asked for")
		}
		return nil
	}
	return operation{name: name, load: nfsload.Load{Calls: [][]nfsload.Call{calls}, Check: check}, data: size, file: size}
}

// writing writes size bytes at n places of each file.
func writing(name string, files []nfsload.Handle, size, n int) operation {
	data := slices.Repeat([]byte("written!"), size/8)
	op := operation{name: name, data: size}
	for i, h := range files {
		r := rand.New(rand.NewPCG(uint64(2+i), uint64(size)))
		var calls []nfsload.Call
		for _, at := range r.Perm(writtenFile / size)[:n] {
			calls = append(calls, nfsload.Write(h, uint64(at)*uint64(size), data))
		}
		op.load.Calls = append(op.load.Calls, calls)
	}
	return op
}
